//! The harness of tests that need privilege, programs or features of the running kernel.
//!
//! Rust's own harness has no way to say at run time that a test cannot run: it would count as
//! passed, and the reason would be lost with its captured output. Here such a test returns a
//! [`Skip`]; it is reported as ignored, and the reasons follow the result, each once, with the
//! number of tests that it kept from running.
//!
//! A binary of tests is built without Rust's harness (`harness = false` in its `[[test]]`). Its
//! root, and a test in any of its modules, are written so:
//!
//! ```text
//! #[macro_use]
//! extern crate live_test; // Its #[test] takes the place of Rust's, in every module.
//!
//! fn main() -> std::process::ExitCode {
//!     live_test::main()
//! }
//!
//! #[test]
//! fn iproute2_shows_the_loopback_device() -> live_test::TestResult {
//!     live_test::require_program("ip")?;
//!     let shown = std::process::Command::new("ip").arg("link").output()?;
//!     assert!(String::from_utf8(shown.stdout)?.contains("lo:"));
//!     Ok(())
//! }
//! ```
//!
//! Tests run one at a time, in the order of their names: most of them compare what the whole host
//! counts with what they did. What they print is shown when they fail, or with `--nocapture`.
//! Attributes such as `#[should_panic]` and `#[ignore]` do not exist here.

#[cfg(unix)]
mod capture;
#[cfg(target_os = "linux")]
pub mod fault;
mod requirement;
mod summary;

use std::error::Error;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

#[doc(hidden)]
pub use inventory;
pub use live_test_macros::test;
pub use requirement::{REQUIRE_PRIVILEGE, Skip, require, require_program};
pub use summary::note;

/// What most tests return.
pub type TestResult = Result<(), Box<dyn Error>>;

/// A registered test.
#[doc(hidden)]
pub struct Test {
    /// With the path of its module, which begins with the binary's name.
    pub path: &'static str,
    pub run: fn() -> TestResult,
}

inventory::collect!(Test);

#[doc(hidden)]
#[macro_export]
macro_rules! register {
    ($name:ident) => {
        $crate::inventory::submit! {
            $crate::Test {
                path: ::core::concat!(::core::module_path!(), "::", ::core::stringify!($name)),
                run: || $crate::Returned::into_result($name()),
            }
        }
    };
}

/// What a test may return.
#[doc(hidden)]
pub trait Returned {
    /// The same as [`TestResult`].
    ///
    /// # Errors
    ///
    /// The test's.
    fn into_result(self) -> TestResult;
}

impl Returned for () {
    fn into_result(self) -> TestResult {
        Ok(())
    }
}

impl<E: Into<Box<dyn Error>>> Returned for Result<(), E> {
    fn into_result(self) -> TestResult {
        self.map_err(Into::into)
    }
}

/// Runs this binary's tests as its arguments say.
#[must_use]
pub fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Then a test is run by the thread that prints, and nothing else prints meanwhile.
    arguments.test_threads = Some(1);
    let mut tests: Vec<&Test> = inventory::iter::<Test>.into_iter().collect();
    tests.sort_by_key(|test| test.path);
    let capture = !arguments.nocapture;
    let trials = tests.into_iter().map(|test| {
        // As Rust's harness names them: without the binary's name.
        let name = test
            .path
            .split_once("::")
            .map_or(test.path, |(_, name)| name);
        let run = test.run;
        Trial::ignorable_test(name, move || run_one(name, run, capture))
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    summary::print();
    conclusion.exit_code()
}

fn run_one(
    name: &'static str,
    test: fn() -> TestResult,
    capture: bool,
) -> Result<Completion, Failed> {
    #[cfg(unix)]
    let captured = capture.then(capture::Capture::start);
    summary::begin(name);
    let result = panic::catch_unwind(AssertUnwindSafe(test));
    #[cfg(unix)]
    let printed = captured.map_or_else(String::new, capture::Capture::end);
    #[cfg(not(unix))]
    let printed = String::new();
    let failure = match result {
        Ok(Ok(())) => return Ok(Completion::Completed),
        Ok(Err(error)) => match error.downcast::<Skip>() {
            Ok(skip) if !skip.breaks_promise() => {
                summary::skipped(&skip);
                return Ok(Completion::ignored_with(skip));
            }
            Ok(skip) => {
                format!("cannot run, though {REQUIRE_PRIVILEGE}=1 promises that it can: {skip}")
            }
            Err(error) => format!("{error} ({error:?})"),
        },
        // The panic's message was printed where it happened.
        Err(_) => "panicked".to_owned(),
    };
    Err(Failed::from(format!("{printed}{failure}")))
}
