//! How long it takes to load the probes and to have the first sample of a watched socket. Needs root.

use std::error::Error;
use std::net::UdpSocket;
use std::time::Instant;

use ebpf_congestion_signals::{EbpfOptions, EbpfSource, SignalSource, WatchTarget};

const ROUNDS: usize = 11;

fn main() -> Result<(), Box<dyn Error>> {
    let brief = std::env::args().all(|argument| argument != "--bench");
    let rounds = if brief { 1 } else { ROUNDS };
    for (name, options) in [
        ("all", EbpfOptions::default()),
        ("governing", EbpfOptions::default().governing()),
    ] {
        let mut times = Vec::new();
        for _ in 0..rounds {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            let start = Instant::now();
            let source = match EbpfSource::load_with(&options) {
                Ok(source) => source,
                Err(refused) => {
                    println!("nothing is measured: {refused}");
                    return Ok(());
                }
            };
            let watch = source.watch(WatchTarget::socket(&socket))?;
            std::hint::black_box(watch.congestion());
            times.push(start.elapsed());
        }
        times.sort_unstable();
        println!(
            "load/{name}: median {:?}, least {:?}, most {:?}",
            times[times.len() / 2],
            times[0],
            times[times.len() - 1]
        );
    }
    Ok(())
}
