//! The lab in a virtual machine whose time counts instructions: real kernels, queues, probes and
//! endpoints, and figures that do not depend on what else the machine has to do.
//!
//! qemu gives the one processor a nanosecond for each instruction (`-icount shift=0`), and skips the
//! time in which there is nothing to do (`sleep=off`). A cable leads to a namespace with the server;
//! netem delays what comes back.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::archive::Archive;
use super::image;
use super::process;
use super::series::Series;
use super::userland;

/// Everything that is made lives here.
const DIRECTORY: &str = "target/vm";

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// How long one kernel's cases may take, all together.
const TIMEOUT: Duration = Duration::from_secs(900);

/// The path's delay, on the way back.
const DELAY_MS: f64 = 20.0;

/// What is in front of a line of the guest's that says which run's report follows.
const RUN: &str = "@@RUN";

/// A queue that governed and stock uploads of 8 s are sent through, at 10 Mbit/s.
struct Case {
    name: &'static str,
    /// Sets the queue up at device `va`.
    queue: &'static str,
    /// Beside a TCP flow.
    tcp: bool,
    /// What happens after three seconds, in the background.
    meanwhile: &'static str,
}

const HTB: &str = "tc qdisc add dev va root handle 1: htb default 1; \
    tc class add dev va parent 1: classid 1:1 htb rate 10mbit; tc qdisc add dev va parent 1:1 ";

const CASES: [Case; 8] = [
    Case::alone("fq_codel", "HTB fq_codel"),
    Case::alone("fq", "HTB fq"),
    Case::alone("cake", "tc qdisc add dev va root cake bandwidth 10mbit"),
    Case::alone("pfifo_fast", "HTB pfifo_fast"),
    Case::alone("pfifo", "HTB pfifo limit 100"),
    Case::alone(
        "tbf",
        "tc qdisc add dev va root tbf rate 10mbit burst 5k limit 60k",
    ),
    Case {
        tcp: true,
        ..Case::alone("fq_codel-beside-tcp", "HTB fq_codel")
    },
    Case {
        meanwhile: "ip link set dev va mtu 1280; busybox sleep 1; ip link set dev va mtu 1500",
        ..Case::alone(
            "mtu-change",
            "tc qdisc add dev va root tbf rate 10mbit burst 5k limit 60k",
        )
    },
];

impl Case {
    const fn alone(name: &'static str, queue: &'static str) -> Self {
        Self {
            name,
            queue,
            tcp: false,
            meanwhile: "",
        }
    }
}

/// What a run's report says.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    goodput: f64,
    lost: f64,
    p50: f64,
    p99: f64,
}

/// Runs the cases named, or all, on the newest kernel of a series; prints stock beside governed.
/// Fails when a governed upload is worse.
pub(crate) fn run(workspace: &Path, series: &str, names: &[String], check: bool) -> Result<bool> {
    let cases: Vec<_> = CASES
        .iter()
        .filter(|case| {
            names.is_empty() || names.iter().any(|name| name == case.name || name == "all")
        })
        .collect();
    if cases.is_empty() {
        let known: Vec<_> = CASES.iter().map(|case| case.name).collect();
        bail!("no such case; there are {}", known.join(", "));
    }
    let series: Series = series.parse().map_err(anyhow::Error::msg)?;
    process::require_tools()?;
    let directory = workspace.join(DIRECTORY);
    fs::create_dir_all(&directory)?;
    let programs = build(workspace, &directory)?;
    let archive = Archive::open(&directory)?;
    let package = archive.newest(&series)?;
    eprintln!("Linux {}", package.release);
    let home = directory.join(series.to_string());
    let kernel = image::prepare(&home, &archive, &package)?;
    let init = script(&cases);
    let initramfs = userland::lab(&directory, &kernel, &archive, &programs, &init)?;
    let printed = boot(&home, &kernel.image, &initramfs)?;

    let mut right = true;
    println!("| queue | | goodput, Mbit/s | lost | p50 over idle, ms | p99 |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for case in cases {
        let figures = |side| report(&printed, case.name, side);
        let (stock, governed) = (figures("stock")?, figures("governed")?);
        for (side, figures) in [("stock", stock), ("governed", governed)] {
            println!(
                "| {} | {side} | {:.2} | {} | {:.1} | {:.1} |",
                case.name,
                figures.goodput,
                figures.lost,
                figures.p50 - DELAY_MS,
                figures.p99 - DELAY_MS
            );
        }
        let missed = missed(case, stock, governed);
        right &= missed.is_empty();
        for what in missed {
            println!("{}: {what}", case.name);
        }
    }
    Ok(right || !check)
}

/// What must hold and does not.
fn missed(case: &Case, stock: Figures, governed: Figures) -> Vec<&'static str> {
    let mut missed = Vec::new();
    if governed.goodput < 0.98 * stock.goodput {
        missed.push("goodput is less than 98% of stock's");
    }
    if governed.lost > stock.lost.max(1.0) && case.meanwhile.is_empty() {
        missed.push("more is lost than by stock");
    }
    if !case.tcp && case.meanwhile.is_empty() && governed.p50 > DELAY_MS + 5.0 {
        missed.push("the round trip's median is over 5 ms more than idle");
    }
    if governed.p50 > 1.05 * stock.p50 {
        missed.push("the round trip's median is over stock's");
    }
    missed
}

/// The static client and server.
fn build(workspace: &Path, directory: &Path) -> Result<[PathBuf; 2]> {
    let target = directory.join("build");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(workspace)
        .args(["build", "--release", "--locked", "-p", "examples"])
        .args(["--examples", "--target", TARGET])
        .env("CARGO_TARGET_DIR", &target)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    let status = cargo.status().context("starting cargo")?;
    ensure!(status.success(), "building the examples: {status}");
    let programs = target.join(TARGET).join("release/examples");
    ["client", "server"]
        .map(|name| {
            let stripped = directory.join(name);
            process::output(
                Command::new("strip")
                    .arg("-o")
                    .arg(&stripped)
                    .arg(programs.join(name)),
            )?;
            Ok(stripped)
        })
        .into_iter()
        .collect::<Result<Vec<_>>>()?
        .try_into()
        .map_err(|_| anyhow::anyhow!("two programs"))
}

/// What the guest does once its modules are loaded.
fn script(cases: &[&Case]) -> String {
    let mut script = String::from(
        // The shell has commands of the same names in itself.
        "ip() { /bin/ip \"$@\"; }\n\
         tc() { /bin/tc \"$@\"; }\n\
         busybox mount -t tmpfs run /run\n\
         mkdir -p /run/netns\n\
         ip netns add b\n\
         ip link add va type veth peer name vb netns b\n\
         ip addr add 10.9.0.1/24 dev va\n\
         ip link set dev va up\n\
         ip netns exec b ip addr add 10.9.0.2/24 dev vb\n\
         ip netns exec b ip link set dev vb up\n\
         ip netns exec b tc qdisc add dev vb root netem delay 20ms limit 100000\n\
         ip netns exec b server --listen 10.9.0.2:4433 >/tmp/server 2>&1 &\n\
         busybox sleep 1\n",
    );
    for case in cases {
        let queue = case.queue.replace("HTB ", HTB);
        for (side, options) in [
            ("stock", "--governor off --source none"),
            ("governed", "--governor on --source ebpf"),
        ] {
            let (before, after) = if case.tcp {
                (
                    "ip netns exec b iperf3 -s -1 -p 5001 >/dev/null 2>&1 &\n\
                     busybox sleep 1\n\
                     iperf3 -c 10.9.0.2 -p 5001 -C cubic -t 12 >/dev/null 2>&1 &\n\
                     busybox sleep 2\n",
                    "wait %iperf3 2>/dev/null; busybox killall -9 iperf3 2>/dev/null; busybox sleep 1\n",
                )
            } else {
                ("", "")
            };
            let meanwhile = match case.meanwhile {
                "" => String::new(),
                what => format!("(busybox sleep 3; {what}) &\n"),
            };
            // A write to a string does not fail.
            let _ = write!(
                script,
                "tc qdisc del dev va root 2>/dev/null\n{queue}\n{before}{meanwhile}\
                 echo '{RUN} {} {side}'\n\
                 client --connect 10.9.0.2:4433 --seconds 8 --json {options} 2>/tmp/errors \
                 || busybox cat /tmp/errors\n{after}",
                case.name
            );
        }
    }
    script
}

/// Boots a kernel; what the guest printed.
fn boot(home: &Path, kernel: &Path, initramfs: &[u8]) -> Result<String> {
    let [image, console, results, messages] = [
        "lab-initramfs",
        "lab-console.log",
        "lab-results.log",
        "lab-qemu.log",
    ]
    .map(|name| home.join(name));
    fs::write(&image, initramfs)?;
    let _ = fs::remove_file(&results);
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", "tcg,thread=single", "-machine", "q35"])
        .args(["-cpu", "max,-cx16", "-smp", "1", "-m", "1024M"])
        .args(["-icount", "shift=0,sleep=off"])
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
            "console=ttyS0 loglevel=5 panic=-1 net.ifnames=0 tsc=reliable clocksource=tsc",
        ])
        .stdin(Stdio::null())
        .stdout(File::create(&messages)?)
        .stderr(Stdio::inherit());
    let ended = process::run_for(&mut qemu, TIMEOUT)?;
    let printed = String::from_utf8_lossy(&process::read(&results)?).into_owned();
    ensure!(
        ended.is_some(),
        "the guest was not done after {} s; it printed:\n{printed}",
        TIMEOUT.as_secs()
    );
    Ok(printed)
}

/// A run's figures among what the guest printed.
fn report(printed: &str, case: &str, side: &str) -> Result<Figures> {
    let head = format!("{RUN} {case} {side}");
    let mut lines = printed.lines().skip_while(|line| line.trim() != head);
    lines.next();
    let line = lines
        .find(|line| line.starts_with('{') || line.starts_with(RUN))
        .filter(|line| line.starts_with('{'));
    let line = line.with_context(|| format!("{case}, {side}: no report in:\n{printed}"))?;
    let report: Value = serde_json::from_str(line)?;
    let figure = |value: &Value| value.as_f64().unwrap_or_default();
    Ok(Figures {
        goodput: figure(&report["goodput_mbps"]),
        lost: figure(&report["lost_packets"]),
        p50: figure(&report["rtt_us"]["p50"]) / 1e3,
        p99: figure(&report["rtt_us"]["p99"]) / 1e3,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_found_behind_its_run() {
        let printed = "@@RUN fq stock\n{\"goodput_mbps\":9.5,\"lost_packets\":2,\
            \"rtt_us\":{\"p50\":21000,\"p99\":30000}}\n@@RUN fq governed\nan error\n@@RUN cake stock\n{}\n";
        let stock = report(printed, "fq", "stock").unwrap();
        assert_eq!((stock.goodput, stock.lost, stock.p50), (9.5, 2.0, 21.0));
        assert!(report(printed, "fq", "governed").is_err());
    }

    #[test]
    fn what_is_worse_than_stock_is_named() {
        let stock = Figures {
            goodput: 9.5,
            lost: 5.0,
            p50: 40.0,
            p99: 50.0,
        };
        let case = &CASES[0];
        let governed = Figures { p50: 23.0, ..stock };
        assert!(missed(case, stock, governed).is_empty());
        let worse = Figures {
            goodput: 9.0,
            lost: 6.0,
            ..stock
        };
        assert_eq!(missed(case, stock, worse).len(), 3);
    }
}
