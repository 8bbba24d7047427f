//! Queue disciplines whose module is loaded when the probes are there already.

use std::path::{Path, PathBuf};
use std::process::Command;

use ebpf_congestion_signals::{EbpfOptions, EbpfSource, QueueLimit, SignalSource, WatchTarget};
use live_test::{Skip, TestResult};

use super::bed::{Pair, sh};
use crate::known::Known;
use crate::traffic::{send, wait_until};

/// Where a virtual machine for tests has its modules.
const MODULES: &str = "/modules";

/// The file of token buckets' module, where a test may unload it.
fn module() -> Option<PathBuf> {
    let files = std::fs::read_dir(MODULES).ok()?.filter_map(Result::ok);
    let mut paths = files.map(|file| file.path());
    let is_loaded = Path::new("/sys/module/sch_tbf").exists();
    paths.find(|path| is_loaded && path.to_string_lossy().ends_with("-sch_tbf.ko"))
}

fn run(program: &str, argument: &Path) -> bool {
    let status = Command::new("busybox").arg(program).arg(argument).status();
    status.is_ok_and(|status| status.success())
}

#[test]
fn a_token_bucket_whose_module_comes_later_has_its_limit() -> TestResult {
    crate::source_with(&["qdisc_enqueue", "qdisc_dequeue"])?;
    let module = module().ok_or_else(|| Skip::new("token buckets are no module to unload here"))?;
    // Namespaces of other tests, and their queues, go a little later than they.
    wait_until("the module can be unloaded", || {
        run("rmmod", Path::new("sch_tbf"))
    });
    let source = EbpfSource::load_with(&EbpfOptions::default().flows(4))?;
    let pair = Pair::new("")?;
    let (sender, sink) = (pair.sender(), pair.sink());
    let watch = source.watch(WatchTarget::socket(&sender))?;
    assert!(run("insmod", &module), "{}", module.display());
    sh(
        &pair.a,
        "tc qdisc add dev a0 root handle 1: tbf rate 10mbit burst 15000 limit 123456",
    );
    let to = sink.local_addr()?;
    let mut sent = Ok(());
    wait_until("the limit is known", || {
        sent = send(&sender, to, 1);
        let queue = watch.known_sample().queue;
        queue.and_then(|queue| queue.limit) == Some(QueueLimit::Bytes(123_456))
    });
    Ok(sent?)
}
