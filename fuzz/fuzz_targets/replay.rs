//! Whatever bytes a recording holds, it is refused or replayed.
#![no_main]

use std::time::Duration;

use ebpf_congestion_signals::{ReplaySource, SignalSource};
use libfuzzer_sys::fuzz_target;

const HEADER: &[u8] = b"{\"format\":\"congestion-signals\",\"version\":1}\n";

fuzz_target!(|lines: &[u8]| {
    // As it is, and behind a first line that is right.
    let _ = ReplaySource::read(lines);
    let Ok(source) = ReplaySource::read([HEADER, lines].concat().as_slice()) else {
        return;
    };
    let length = source.length();
    for _ in 0..4 {
        let _ = source.host();
        source.advance(length / 3 + Duration::from_nanos(1));
    }
});
