//! A governed transfer whose probes are taken away halfway goes on as its base would.
#![cfg(target_os = "linux")]

#[macro_use]
extern crate live_test;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ebpf_congestion_signals::EbpfSource;
use examples::args::{Base, Load, Switch};
use examples::certificate::{self, Trust};
use examples::control::Control;
use examples::endpoint;
use examples::lines::Lines;
use examples::receive::Receiving;
use examples::source::Source;
use examples::upload::{Measured, Uploads};
use live_test::TestResult;
use netlab::{Family, Path, PathConfig};
use quinn::{Endpoint, EndpointConfig};
use tokio::runtime::Runtime;

const SECONDS: u64 = 6;

/// Packets lost up to the middle and in all, and what was delivered.
#[derive(Debug)]
struct Transfer {
    lost_first_half: u64,
    lost: u64,
    delivered: u64,
}

/// One upload over a new path; `middle` is called at half its time.
fn transfer(control: &Control, middle: impl FnOnce() + Send) -> anyhow::Result<Transfer> {
    let path = Path::new(&PathConfig::local_queue())?;
    let address = SocketAddr::from((path.addresses(Family::V4).receiver, 4433));
    let (certificate, tls) = certificate::generate()?;
    let receiver = Runtime::new()?;
    let server = path.receiver().run(|| {
        let _entered = receiver.enter();
        let mut config = endpoint::server_config(tls);
        config.transport_config(Arc::new(endpoint::transport()));
        let runtime = Arc::new(quinn::TokioRuntime);
        let socket = endpoint::bind(address)?;
        let endpoint = EndpointConfig::default();
        anyhow::Ok(Endpoint::new(endpoint, Some(config), socket, runtime)?)
    })??;
    receiver.spawn(async move {
        while let Some(incoming) = server.accept().await {
            if let Ok(connection) = incoming.await {
                // Its end is the sender's to judge.
                let _ = Receiving::default().receive(&connection).await;
            }
        }
    });
    let load = Load::new(Duration::from_secs(SECONDS), 1);
    let sender = Runtime::new()?;
    let (measured, lost_first_half) = path.sender().run(|| -> anyhow::Result<_> {
        sender.block_on(async {
            let trust = Trust::Only(certificate);
            let uploads = Uploads::connect(address, &trust, load, control).await?;
            let connection = uploads.connection(0).clone();
            let mut lines = Lines::default();
            let half = async {
                tokio::time::sleep(Duration::from_secs(SECONDS / 2)).await;
                middle();
                connection.stats().path.lost_packets
            };
            let (measured, lost) = tokio::join!(uploads.run(control, None, &mut lines), half);
            Ok((measured?, lost))
        })
    })??;
    let Measured { flows, failure, .. } = measured;
    failure.map_or(Ok(()), Err)?;
    Ok(Transfer {
        lost_first_half,
        lost: flows[0].stats.path.lost_packets,
        delivered: flows[0].delivered,
    })
}

#[test]
fn a_transfer_whose_probes_are_detached_ends_as_base_would() -> TestResult {
    live_test::require(netlab::missing_privilege())?;
    let stock = Control::over(Source::None(None), Base::Cubic, Switch::Off)?;
    let stock = transfer(&stock, || {})?;

    let probes = Arc::new(EbpfSource::load()?);
    let source = Source::Ebpf(Arc::clone(&probes));
    let control = Control::over(source, Base::Cubic, Switch::On)?;
    let detached = transfer(&control, || probes.detach())?;
    println!("stock: {stock:?}; governed for half the time: {detached:?}");

    assert!(
        detached.lost_first_half * 10 <= stock.lost,
        "governed at first"
    );
    assert!(control.report().stale_periods > 0, "it noticed");
    // The processor is others' too; a sender that stalls would have half.
    assert!(detached.delivered * 10 >= stock.delivered * 9);
    // As base it fills the queue again, and loses what base loses; no burst beyond that.
    let lost_as_base = detached.lost - detached.lost_first_half;
    assert!(lost_as_base <= 2 * stock.lost, "{lost_as_base}");
    Ok(())
}

fn main() -> std::process::ExitCode {
    live_test::main()
}
