//! What runs in the virtual machine: an initramfs with an init that loads modules, runs the
//! programs and powers off.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::archive::Archive;
use super::cpio::{Cpio, Device};
use super::image::Kernel;
use super::outcome::{CAPABILITIES, ENDED, RELEASE, SOCKET_TESTS, TESTS};
use super::process;
use super::programs::Programs;
use super::series::Variant;

/// Taken from this machine, with their shared libraries.
const TOOLS: [&str; 3] = ["ip", "tc", "nft"];

/// Taken if they are there; tests that want one say so when it is not.
const OPTIONAL_TOOLS: [&str; 3] = ["iperf3", "wg", "ethtool"];

/// The console's device number (Documentation/admin-guide/devices.txt).
const CONSOLE: Device = Device(5, 1);

/// Beyond the time after which the guest is killed, it ends by itself.
const GRACE: Duration = Duration::from_secs(30);

/// The initramfs.
pub(super) fn initramfs(
    directory: &Path,
    kernel: &Kernel,
    archive: &Archive,
    programs: &Programs,
    variant: Variant,
    timeout: Duration,
) -> Result<Vec<u8>> {
    if variant == Variant::Lockdown {
        let programs = [("capabilities", programs.capabilities.as_path())];
        return with(directory, kernel, archive, &programs, &locked_down());
    }
    let programs = [
        ("capabilities", programs.capabilities.as_path()),
        ("live", &programs.live),
        ("socket", &programs.socket),
    ];
    with(directory, kernel, archive, &programs, &init(timeout))
}

/// The initramfs of the lab, whose programs are given.
#[cfg(all(feature = "lab", target_os = "linux"))]
pub(super) fn lab(
    directory: &Path,
    kernel: &Kernel,
    archive: &Archive,
    programs: &[(&str, &Path)],
    script: &str,
) -> Result<Vec<u8>> {
    let init = format!("{BEGIN}{{\n{script}}} >/dev/ttyS1 2>&1\nbusybox poweroff -f\n");
    with(directory, kernel, archive, programs, &init)
}

fn with(
    directory: &Path,
    kernel: &Kernel,
    archive: &Archive,
    programs: &[(&str, &Path)],
    init: &str,
) -> Result<Vec<u8>> {
    let mut files = Cpio::default();
    for directory in ["proc", "sys", "dev", "tmp", "run"] {
        files.directory(directory);
    }
    files.character_device("dev/console", CONSOLE);
    files.program("init", init.as_bytes());
    files.program(
        "bin/busybox",
        &process::read(&busybox(directory, archive)?)?,
    );
    for module in &kernel.modules {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        files.program(&format!("modules/{name}"), &process::read(module)?);
    }
    let mut found: Vec<(&str, PathBuf)> = Vec::new();
    for (name, path) in programs {
        found.push((name, path.to_path_buf()));
    }
    for tool in TOOLS.into_iter().chain(OPTIONAL_TOOLS) {
        let Some(path) = process::find(tool) else {
            if OPTIONAL_TOOLS.contains(&tool) {
                eprintln!("    without {tool}, which is not installed here");
                continue;
            }
            anyhow::bail!("{tool} is gone");
        };
        found.push((tool, path));
    }
    let mut libraries = Vec::new();
    for (name, path) in found {
        files.program(&format!("bin/{name}"), &process::read(&path)?);
        for library in libraries_of(&path)? {
            if !libraries.contains(&library) {
                files.program(&library, &process::read(Path::new(&library))?);
                libraries.push(library);
            }
        }
    }
    Ok(files.finish())
}

/// Debian's static busybox, fetched once.
fn busybox(directory: &Path, archive: &Archive) -> Result<PathBuf> {
    let home = directory.join("busybox");
    let unpacked = home.join("unpacked");
    let program = home.join("busybox");
    if !program.exists() {
        fs::create_dir_all(&unpacked)?;
        archive.unpack("busybox-static", &unpacked)?;
        let found = ["usr/bin/busybox", "bin/busybox"].map(|path| unpacked.join(path));
        let found = found.iter().find(|path| path.is_file());
        let found = found.context("busybox-static has no busybox")?;
        fs::copy(found, &program)?;
        fs::remove_dir_all(&unpacked)?;
    }
    Ok(program)
}

/// The shared libraries of a program, its loader among them, as absolute paths; none of a static one.
fn libraries_of(program: &Path) -> Result<Vec<String>> {
    let output = Command::new("ldd").arg(program).env("LC_ALL", "C").output();
    let output = output.context("starting ldd")?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(
        output.status.success() || said.contains("not a dynamic executable"),
        "ldd {}: {}",
        program.display(),
        said.trim()
    );
    Ok(parse_ldd(&String::from_utf8_lossy(&output.stdout)))
}

fn parse_ldd(printed: &str) -> Vec<String> {
    let lines = printed.lines();
    lines
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(str::to_owned)
        .collect()
}

/// What every init begins with.
const BEGIN: &str = r#"#!/bin/busybox sh
export PATH=/bin HOME=/tmp TMPDIR=/tmp RUST_BACKTRACE=0 NETLAB_REQUIRE_PRIVILEGE=1 NETLAB_EMULATED=1
busybox mount -t devtmpfs dev /dev
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t tmpfs tmp /tmp
for module in /modules/*.ko; do
    busybox insmod "$module" || echo "cannot load $module"
done
ip link set dev lo up
# Kernels before 5.11 hold maps against this limit.
ulimit -l unlimited
"#;

/// Results go to the second serial port, where no word of the kernel comes between.
fn init(timeout: Duration) -> String {
    let deadline = (timeout + GRACE).as_secs();
    format!(
        r#"{BEGIN}(busybox sleep {deadline}; busybox poweroff -f) &
cd /tmp
{{
    echo "{RELEASE} $(busybox uname -r)"
    echo "{CAPABILITIES}"
    capabilities
    echo "{ENDED} $?"
    echo "{TESTS}"
    live --color never
    echo "{ENDED} $?"
    echo "{SOCKET_TESTS}"
    socket --color never
    echo "{ENDED} $?"
}} >/dev/ttyS1 2>&1
busybox poweroff -f
"#
    )
}

/// Where a kernel is locked down, nothing can be loaded: only that is asked.
fn locked_down() -> String {
    format!(
        r#"{BEGIN}busybox mount -t securityfs securityfs /sys/kernel/security
{{
    echo "{RELEASE} $(busybox uname -r)"
    echo "{CAPABILITIES}"
    capabilities
    echo "{ENDED} $?"
}} >/dev/ttyS1 2>&1
busybox poweroff -f
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_taken_from_where_the_loader_finds_them() {
        let printed = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                       \tlibmnl.so.0 => /lib/x86_64-linux-gnu/libmnl.so.0 (0x00007f00)\n\
                       \t/lib64/ld-linux-x86-64.so.2 (0x00007f01)\n";
        let expected = [
            "/lib/x86_64-linux-gnu/libmnl.so.0",
            "/lib64/ld-linux-x86-64.so.2",
        ];
        assert_eq!(parse_ldd(printed), expected);
    }
}
