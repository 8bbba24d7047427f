//! A sender's report, checked for what every one must have.

use ebpf_congestion_signals::EbpfSource;
use live_test::Skip;
use serde_json::Value;

/// Why this process may not load probes; `None` when it may.
pub(crate) fn refused() -> Option<String> {
    EbpfSource::load().err().map(|error| error.to_string())
}

/// For a test of a program that loads probes.
pub(crate) fn require_probes() -> Result<(), Skip> {
    live_test::require(refused())
}

pub(crate) fn number(report: &Value, path: &str) -> f64 {
    let value = report.pointer(path);
    value
        .and_then(Value::as_f64)
        .unwrap_or_else(|| panic!("no number at {path}: {report}"))
}

pub(crate) fn text<'a>(report: &'a Value, path: &str) -> &'a str {
    let value = report.pointer(path);
    value
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("no text at {path}: {report}"))
}

/// Whether every field is there and agrees with the others.
pub(crate) fn check(report: &Value, flows: u32) {
    let number = |path: &str| number(report, path);
    assert!(number("/seconds") > 0.0);
    assert_eq!(number("/flows"), f64::from(flows));
    assert!(number("/acked_bytes") > 0.0);
    let rate = number("/acked_bytes") * 8e-6 / number("/seconds");
    assert!(
        (number("/goodput_mbps") / rate - 1.0).abs() < 0.01,
        "{report}"
    );
    let goodputs = report["per_flow_goodput_mbps"].as_array();
    let goodputs: Vec<f64> = goodputs
        .expect("one for each flow")
        .iter()
        .filter_map(Value::as_f64)
        .collect();
    assert_eq!(goodputs.len(), flows as usize);
    let sum: f64 = goodputs.iter().sum();
    assert!(
        (sum / number("/goodput_mbps") - 1.0).abs() < 0.05,
        "{report}"
    );

    assert!(number("/sent_packets") > number("/lost_packets"));
    assert!(number("/lost_bytes") >= number("/lost_packets"));
    assert!(number("/congestion_events") <= number("/lost_packets"));
    // 0 can be: see `RoundTrips`.
    assert!(number("/rtt_us/min") >= 0.0);
    assert!(number("/rtt_us/p50") >= number("/rtt_us/min"));
    assert!(number("/rtt_us/p99") >= number("/rtt_us/p50"));
    assert!(number("/cwnd/p50") >= 2400.0, "{report}");
    assert!(number("/cwnd/max") >= number("/cwnd/p50"));
    for action in ["local_drop_reductions", "slow_start_exits", "capped_ms"] {
        assert!(number(&format!("/governor_actions/{action}")) >= 0.0);
    }

    let signals = &report["signals"];
    assert!(signals["drops_by_reason"].is_object(), "{report}");
    if text(report, "/source") == "none" {
        assert_eq!(text(report, "/governor"), "off", "nothing to govern by");
        for signal in [
            "send_bytes",
            "drop_packets",
            "events",
            "events_lost",
            "softirq_ns",
        ] {
            assert_eq!(signals.get(signal), Some(&Value::Null), "{report}");
        }
    }
    if text(report, "/source") == "ebpf" {
        // All that was delivered was sent, with the headers of QUIC.
        assert!(number("/signals/send_bytes") > number("/acked_bytes"));
        assert!(number("/signals/softirq_ns") > 0.0);
        let reasons = signals["drops_by_reason"].as_object();
        let by_reason = reasons.into_iter().flat_map(|reasons| reasons.values());
        let by_reason: f64 = by_reason.filter_map(Value::as_f64).sum();
        assert_eq!(number("/signals/drop_packets"), by_reason, "{report}");
        for count in ["/signals/events", "/signals/events_lost"] {
            assert!(number(count) >= 0.0);
        }
    }
}
