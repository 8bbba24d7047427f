//! Devices that give packets back before they have sent them: what waits there is not known.

use std::thread;
use std::time::Duration;

use ebpf_congestion_signals::SocketSource;
use netlab::{Family, Path, PathConfig, RelayConfig};

use crate::ours::{Ours, sink};
use crate::{TestResult, tun};

#[test]
fn a_device_that_keeps_no_packet_on_the_sockets_account_shows_no_queue() -> TestResult {
    tun()?;
    // The sender's own device is a cable, then a router's TUN device holds packets for 50 ms.
    let path = Path::new(&PathConfig {
        relay: Some(RelayConfig::symmetric(Duration::from_millis(50))),
        ..PathConfig::default()
    })?;
    let router = path.router().ok_or("the path has a router")?;
    let sink = sink(&path, Family::V4)?;
    let source = SocketSource::new();
    let ours = Ours::bind(&source, router, std::net::Ipv4Addr::UNSPECIFIED.into())?;
    for _ in 0..50 {
        ours.send(sink.local_addr()?)?;
        thread::sleep(Duration::from_micros(300));
        ours.receive();
        assert_eq!(ours.watch.congestion().queue, None);
    }
    assert_eq!(ours.watch.congestion().observed_packets, Some(50));
    Ok(())
}
