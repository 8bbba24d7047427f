//! One of the two senders, measured.

use std::time::{Duration, Instant};

use quinn::Endpoint;
use quinn_governor::{GovernorReport, Governors};
use serde::Serialize;
use tokio::runtime::Runtime;

use super::Plan;
use super::network::{Drops, Network, NetworkKind};
use super::progress::{Course, Sample};
use crate::args::{Load, Switch};
use crate::certificate::{self, Trust};
use crate::control::Control;
use crate::endpoint;
use crate::receive::Receiving;
use crate::report::SenderReport;
use crate::signals::Observation;
use crate::source::Source;
use crate::units::rounded;
use crate::upload::Uploads;

/// How long the queue may take to be empty when nothing is sent any more.
const DRAINED: Duration = Duration::from_secs(2);

/// What a sender did.
pub(super) struct Side {
    pub(super) report: SenderReport,
    pub(super) drops: Drops,
    /// `None` where nothing was governed.
    pub(super) governor: Option<GovernorReport>,
    pub(super) samples: Vec<Sample>,
    pub(super) interrupted: bool,
}

/// The figures of the table. Times are in microseconds, sizes in bytes.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Summary {
    /// Datagrams that this machine's queue dropped; null where there is none.
    pub(super) dropped_by_queue: Option<u64>,
    /// Datagrams for which the receiver's buffer had no room.
    pub(super) dropped_by_receiver: u64,
    /// Datagrams dropped by the relay that emulates the network, because the processor was busy.
    pub(super) dropped_by_relay: u64,
    pub(super) lost_packets: u64,
    /// Median of the round trip, over the idle path's.
    pub(super) rtt_p50_over_idle_us: u64,
    pub(super) rtt_p99_over_idle_us: u64,
    pub(super) goodput_mbps: f64,
    pub(super) window_p50: u64,
    pub(super) backlog_p50: Option<u64>,
    pub(super) backlog_max: Option<u64>,
    /// What the governor did; null for the stock sender, and without signals.
    pub(super) governor: Option<Actions>,
}

/// What a governor did.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Actions {
    /// Share of the time that the window was held under the base controller's.
    pub(super) capped: f64,
    pub(super) local_drop_reductions: u64,
    pub(super) slow_start_exits: u64,
    pub(super) receive_reductions: u64,
}

/// Sends, stock or governed.
pub(super) fn measure(
    network: &Network,
    runtime: &Runtime,
    source: &Source,
    plan: &Plan,
    governor: Switch,
    course: &mut Course,
) -> anyhow::Result<Side> {
    let [sender, receiver] = controls(network, source, plan, governor)?;
    let (certificate, tls) = certificate::generate()?;
    let socket = network.receiver()?;
    let ends = network.join(socket.local_addr()?)?;
    let receiver_watch = receiver.watch(&socket, None);
    let server = {
        let _entered = runtime.enter();
        let config = receiver.server_config(endpoint::server_config(tls));
        receiver.endpoint(Some(config), socket)?
    };
    let serving = runtime.spawn(serve(server.clone(), receiver.governors().clone()));

    let name = match governor {
        Switch::Off => "stock",
        Switch::On => "governed",
    };
    let mut observer = course.begin(network, name);
    let load = Load::new(plan.seconds, 1);
    let (report, interrupted, sent) = network.run(|| {
        runtime.block_on(async {
            let mut observation = match sender.source().signals() {
                Some(source) => Some(Observation::start(source).await?),
                None => None,
            };
            let trust = Trust::Only(certificate);
            let uploads = Uploads::connect(ends.destination, &trust, load, &sender).await?;
            let connection = uploads.connection(0).clone();
            let measured = uploads
                .run(&sender, observation.as_mut(), &mut observer)
                .await?;
            let observation = observation.as_ref();
            let others = observation.zip(receiver_watch.as_ref());
            let others =
                others.map(|(observation, watch)| observation.flow("receiver".to_owned(), watch));
            let others: Vec<_> = others.into_iter().collect();
            let report = SenderReport::new(&measured, &sender, observation, &others);
            if let Some(failure) = measured.failure {
                return Err(failure);
            }
            // With what was sent to close the connection.
            anyhow::Ok((
                report,
                measured.interrupted,
                connection.stats().udp_tx.datagrams,
            ))
        })
    })??;
    let samples = std::mem::take(&mut observer.samples);
    drop(observer);
    let drops = {
        let deadline = Instant::now() + DRAINED;
        while network.backlog().is_some_and(|backlog| backlog > 0) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        // The relay's threads take in at once what has left the queue.
        std::thread::sleep(Duration::from_millis(5));
        network.drops(&ends, sent)?
    };
    serving.abort();
    runtime.block_on(async { server.close(0_u32.into(), b"done") });
    let governed = [&sender, &receiver].into_iter();
    let mut governed = governed.filter(|control| control.governor() == Switch::On);
    Ok(Side {
        report,
        drops,
        governor: governed.next().map(Control::report),
        samples,
        interrupted,
    })
}

/// The sender's and the receiver's. Over an uplink the sender is governed, which is what fills the
/// queue; over loopback the receiver, whose buffer overflows.
fn controls(
    network: &Network,
    source: &Source,
    plan: &Plan,
    governor: Switch,
) -> anyhow::Result<[Control; 2]> {
    let governed = Control::over(source.clone(), plan.base, governor)?;
    let stock = Control::over(source.clone(), plan.base, Switch::Off)?;
    Ok(match network.kind() {
        NetworkKind::Uplink => {
            // The receiver is in another namespace, and nothing but a receiver.
            let receiver = Control::over(Source::None(None), plan.base, Switch::Off)?;
            [governed, receiver]
        }
        NetworkKind::Loopback => [stock, governed],
    })
}

/// Receives every upload.
async fn serve(server: Endpoint, governors: Governors) {
    while let Some(incoming) = server.accept().await {
        let governors = governors.clone();
        tokio::spawn(async move {
            let received = async {
                let connection = incoming.await?;
                let _window = governors.receive(&connection);
                Receiving::default().receive(&connection).await
            };
            if let Err(error) = received.await {
                tracing::warn!("a connection failed: {error:#}");
            }
        });
    }
}

impl Side {
    /// The round trip of the path with an empty queue, in microseconds: the least that either saw.
    pub(super) fn idle_round_trip(sides: [&Self; 2]) -> u64 {
        let least = sides.iter().map(|side| side.report.rtt_us.min).min();
        least.unwrap_or_default()
    }

    pub(super) fn summary(&self, idle: u64) -> Summary {
        let report = &self.report;
        let backlog = self.backlog();
        Summary {
            dropped_by_queue: self.drops.queue,
            dropped_by_receiver: self.drops.receiver,
            dropped_by_relay: self.drops.relay,
            lost_packets: report.lost_packets,
            rtt_p50_over_idle_us: report.rtt_us.p50.saturating_sub(idle),
            rtt_p99_over_idle_us: report.rtt_us.p99.saturating_sub(idle),
            goodput_mbps: report.goodput_mbps,
            window_p50: report.cwnd.p50,
            backlog_p50: backlog.map(|(median, _)| median),
            backlog_max: backlog.map(|(_, most)| most),
            governor: self.governor.map(|governor| Actions {
                capped: rounded(governor.capped.as_secs_f64() / report.seconds),
                local_drop_reductions: governor.local_drop_reductions,
                slow_start_exits: governor.slow_start_exits,
                receive_reductions: governor.receive_reductions,
            }),
        }
    }

    /// Median and maximum.
    fn backlog(&self) -> Option<(u64, u64)> {
        let mut backlogs: Vec<u64> = self
            .samples
            .iter()
            .filter_map(|sample| sample.backlog)
            .collect();
        backlogs.sort_unstable();
        Some((*backlogs.get(backlogs.len() / 2)?, *backlogs.last()?))
    }
}
