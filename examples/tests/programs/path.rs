use live_test::TestResult;
use netlab::{Family, Path, PathConfig};
use serde_json::Value;

use crate::process::{Running, program, run, with};
use crate::report::{check, number, text};

const PORT: u16 = 4433;
const SECONDS: u32 = 8;

/// Goodput depends on a processor that others use too; losses do not. So the former may be tried
/// this often, always both senders anew, and the latter must hold each time.
const TRIES: u32 = 3;

#[test]
fn governed_senders_lose_a_tenth_of_what_stock_ones_do_at_the_same_goodput() -> TestResult {
    live_test::require(netlab::missing_privilege())?;
    let mut ratios = Vec::new();
    for _ in 0..TRIES {
        ratios.push(compare());
        if ratios.last() >= Some(&0.98) {
            return Ok(());
        }
    }
    panic!("goodput with the governor, by that without: {ratios:?}");
}

/// Sends without and with the governor, and compares all but goodput; the ratio of that.
fn compare() -> f64 {
    let path = Path::new(&PathConfig::local_queue()).expect("the path can be laid");
    let address = path.addresses(Family::V4).receiver;
    let receiver = path.receiver().command(&path_of("server"));
    let options = format!("--listen {address}:{PORT} --flows 2 --source none --json");
    let mut server = Running::start(with(receiver, &options));
    server.wait_for("listening");
    let upload = |governor: &str| -> Value {
        let sender = path.sender().command(&path_of("client"));
        let options = format!(
            "--connect {address}:{PORT} --seconds {SECONDS} --source ebpf --governor {governor} \
             --json"
        );
        let ended = run(with(sender, &options));
        println!("governor {governor}: {}", ended.stdout);
        let report = ended.json();
        check(&report, 1);
        // The path's 20 ms, less what quinn's reading of the clock can be off.
        assert!(number(&report, "/rtt_us/min") >= 15_000.0, "{report}");
        report
    };
    let (stock, governed) = (upload("off"), upload("on"));
    let received = server.end().json();

    assert_eq!(text(&stock, "/governor"), "off");
    assert_eq!(text(&governed, "/governor"), "on");
    let both = |path| number(&stock, path) + number(&governed, path);
    assert_eq!(number(&received, "/received_bytes"), both("/acked_bytes"));

    let lost = |report| number(report, "/lost_packets");
    assert!(lost(&stock) > 0.0, "the queue never overflowed: {stock}");
    assert!(lost(&governed) <= lost(&stock) / 10.0, "{governed}");
    let round_trip = |report| number(report, "/rtt_us/p50");
    assert!(round_trip(&governed) < round_trip(&stock), "{governed}");

    // The stock sender was not governed, but watched: the kernel named the place of its losses.
    // A sender that gets no processor for a while takes late packets for lost ones beside them, so
    // the other way round less is allowed.
    let dropped = number(&stock, "/signals/drops_by_reason/QDISC_DROP");
    assert!(dropped >= 0.75 * lost(&stock), "{stock}");
    assert!(dropped <= 1.1 * lost(&stock), "{stock}");
    assert!(number(&governed, "/governor_actions/capped_ms") > 0.0);
    number(&governed, "/goodput_mbps") / number(&stock, "/goodput_mbps")
}

fn path_of(name: &str) -> String {
    let program = program(name);
    program.to_str().expect("its path is text").to_owned()
}
