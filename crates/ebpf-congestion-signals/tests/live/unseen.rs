//! Passes of tracepoints that the kernel ran no program for.
//!
//! A kernel can be built to run no BPF program while certain tasks are current. A softirq that
//! interrupts such a task handles packets that no probe sees, and no counter of BPF says so: only
//! the kernel's own trace buffer does. On other kernels no pass is unseen, and counts are exact.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::{io, process};

use ebpf_congestion_signals::{CostAccounting, EbpfSource, ProbeCost};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Where packets come to a device, and where they leave a queue.
const TRACEPOINTS: [(&str, &str); 2] = [
    ("net/net_dev_queue", "net_dev_queue"),
    ("qdisc/qdisc_dequeue", "qdisc_dequeue"),
];

/// Passes since [`Unseen::start`] that no program ran for: bounds, as packets of other programs of
/// this host are among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passes {
    pub(crate) sends: u64,
    pub(crate) dequeues: u64,
}

/// Compares how often tracepoints are passed with how often their programs run.
pub(crate) struct Unseen<'a> {
    source: &'a EbpfSource,
    /// `None` where the kernel does not let passes be counted: then none may be unseen.
    counting: Option<Counting>,
    before: Passes,
}

struct Counting {
    tracefs: File,
    _accounting: CostAccounting,
}

impl<'a> Unseen<'a> {
    pub(crate) fn start(source: &'a EbpfSource) -> io::Result<Self> {
        let mut unseen = Self {
            source,
            counting: Counting::new(source),
            before: Passes::default(),
        };
        unseen.before = unseen.so_far()?;
        Ok(unseen)
    }

    pub(crate) fn passes(&self) -> io::Result<Passes> {
        let now = self.so_far()?;
        Ok(Passes {
            sends: now.sends.wrapping_sub(self.before.sends),
            dequeues: now.dequeues.wrapping_sub(self.before.dequeues),
        })
    }

    /// Passes less runs, up to a constant.
    fn so_far(&self) -> io::Result<Passes> {
        let Some(counting) = &self.counting else {
            return Ok(Passes::default());
        };
        // Other programs send too: until nothing passes while the runs are read.
        for _ in 0..1000 {
            let passed = counting.passed()?;
            let costs = self.source.costs()?;
            if counting.passed()? != passed {
                continue;
            }
            let [sends, dequeues] = [0, 1].map(|which: usize| {
                let is_it = |cost: &&ProbeCost| cost.name == TRACEPOINTS[which].1;
                let probe = costs.iter().find(is_it);
                probe.map_or(0, |probe| passed[which].wrapping_sub(probe.runs))
            });
            return Ok(Passes { sends, dequeues });
        }
        Err(io::Error::other("packets pass without a pause"))
    }
}

impl Counting {
    fn new(source: &EbpfSource) -> Option<Self> {
        let accounting = source.account_costs().ok()?;
        // Mounted for as long as it takes to open it: nothing stays behind.
        let place = std::env::temp_dir().join(format!("tracefs-{}", process::id()));
        fs::create_dir_all(&place).ok()?;
        let none = None::<&str>;
        let mounted = mount(none, &place, Some("tracefs"), MsFlags::empty(), none);
        let tracefs = mounted.and_then(|()| {
            let opened = File::open(&place);
            umount2(&place, MntFlags::MNT_DETACH)?;
            Ok(opened)
        });
        let _ = fs::remove_dir(&place);
        let counting = Self {
            tracefs: tracefs.ok()?.ok()?,
            _accounting: accounting,
        };
        for (which, (event, _)) in TRACEPOINTS.iter().enumerate() {
            let buffer = counting.buffer(which);
            fs::create_dir_all(&buffer).ok()?;
            // What is written over is counted as well, so the least is enough.
            fs::write(buffer.join("buffer_size_kb"), "1").ok()?;
            let event = buffer.join("events").join(event);
            fs::write(event.join("enable"), "1").ok()?;
        }
        Some(counting)
    }

    /// A trace buffer of its own.
    fn buffer(&self, which: usize) -> PathBuf {
        let tracefs = self.tracefs.as_raw_fd();
        let (name, id) = (TRACEPOINTS[which].1, process::id());
        PathBuf::from(format!("/proc/self/fd/{tracefs}/instances/{name}-{id}"))
    }

    /// How often each tracepoint was passed.
    fn passed(&self) -> io::Result<[u64; 2]> {
        let mut passed = [0; 2];
        for (which, passed) in passed.iter_mut().enumerate() {
            for cpu in fs::read_dir(self.buffer(which).join("per_cpu"))? {
                let stats = fs::read_to_string(cpu?.path().join("stats"))?;
                let number = |line: &str| line.rsplit(' ').next()?.parse::<u64>().ok();
                let counted = ["entries:", "overrun:", "dropped events:"];
                *passed += stats
                    .lines()
                    .filter(|line| counted.iter().any(|name| line.starts_with(name)))
                    .filter_map(number)
                    .sum::<u64>();
            }
        }
        Ok(passed)
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        for (which, (event, _)) in TRACEPOINTS.iter().enumerate() {
            let buffer = self.buffer(which);
            let event = buffer.join("events").join(event);
            let _ = fs::write(event.join("enable"), "0");
            let _ = fs::remove_dir(buffer);
        }
    }
}
