//! Simulates a stock and a governed sender whose own host is the bottleneck, and writes a trace of
//! either to be plotted.
//!
//! `cargo run --release -p netlab --example simulate -- DIRECTORY [SECONDS]`

use std::error::Error;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netlab::sim::scenarios::{self, Bottleneck};
use netlab::sim::{Control, Process};
use quinn_governor::Governors;
use quinn_proto::congestion::CubicConfig;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let Some(directory) = arguments.next().map(PathBuf::from) else {
        return Err("usage: simulate DIRECTORY [SECONDS]".into());
    };
    let seconds = match arguments.next() {
        Some(seconds) => seconds.parse()?,
        None => 8,
    };
    fs::create_dir_all(&directory)?;
    let governed = Process::new(|context| {
        let governors = Governors::new(context.source());
        Box::new(move |watch| governors.watch(watch))
    });
    let controls = [
        ("stock", Control::Stock(Arc::new(CubicConfig::default()))),
        ("governed", Control::Governed(governed)),
    ];
    for (name, control) in controls {
        let mut scenario = scenarios::local_queue(Bottleneck::default(), control);
        scenario.duration = Duration::from_secs(seconds);
        scenario.trace_interval = Some(Duration::from_millis(5));
        let began = Instant::now();
        let outcome = scenario.run();
        let took = began.elapsed();
        let path = directory.join(format!("{name}.csv"));
        outcome
            .trace
            .write_csv(BufWriter::new(File::create(&path)?))?;
        let flow = &outcome.flows[0];
        println!(
            "{name:<9} {:.2} Mbit/s, lost {} of {}, round trip p50 {:.1} p99 {:.1} ms; \
             {seconds} s in {:.2} s; {}",
            flow.goodput / 1e6,
            flow.lost_packets,
            flow.sent_packets,
            flow.rtt.p50.as_secs_f64() * 1e3,
            flow.rtt.p99.as_secs_f64() * 1e3,
            took.as_secs_f64(),
            path.display(),
        );
    }
    Ok(())
}
