//! Which signals are available.

use super::options::{EbpfOptions, Signal};
use super::probes;
use super::reasons::Reasons;
use crate::source::Capability;

/// The signals that work on this kernel and were chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct AvailableSignals {
    pub(super) sends: bool,
    pub(super) packets: bool,
    pub(super) host_packets: bool,
    pub(super) drops: bool,
    /// Drop reasons.
    pub(super) reasons: bool,
    pub(super) queues: bool,
    pub(super) send_buffers: bool,
    pub(super) receive_buffers: bool,
    pub(super) softirqs: bool,
    pub(super) buffers: bool,
    /// Their occupancy over time.
    pub(super) pressures: bool,
}

impl AvailableSignals {
    pub(super) fn new(
        options: &EbpfOptions,
        capabilities: &[Capability],
        reasons: &Reasons,
    ) -> Self {
        let works = |probe: &str| {
            capabilities
                .iter()
                .any(|capability| capability.name == probe && capability.missing.is_none())
        };
        let sends_seen = works(probes::SEND) || works("udp_sendmsg");
        Self {
            sends: options.has(Signal::Sends) && sends_seen,
            // Whatever that probe was attached for.
            packets: works(probes::PACKETS),
            host_packets: options.has(Signal::Sends) && works(probes::PACKETS),
            drops: options.has(Signal::Drops) && works("kfree_skb"),
            reasons: !reasons.is_empty(),
            queues: options.has(Signal::Queues) && works("qdisc_enqueue") && works("qdisc_dequeue"),
            send_buffers: options.has(Signal::Buffers) && sends_seen,
            receive_buffers: options.has(Signal::Buffers)
                && (works(probes::RECEIVE) || works("udp_recvmsg")),
            softirqs: options.has(Signal::Softirqs)
                && works("softirq_entry")
                && works("softirq_exit"),
            buffers: options.has(Signal::Buffers) || options.governing,
            pressures: options.has(Signal::Buffers),
        }
    }
}

#[cfg(feature = "testing")]
impl AvailableSignals {
    /// Everything.
    pub(super) const ALL: Self = Self {
        sends: true,
        packets: true,
        host_packets: true,
        drops: true,
        reasons: true,
        queues: true,
        send_buffers: true,
        receive_buffers: true,
        softirqs: true,
        buffers: true,
        pressures: true,
    };
}
