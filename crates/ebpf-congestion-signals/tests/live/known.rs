//! Samples whose figures must all be known: where one is absent, the test fails.

use ebpf_congestion_signals::{
    BufferSample, DropTable, FlowSample, KernelTime, LocalCongestion, PressureSample, QueueId,
    QueueSample, QueueState, SendCounters, SojournSample, Watch,
};

/// A [`QueueSample`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Queue {
    pub(crate) id: QueueId,
    pub(crate) own: u64,
    pub(crate) shared: u64,
    pub(crate) total: u64,
    pub(crate) drained: u64,
    pub(crate) limit: Option<u64>,
}

/// A [`LocalCongestion`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Congestion {
    pub(crate) live: bool,
    pub(crate) observed_packets: u64,
    pub(crate) queue: Option<Queue>,
    pub(crate) queue_drops: u64,
    /// Zero on kernels that tell no reasons.
    pub(crate) policy_drops: u64,
}

/// A [`FlowSample`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) updated: Option<KernelTime>,
    pub(crate) congestion: Congestion,
    pub(crate) sent_bytes: u64,
    pub(crate) sent_packets: u64,
    pub(crate) send: Option<SendCounters>,
    pub(crate) queue: Option<QueueState>,
    pub(crate) sojourn: SojournSample,
    pub(crate) buffers: Option<BufferSample>,
    pub(crate) send_pressure: PressureSample,
    pub(crate) receive_pressure: PressureSample,
    pub(crate) drops: DropTable,
}

/// Reads a watch for what must be known.
pub(crate) trait Known {
    fn known(&self) -> Congestion;
    fn known_sample(&self) -> Sample;
}

impl Known for Watch {
    fn known(&self) -> Congestion {
        congestion(&self.congestion())
    }

    fn known_sample(&self) -> Sample {
        let sample = self.sample();
        let FlowSample {
            updated,
            send,
            queue,
            buffers,
            send_pressure,
            receive_pressure,
            ..
        } = sample;
        Sample {
            updated,
            congestion: congestion(&sample.congestion),
            sent_bytes: sample.sent_bytes.expect("bytes sent are known"),
            sent_packets: sample.sent_packets.expect("packets sent are known"),
            send,
            queue,
            sojourn: sample.sojourn.unwrap_or_default(),
            buffers,
            send_pressure,
            receive_pressure,
            drops: sample.drops.expect("drops are known"),
        }
    }
}

fn congestion(congestion: &LocalCongestion) -> Congestion {
    Congestion {
        live: congestion.live,
        observed_packets: congestion.observed_packets.expect("packets are seen"),
        queue: congestion.queue.as_ref().map(queue),
        queue_drops: congestion.queue_drops.expect("drops are known"),
        policy_drops: congestion.policy_drops.unwrap_or_default(),
    }
}

fn queue(sample: &QueueSample) -> Queue {
    let known = |figure: Option<u64>| figure.unwrap_or_else(|| panic!("unknown in {sample:?}"));
    Queue {
        id: sample.id,
        own: known(sample.own),
        shared: known(sample.shared),
        total: known(sample.total),
        drained: known(sample.drained),
        limit: sample.limit,
    }
}
