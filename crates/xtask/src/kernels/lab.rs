//! Boots a kernel in a virtual machine whose time counts instructions, and runs the lab there.
//!
//! qemu gives the one processor a nanosecond for each instruction (`-icount shift=0`), skips the time
//! in which there is nothing to do (`sleep=off`), and draws random numbers and the time of day from
//! what does not change. So what else the real machine has to do changes nothing, and the same
//! programs on the same kernel do the same again.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::archive::Archive;
use super::image;
use super::process;
use super::series::Series;
use super::{DIRECTORY, userland};

/// How long a guest may take for everything.
const TIMEOUT: Duration = Duration::from_secs(3600);

/// What the guest prints between what the lab prints, its results, and its exit code.
const RESULTS: &str = "@@RESULTS";
const CODE: &str = "@@CODE";

/// The programs that run in the guest.
pub(crate) struct Programs {
    pub(crate) lab: PathBuf,
    pub(crate) client: PathBuf,
    pub(crate) server: PathBuf,
}

/// What came of it.
pub(crate) struct Ended {
    pub(crate) code: u8,
    /// The lab's results, if it came so far.
    pub(crate) results: Option<String>,
}

/// Runs the lab with arguments of its own on the newest kernel of each series, all at once. What it
/// prints is shown as it comes. In the order of the series.
pub(crate) fn run(
    workspace: &Path,
    programs: &Programs,
    all: &[(String, Vec<String>)],
) -> Result<Vec<Ended>> {
    process::require_tools()?;
    let directory = workspace.join(DIRECTORY);
    fs::create_dir_all(&directory)?;
    let archive = Archive::open(&directory)?;
    let stripped = programs.strip(&directory.join("lab-programs"))?;
    let stripped: Vec<_> = stripped
        .iter()
        .map(|(name, path)| (*name, path.as_path()))
        .collect();
    let mut guests = Vec::new();
    for (name, arguments) in all {
        let series: Series = name.parse().map_err(anyhow::Error::msg)?;
        ensure!(
            series != Series::Live,
            "the running kernel has the lab without --vm"
        );
        let home = directory.join(name);
        let kernel = image::prepare(&home, &archive, &archive.newest(&series)?)?;
        let script = script(arguments);
        let initramfs = userland::lab(&directory, &kernel, &archive, &stripped, &script)?;
        // With several, each line names the guest that printed it.
        let prefix = match all {
            [_] => String::new(),
            _ => format!("{name}: "),
        };
        guests.push((home, kernel, initramfs, prefix));
    }
    thread::scope(|scope| {
        let guests = guests.iter().map(|(home, kernel, initramfs, prefix)| {
            scope.spawn(move || {
                let printed = boot(home, &kernel.image, initramfs, prefix)?;
                parse(&printed)
                    .with_context(|| format!("the guest's console is in {}", home.display()))
            })
        });
        let guests: Vec<_> = guests.collect();
        let ended = guests.into_iter().map(|guest| match guest.join() {
            Ok(ended) => ended,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        ended.collect()
    })
}

impl Programs {
    /// The same without what only debuggers want, in a directory.
    fn strip(&self, directory: &Path) -> Result<Vec<(&'static str, PathBuf)>> {
        fs::create_dir_all(directory)?;
        let programs = [
            ("xtask", &self.lab),
            ("client", &self.client),
            ("server", &self.server),
        ];
        let stripped = programs.into_iter().map(|(name, program)| {
            let path = directory.join(name);
            process::output(Command::new("strip").arg("-o").arg(&path).arg(program))?;
            Ok((name, path))
        });
        stripped.collect()
    }
}

/// What the guest does once its modules are loaded.
fn script(arguments: &[String]) -> String {
    let quoted: Vec<_> = arguments
        .iter()
        .map(|argument| format!("'{}'", argument.replace('\'', r"'\''")))
        .collect();
    format!(
        "xtask lab {} --programs /bin --out /tmp/lab\n\
         code=$?\n\
         echo {RESULTS}\n\
         busybox cat /tmp/lab/lab.json\n\
         echo\n\
         echo {CODE} $code\n",
        quoted.join(" ")
    )
}

/// Boots a kernel; what the guest printed.
fn boot(home: &Path, kernel: &Path, initramfs: &[u8], prefix: &str) -> Result<String> {
    let [image, console, results, messages] = [
        "lab-initramfs",
        "lab-console.log",
        "lab-results.log",
        "lab-qemu.log",
    ]
    .map(|name| home.join(name));
    fs::write(&image, initramfs)?;
    File::create(&results)?;
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", "tcg,thread=single", "-machine", "q35"])
        .args(["-cpu", "max,-cx16", "-smp", "1", "-m", "1024M"])
        .args(["-icount", "shift=0,sleep=off", "-seed", "1"])
        .args(["-rtc", "base=2025-01-01T00:00:00,clock=vm"])
        .args(["-nodefaults", "-no-reboot", "-display", "none"])
        .args(["-monitor", "none", "-net", "none"])
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .arg("-serial")
        .arg(format!("file:{}", results.display()))
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(&image)
        .args([
            "-append",
            "console=ttyS0 loglevel=5 panic=-1 net.ifnames=0 tsc=reliable clocksource=tsc nokaslr",
        ])
        .stdin(Stdio::null())
        .stdout(File::create(&messages)?)
        .stderr(Stdio::inherit());
    let mut shown = Shown::of(&results, prefix)?;
    let ended = process::run_watched(&mut qemu, TIMEOUT, || shown.more())?;
    shown.more()?;
    fs::remove_file(&image)?;
    let status =
        ended.with_context(|| format!("the guest was not done after {} s", TIMEOUT.as_secs()))?;
    ensure!(status.success(), "qemu: {status}");
    Ok(shown.text())
}

/// A file that grows, shown as far as the lab itself prints into it.
struct Shown<'a> {
    file: File,
    /// In front of each line.
    prefix: &'a str,
    read: Vec<u8>,
    shown: usize,
}

impl<'a> Shown<'a> {
    fn of(path: &Path, prefix: &'a str) -> Result<Self> {
        Ok(Self {
            prefix,
            file: File::open(path)?,
            read: Vec::new(),
            shown: 0,
        })
    }

    fn more(&mut self) -> Result<()> {
        self.file.read_to_end(&mut self.read)?;
        // Whole lines alone, so that none that is not for showing is shown in part.
        while let Some(length) = self.read[self.shown..]
            .iter()
            .position(|byte| *byte == b'\n')
        {
            let line = &self.read[self.shown..=self.shown + length];
            if line.starts_with(RESULTS.as_bytes()) {
                return Ok(());
            }
            let mut out = std::io::stderr().lock();
            out.write_all(self.prefix.as_bytes())?;
            out.write_all(line)?;
            self.shown += line.len();
        }
        Ok(())
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.read).replace('\r', "")
    }
}

fn parse(printed: &str) -> Result<Ended> {
    let (_, rest) = printed
        .split_once(RESULTS)
        .context("the lab did not end in the guest")?;
    let (results, code) = rest
        .split_once(CODE)
        .context("the lab's exit code is missing")?;
    let results = results.trim();
    Ok(Ended {
        code: code.trim().parse().context("the lab's exit code")?,
        results: (!results.is_empty()).then(|| results.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_and_exit_code_are_read_from_the_labs_output() {
        let ended = parse("a table\n@@RESULTS\n{\"a\":1}\n\n@@CODE 1\n").unwrap();
        assert_eq!(
            (ended.code, ended.results.as_deref()),
            (1, Some("{\"a\":1}"))
        );
        assert!(parse("@@RESULTS\n\n@@CODE 2\n").unwrap().results.is_none());
        assert!(parse("Kernel panic\n").is_err());
    }

    #[test]
    fn arguments_reach_the_guest_whole() {
        let script = script(&["local-queue".into(), "it's".into()]);
        assert!(script.contains(r"xtask lab 'local-queue' 'it'\''s' --programs"));
    }
}
