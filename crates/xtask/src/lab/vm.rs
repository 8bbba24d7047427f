//! The lab run in a virtual machine whose time counts instructions: the same program with the same
//! arguments, at a fifth of the rates.

use std::env;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::programs::Programs;
use super::{DIRECTORY, Options, document};
use crate::kernels;

/// By what rates, queues and bursts are multiplied there: an instruction takes a nanosecond, and
/// 10 Mbit/s occupy the processor for 4 to 29 % of the time.
const SCALE: &str = "0.2";

/// Options that are for this side of the virtual machine, and whether a value follows.
const OURS: [(&str, bool); 6] = [
    ("--vm", false),
    ("--deal", false),
    ("--json", false),
    ("--kernel", true),
    ("--out", true),
    ("--document", true),
];

/// Options of the guest's, unless they are given.
const GUESTS: [(&str, Option<&str>); 4] = [
    ("--netem", None),
    ("--unwatched", None),
    ("--scale", Some(SCALE)),
    ("--rounds", Some("1")),
];

/// Runs what the options say in the guest, and takes its results.
pub(super) fn run(workspace: &Path, options: &Options) -> Result<ExitCode> {
    let directory = match &options.out {
        Some(directory) => directory.clone(),
        None => workspace.join(DIRECTORY).join("vm"),
    };
    let file = |kernel: &String| directory.join(format!("{kernel}.json"));
    if let (true, Some(document)) = (options.names.is_empty(), &options.document) {
        let files: Vec<_> = options.kernel.iter().map(file).collect();
        document::write_kernels(&files, document)?;
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("building the examples");
    let programs = Programs::build(workspace)?;
    let programs = kernels::lab::Programs {
        lab: env::current_exe().context("finding this program's file")?,
        client: programs.client.into(),
        server: programs.server.into(),
    };
    let given = env::args().skip_while(|argument| argument != "lab").skip(1);
    let arguments = for_guest(given);
    let kernels = options.kernel.iter().enumerate();
    let guests = kernels.map(|(guest, kernel)| {
        let arguments = if options.deal {
            dealt(&arguments, &options.names, guest, options.kernel.len())
        } else {
            arguments.clone()
        };
        (kernel.clone(), arguments)
    });
    let guests: Vec<_> = guests.collect();
    let all = kernels::lab::run(workspace, &programs, &guests)?;
    fs::create_dir_all(&directory)?;
    let mut files = Vec::new();
    for (kernel, ended) in options.kernel.iter().zip(&all) {
        let Some(results) = &ended.results else {
            continue;
        };
        let file = file(kernel);
        fs::write(&file, results).with_context(|| format!("cannot write {}", file.display()))?;
        files.push(file);
        if options.json {
            examples::say!("{results}");
        }
    }
    if let Some(document) = &options.document {
        document::write_kernels(&files, document)?;
    }
    let code = all.iter().map(|ended| ended.code).max();
    Ok(ExitCode::from(code.unwrap_or_default()))
}

/// Arguments of the guest's lab.
fn for_guest(given: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut given = given.into_iter();
    while let Some(argument) = given.next() {
        let (name, value) = match argument.split_once('=') {
            Some((name, _)) => (name, true),
            None => (argument.as_str(), false),
        };
        match OURS.iter().find(|(ours, _)| *ours == name) {
            Some((_, follows)) => {
                if *follows && !value {
                    given.next();
                }
            }
            None => arguments.push(argument),
        }
    }
    for (name, value) in GUESTS {
        let is_it = |argument: &String| argument.split('=').next() == Some(name);
        if !arguments.iter().any(is_it) {
            arguments.push(name.to_owned());
            arguments.extend(value.map(str::to_owned));
        }
    }
    arguments
}

/// The arguments for one of several guests, without the names that are for the others.
fn dealt(arguments: &[String], names: &[String], guest: usize, guests: usize) -> Vec<String> {
    let is_anothers = |argument: &&String| {
        let place = names.iter().position(|name| name == *argument);
        place.is_some_and(|place| place % guests != guest)
    };
    let own = arguments.iter().filter(|argument| !is_anothers(argument));
    own.cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_dealt_in_turn() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (all, names) = (words("a b c --check"), words("a b c"));
        assert_eq!(dealt(&all, &names, 0, 2), words("a c --check"));
        assert_eq!(dealt(&all, &names, 1, 2), words("b --check"));
    }

    #[test]
    fn the_guest_gets_the_options_that_are_not_for_this_side() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let given = "--vm --kernel 6.1 fq --out=x --check --document a.md --seconds 4 --scale=0.1";
        assert_eq!(
            for_guest(words(given)),
            words("fq --check --seconds 4 --scale=0.1 --netem --unwatched --rounds 1")
        );
    }
}
