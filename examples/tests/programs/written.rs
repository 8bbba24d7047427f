//! What a sender writes down: a recording that can be replayed, and a qlog with the governor's
//! decisions.

use std::fs::{self, File};
use std::io::BufReader;
use std::time::Duration;

use ebpf_congestion_signals::{ReplaySource, SignalSource, WatchTarget};
use live_test::TestResult;
use netlab::{Family, Path, PathConfig};
use serde_json::Value;

use crate::process::{Running, program, run, with};
use crate::report::{check, number};

const PORT: u16 = 4433;

#[test]
fn a_recording_replays_and_a_qlog_has_the_decisions() -> TestResult {
    live_test::require(netlab::missing_privilege())?;
    let directory = tempfile::tempdir().expect("a directory can be made");
    let [recording, qlog] = ["recording", "qlog"].map(|name| directory.path().join(name));
    let path = Path::new(&PathConfig::local_queue()).expect("the path can be laid");
    let address = path.addresses(Family::V4).receiver;
    let command = |namespace: &netlab::Namespace, name: &str| {
        namespace.command(program(name).to_str().expect("its path is text"))
    };
    let receiver = command(path.receiver(), "server");
    let options = format!("--listen {address}:{PORT} --flows 1 --source none --json");
    let mut server = Running::start(with(receiver, &options));
    server.wait_for("listening");
    let options = format!(
        "--connect {address}:{PORT} --seconds 2 --source ebpf --json --record {} --qlog {}",
        recording.display(),
        qlog.display()
    );
    let report = run(with(command(path.sender(), "client"), &options)).json();
    check(&report, 1);
    server.end();
    assert!(number(&report, "/governor_actions/capped_ms") > 0.0);

    let file = File::open(recording).expect("it was written");
    let source = ReplaySource::read(BufReader::new(file)).expect("it is a recording");
    assert_eq!(source.flows(), 1);
    assert!(source.length() > Duration::from_secs(1));
    let any = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket can be bound");
    let watch = source
        .watch(WatchTarget::socket(&any))
        .expect("it has a flow");
    let mut backlog = 0;
    while source.host().taken.as_nanos() < 1_000_000_000 {
        source.advance(Duration::from_millis(10));
        backlog = backlog.max({
            let queue = watch.congestion().queue;
            queue.and_then(|queue| queue.own).unwrap_or_default()
        });
    }
    assert!(backlog > 0, "the queue was used");
    source.advance(source.length());
    let told = watch.congestion();
    assert!(told.live && told.observed_packets > Some(1000), "{told:?}");

    let qlog = fs::read_to_string(qlog).expect("it was written");
    let records: Vec<Value> = qlog
        .split('\x1e')
        .filter(|record| !record.is_empty())
        .map(|record| serde_json::from_str(record).expect("each record is whole"))
        .collect();
    let windows = records
        .iter()
        .filter(|record| record["data"]["congestion_window"].is_number());
    assert!(windows.count() > 10, "quinn's own");
    let capped = records
        .iter()
        .filter(|record| record["name"] == "recovery:congestion_state_updated")
        .find(|record| record["data"]["new"] == "capped");
    let capped = capped.expect("the governor's");
    assert_eq!(capped["data"]["trigger"], "local_queue");
    let time = capped["time"].as_f64().expect("milliseconds");
    assert!((0.0..2500.0).contains(&time), "{time}");
    Ok(())
}
