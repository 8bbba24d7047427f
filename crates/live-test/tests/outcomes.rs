//! How tests end in this harness, seen from outside: the binary runs itself.

#[macro_use]
extern crate live_test;

use std::env;
use std::process::{Command, ExitCode, Output};

use live_test::{REQUIRE_PRIVILEGE, Skip, TestResult};

/// Set where this binary runs itself, for tests whose outcome is checked from outside.
const INNER: &str = "LIVE_TEST_INNER";

fn main() -> ExitCode {
    live_test::main()
}

fn is_inner() -> bool {
    env::var_os(INNER).is_some()
}

fn run(filter: &str, promised: bool) -> std::io::Result<Output> {
    let mut command = Command::new(env::current_exe()?);
    command.args([filter, "--color", "never"]).env(INNER, "1");
    if promised {
        command.env(REQUIRE_PRIVILEGE, "1");
    } else {
        command.env_remove(REQUIRE_PRIVILEGE);
    }
    command.output()
}

mod inner {
    use super::{Skip, TestResult, is_inner};

    #[test]
    fn passes() {
        println!("printed by what passes");
    }

    #[test]
    fn lacks_a_privilege() -> Result<(), Skip> {
        live_test::require(is_inner().then_some("not root"))
    }

    #[test]
    fn lacks_a_program() -> TestResult {
        if is_inner() {
            live_test::require_program("no-such-program")?;
        }
        Ok(())
    }

    #[test]
    fn lacks_a_feature_of_the_kernel() -> TestResult {
        if is_inner() {
            return Err(Skip::new("too old\na kernel").into());
        }
        Ok(())
    }

    #[test]
    fn leaves_something_out() {
        if is_inner() {
            live_test::note("no names of reasons");
        }
    }

    #[test]
    fn panics() {
        println!("printed by what panics");
        assert!(!is_inner(), "the message of a panic");
    }

    #[test]
    fn returns_an_error() -> TestResult {
        if is_inner() {
            return Err("an error".into());
        }
        Ok(())
    }
}

#[test]
fn a_test_that_cannot_run_is_ignored_and_the_reason_is_in_the_summary() -> TestResult {
    let output = run("inner::l", false)?;
    let said = String::from_utf8(output.stdout)?;
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("test result: ok. 1 passed; 0 failed; 3 ignored;"),
        "{said}"
    );
    let (_, summary) = said.split_once("test result").ok_or("no result")?;
    for line in [
        "skipped 1 test: not root",
        "skipped 1 test: no program no-such-program: install no-such-program",
        "skipped 1 test: too old a kernel",
        "in part inner::leaves_something_out: no names of reasons",
    ] {
        assert!(summary.contains(line), "{line}: {summary}");
    }
    Ok(())
}

#[test]
fn a_promise_that_is_not_kept_is_a_failure() -> TestResult {
    let output = run("inner::lacks", true)?;
    let said = String::from_utf8(output.stdout)?;
    assert_eq!(output.status.code(), Some(101), "{said}");
    // No promise holds for what the kernel has.
    assert!(
        said.contains("FAILED. 0 passed; 2 failed; 1 ignored;"),
        "{said}"
    );
    assert!(said.contains("promises that it can: not root"), "{said}");
    Ok(())
}

#[test]
fn what_a_failed_test_printed_is_shown_and_what_a_passed_one_printed_is_not() -> TestResult {
    let output = run("inner::pa", false)?;
    let said = String::from_utf8(output.stdout)?;
    assert_eq!(output.status.code(), Some(101), "{said}");
    for (text, shown) in [
        ("printed by what panics", true),
        ("the message of a panic", true),
        ("printed by what passes", false),
    ] {
        assert_eq!(said.contains(text), shown, "{text}: {said}");
    }
    let said = String::from_utf8(run("inner::returns", false)?.stdout)?;
    assert!(said.contains("an error"), "{said}");
    Ok(())
}
