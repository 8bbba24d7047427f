//! Queues that hold packets only while their device is busy, among them the one that the kernel
//! runs without a lock and with statistics of each CPU: pfifo_fast. No device of a plain host is
//! busy on demand; the virtual machines of `cargo xtask kernels` have one.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;

use ebpf_congestion_signals::{QueueLimit, SignalSource, Watch, WatchTarget};
use live_test::Skip;
use netlab::Namespace;
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::Value;

use crate::known::{Known, Sample};
use crate::traffic::{PAYLOAD, bind, send, wait_until};
use crate::{TestResult, source_with, tool};

/// Of the device that takes packets twice a second only.
const ADDRESS: &str = "02:00:00:00:0b:05";

const ON_WIRE: u64 = PAYLOAD as u64 + 14 + 20 + 8;

/// The device's name.
fn busy_device() -> std::io::Result<Option<String>> {
    for device in fs::read_dir("/sys/class/net")? {
        let device = device?;
        let address = fs::read_to_string(device.path().join("address"));
        if address.is_ok_and(|address| address.trim() == ADDRESS) {
            return Ok(device.file_name().into_string().ok());
        }
    }
    Ok(None)
}

/// The device in its own namespace, without other senders.
struct Busy {
    namespace: Namespace,
    device: String,
}

impl Busy {
    fn new(device: String) -> Result<Self, Box<dyn std::error::Error>> {
        // Byte queue limits would keep the device's own ring short, and so take long to let go.
        let limits = format!("/sys/class/net/{device}/queues/tx-0/byte_queue_limits/limit_min");
        if std::path::Path::new(&limits).exists() {
            fs::write(&limits, "10000000")?;
        }
        let namespace = Namespace::new()?;
        let own = std::process::id();
        let there = format!("/proc/{own}/fd/{}", namespace.as_fd().as_raw_fd());
        live_test::require_program("ip")?;
        let moved = Command::new("ip")
            .args(["link", "set", &device, "netns", &there])
            .output()?;
        assert!(moved.status.success(), "{moved:?}");
        let busy = Self { namespace, device };
        busy.run("ip", "link set DEV addrgenmode none")?;
        busy.run("ip", "addr add 192.0.2.1/24 dev DEV")?;
        busy.run("ip", "link set DEV up")?;
        busy.run("ip", "neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev DEV")?;
        Ok(busy)
    }

    /// Runs a program there; `DEV` stands for the device.
    fn run(&self, program: &str, args: &str) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
        let args = args
            .split(' ')
            .map(|word| if word == "DEV" { &self.device } else { word });
        let output = tool(&self.namespace, program)?.args(args).output()?;
        assert!(output.status.success(), "{output:?}");
        Ok(output.stdout)
    }
}

#[test]
fn a_queue_without_a_lock_is_counted_packet_by_packet_and_those_with_one_too() -> TestResult {
    let source = source_with(&["qdisc_enqueue", "qdisc_dequeue"])?;
    let Some(device) = busy_device()? else {
        let why = "this kernel has no such device: one that is busy on demand";
        return Err(Skip::new(why).into());
    };
    let busy = Busy::new(device)?;
    for (kind, options, limit) in [
        ("pfifo_fast", "", None),
        ("pfifo", " limit 700", Some(QueueLimit::Packets(700))),
        ("bfifo", " limit 900000", Some(QueueLimit::Bytes(900_000))),
        ("fq_codel", " limit 800", Some(QueueLimit::Packets(800))),
    ] {
        let set_up = format!("qdisc replace dev DEV root {kind}{options}");
        busy.run("tc", &set_up)?;
        let sender = bind(&busy.namespace, IpAddr::from([192, 0, 2, 1]))?;
        setsockopt(&sender, sockopt::SndBufForce, &(4 << 20))?;
        let watch = source.watch(WatchTarget::socket(&sender).sharing())?;
        let (before, shown, after) = standing(&busy, &sender, &watch)?;
        let (state, earlier) = (after.queue.ok_or("known")?, before.queue.ok_or("known")?);
        assert_eq!(state.kind.as_str(), kind);
        assert_eq!(state.limit, limit, "{kind}");
        let packets = shown.packets;
        assert_eq!(shown.bytes, packets * ON_WIRE);
        // The packet that the device was just too busy for has left the queue discipline, and is
        // put back in front of it: tc counts that one too.
        let range = state.packets..=earlier.packets + 1;
        assert!(range.contains(&packets), "{kind}: {packets} in {range:?}");
        // Later the device may have refused a whole bulk, which is put back the same way.
        let queue = before.congestion.queue.ok_or("the queue is known")?;
        assert_eq!(queue.total, earlier.packets * ON_WIRE, "{kind}");
        let own = queue.total.saturating_sub(ON_WIRE)..=queue.total;
        assert!(own.contains(&queue.own), "{kind}: {queue:?}");
        wait_until("the queue drains", || is_empty(&watch));
    }
    Ok(())
}

/// What tc shows of a queue.
struct Shown {
    packets: u64,
    bytes: u64,
}

/// Fills the queue; what the source tells before and after tc is asked, and what tc tells. The
/// device empties it in two of its turns: on a slow processor tc may come too late, and all is done
/// again.
fn standing(
    busy: &Busy,
    sender: &UdpSocket,
    watch: &Watch,
) -> Result<(Sample, Shown, Sample), Box<dyn std::error::Error>> {
    const TRIES: usize = 10;
    for _ in 0..TRIES {
        send(sender, ([192, 0, 2, 2], 9).into(), 600)?;
        let before = watch.known_sample();
        let shown = busy.run("tc", "-s -j qdisc show dev DEV root")?;
        let after = watch.known_sample();
        let shown: Value = serde_json::from_slice(&shown)?;
        let number = |name: &str| shown[0][name].as_u64().ok_or("tc tells its length");
        let shown = Shown {
            packets: number("qlen")?,
            bytes: number("backlog")?,
        };
        if shown.packets > 50 {
            return Ok((before, shown, after));
        }
        wait_until("the queue drains", || is_empty(watch));
    }
    Err(format!("the queue was empty in each of {TRIES} tries").into())
}

fn is_empty(watch: &Watch) -> bool {
    let sample = watch.known_sample();
    let queue = sample.congestion.queue;
    queue.is_some_and(|queue| queue.own == 0 && queue.total == 0)
        && sample.queue.is_some_and(|queue| queue.packets == 0)
}
