//! Runs the programs: in a virtual machine, or here.

use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::image::Kernel;
use super::outcome::{CAPABILITIES, ENDED, Outcome, RELEASE, SOCKET_TESTS, TESTS};
use super::process;
use super::programs::Programs;
use super::series::Variant;

/// What the tests need at most, busybox and all.
const MEMORY: &str = "1024M";

/// Two, so that what runs on different CPUs is tested; no more than any machine has.
const CPUS: &str = "2";

/// Of the variant that has more.
const MORE_CPUS: &str = "4";

/// The command line of every kernel.
const COMMAND_LINE: &str = "console=ttyS0 loglevel=5 panic=-1 net.ifnames=0";

/// All that can be emulated but cmpxchg16b: behind one, qemu 7.2 leaves garbage in the processor's
/// flags, and sooner or later the kernel traps.
const CPU: &str = "max,-cx16";

/// A network device that takes what it is given twice a second only, so that its queue fills: a
/// queue discipline that the kernel runs without a lock gives to any other at once. A test knows
/// it by its address.
const BUSY_DEVICE: &str =
    "virtio-net-pci,netdev=nowhere,mac=02:00:00:00:0b:05,tx=timer,x-txtimer=500000000,mq=off";

/// Boots a kernel and reads what the programs there printed.
pub(super) fn run(
    home: &Path,
    kernel: &Kernel,
    initramfs: &[u8],
    variant: Variant,
    timeout: Duration,
) -> Result<Outcome> {
    let [image, console, results, messages] =
        ["initramfs", "console.log", "results.log", "qemu.log"].map(|name| home.join(name));
    fs::write(&image, initramfs).with_context(|| format!("writing {}", image.display()))?;
    let (cpus, more) = match variant {
        Variant::Plain | Variant::RealTime => (CPUS, ""),
        Variant::FourCpus => (MORE_CPUS, ""),
        Variant::Lockdown => (CPUS, " lockdown=confidentiality"),
    };
    let mut qemu = Command::new("qemu-system-x86_64");
    // Emulation runs everywhere, inside another virtual machine too. Of one thread: with one for
    // each processor, a processor can run into the breakpoint by which the kernel changes its code
    // (it does to attach a probe) when that is no longer there, which ends the kernel.
    qemu.args([
        "-accel",
        "tcg,thread=single",
        "-machine",
        "q35",
        "-cpu",
        CPU,
    ])
    .args(["-smp", cpus, "-m", MEMORY])
    .args(["-nodefaults", "-no-reboot", "-display", "none"])
    .args(["-monitor", "none", "-netdev", "user,id=nowhere,restrict=on"])
    .args(["-device", BUSY_DEVICE])
    .arg("-serial")
    .arg(format!("file:{}", console.display()))
    .arg("-serial")
    .arg(format!("file:{}", results.display()))
    .arg("-kernel")
    .arg(&kernel.image)
    .arg("-initrd")
    .arg(&image)
    .arg("-append")
    .arg(format!("{COMMAND_LINE}{more}"))
    .stdin(Stdio::null())
    .stdout(File::create(&messages)?)
    .stderr(OpenOptions::new().append(true).open(&messages)?);
    let _ = fs::remove_file(&results);
    let start = Instant::now();
    let ended = process::run_for(&mut qemu, timeout)?;
    let seconds = start.elapsed().as_secs();
    let printed = lossy(&results);
    let mut outcome = match variant {
        Variant::Lockdown => Outcome::of_lockdown(&printed),
        Variant::Plain | Variant::FourCpus | Variant::RealTime => Outcome::parse(&printed),
    };
    match ended {
        None => outcome.fault(format!("killed after {seconds} s: it hung")),
        Some(status) if !status.success() => {
            outcome.fault(format!("qemu: {status}: {}", lossy(&messages).trim()));
        }
        Some(_) => {}
    }
    outcome.must_lack_nothing();
    for line in complaints(&lossy(&console)) {
        outcome.fault(format!("the kernel says: {line}"));
    }
    eprintln!("    ran for {seconds} s, logs in {}", home.display());
    fs::remove_file(&image)?;
    Ok(outcome)
}

/// Runs the same on the running kernel.
pub(super) fn run_live(
    directory: &Path,
    programs: &Programs,
    timeout: Duration,
) -> Result<Outcome> {
    let home = directory.join("live");
    fs::create_dir_all(&home)?;
    let release = process::text(Command::new("uname").arg("-r"))?;
    let mut printed = format!("{RELEASE} {release}");
    let mut hung = false;
    for (heading, program) in [
        (CAPABILITIES, &programs.capabilities),
        (TESTS, &programs.live),
        (SOCKET_TESTS, &programs.socket),
    ] {
        let log = home.join("results.log");
        let file = File::create(&log)?;
        let mut command = Command::new(program);
        command
            .env("NETLAB_REQUIRE_PRIVILEGE", "1")
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let ended = process::run_for(&mut command, timeout)?;
        let status = match ended {
            Some(status) => status.code().unwrap_or(-1),
            None => {
                hung = true;
                -1
            }
        };
        printed += &format!("{heading}\n{}\n{ENDED} {status}\n", lossy(&log));
    }
    let mut outcome = Outcome::parse(&printed);
    if hung {
        outcome.fault(format!("killed after {} s: it hung", timeout.as_secs()));
    }
    Ok(outcome)
}

/// What a kernel printed that it should not have to.
fn complaints(console: &str) -> Vec<&str> {
    const SIGNS: [&str; 6] = [
        "BUG: ",
        "WARNING: ",
        "Oops: ",
        "Kernel panic",
        "rcu: INFO: ",
        "cannot load ",
    ];
    console
        .lines()
        .filter(|line| SIGNS.iter().any(|sign| line.contains(sign)))
        .map(str::trim)
        .collect()
}

/// A log, or nothing where none was written.
fn lossy(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernels_complaint_is_reported() {
        let console =
            "[    0.1] Linux version 6.1\n[    2.0] WARNING: CPU: 0 PID: 1 at net/a.c\r\n";
        let expected = ["[    2.0] WARNING: CPU: 0 PID: 1 at net/a.c"];
        assert_eq!(complaints(console), expected);
    }
}
