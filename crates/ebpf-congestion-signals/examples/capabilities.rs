//! What the probes can tell on the running kernel, and why not the rest: a line of JSON each.
//!
//! Needs root, or CAP_BPF and CAP_PERFMON:
//!
//! ```text
//! cargo build --example capabilities
//! sudo target/debug/examples/capabilities
//! ```
//!
//! ```json
//! {"name":"kfree_skb","gives":"drops by reason, class and owner","missing":null}
//! ```

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use ebpf_congestion_signals::{EbpfSource, SignalSource};

    let source = EbpfSource::load()?;
    for capability in source.capabilities() {
        let line = serde_json::json!({
            "name": capability.name,
            "gives": capability.gives,
            "missing": capability.missing,
        });
        println!("{line}");
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("probes are for Linux: there is no kernel here that they could ask");
    std::process::exit(1);
}
