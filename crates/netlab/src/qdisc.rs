use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_ECHO, NLM_F_REPLACE};
use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{TcAttribute, TcHandle, TcMessage, TcOption, TcStats2},
};

use crate::{
    device::{Device, refused},
    error::Error,
};

/// A token bucket: the bottleneck of a path, the kernel's sch_tbf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    /// The rate at which bytes leave, in bits per second, link-layer headers included.
    pub rate: u64,
    /// Bytes that may leave at once after idleness. A segmentation batch larger than this is
    /// split when it enters the queue; a smaller one passes whole. At least a packet.
    pub burst: u32,
    /// Bytes that may wait; what comes beyond is dropped.
    pub limit: u32,
}

impl TokenBucket {
    /// The longest time that a byte waits in the full queue, in seconds.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "no rate needs more than 53 bits"
    )]
    pub fn full_queue_delay(&self) -> f64 {
        f64::from(self.limit) * 8.0 / self.rate as f64
    }

    /// Makes this the root queue of `device`, or changes the token bucket that is there.
    pub(crate) fn install(&self, device: Device<'_>) -> Result<(), Error> {
        let mut message = root_of(device)?;
        message.attributes = vec![
            TcAttribute::Kind("tbf".to_owned()),
            TcAttribute::Options(self.options()),
        ];
        let request = RouteNetlinkMessage::NewQueueDiscipline(message);
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        device.request(request, flags, || format!("make the queue {self:?}"))
    }

    /// The attributes of sch_tbf (linux/pkt_sched.h), which netlink-packet-route does not know.
    fn options(&self) -> Vec<TcOption> {
        const TCA_TBF_PARMS: u16 = 1;
        const TCA_TBF_RATE64: u16 = 4;
        const TCA_TBF_BURST: u16 = 6;
        /// With it the kernel needs no table of transmission times.
        const TC_LINKLAYER_ETHERNET: u8 = 1;

        let bytes_per_second = self.rate / 8;
        let rate = u32::try_from(bytes_per_second).unwrap_or(u32::MAX);
        // struct tc_tbf_qopt: two tc_ratespec, limit, buffer and mtu. The burst in bytes has an
        // attribute of its own, so the buffer in clock ticks stays zero; there is no peak rate.
        let mut parameters = vec![0, TC_LINKLAYER_ETHERNET, 0, 0, 0, 0, 0, 0];
        parameters.extend(rate.to_ne_bytes());
        parameters.extend([0; 12]);
        parameters.extend(self.limit.to_ne_bytes());
        parameters.extend([0; 8]);
        let mut options = vec![
            (TCA_TBF_PARMS, parameters),
            (TCA_TBF_BURST, self.burst.to_ne_bytes().to_vec()),
        ];
        if rate == u32::MAX {
            options.push((TCA_TBF_RATE64, bytes_per_second.to_ne_bytes().to_vec()));
        }
        let options = options.into_iter();
        options
            .map(|(kind, value)| TcOption::Other(DefaultNla::new(kind, value)))
            .collect()
    }
}

/// What the kernel counted at a device's root queue since that queue was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QdiscStats {
    /// Bytes that left, link-layer headers included.
    pub sent_bytes: u64,
    /// Packets that left. A segmentation batch that left whole counts as its segments.
    pub sent_packets: u64,
    /// Drops, as the queue counts them: a segmentation batch dropped whole is one.
    pub dropped: u64,
    /// How often the queue held a packet back, or refused it, for lack of tokens or room.
    pub overlimits: u64,
    /// How often the device gave a packet back.
    pub requeues: u64,
    /// Bytes waiting now.
    pub backlog_bytes: u64,
    /// Packets waiting now; a segmentation batch is one.
    pub backlog_packets: u64,
}

impl QdiscStats {
    /// The counters of this reading less those of an `earlier` one; the backlog is this one's.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            sent_bytes: self.sent_bytes.wrapping_sub(earlier.sent_bytes),
            sent_packets: self.sent_packets.wrapping_sub(earlier.sent_packets),
            dropped: self.dropped.wrapping_sub(earlier.dropped),
            overlimits: self.overlimits.wrapping_sub(earlier.overlimits),
            requeues: self.requeues.wrapping_sub(earlier.requeues),
            ..*self
        }
    }
}

/// Reads the counters of a device's root queue.
pub(crate) fn read(device: Device<'_>) -> Result<QdiscStats, Error> {
    let request = RouteNetlinkMessage::GetQueueDiscipline(root_of(device)?);
    // Without the flag the kernel notifies only listeners of changes.
    let answer = device.netlink.request(request, NLM_F_ECHO);
    let action = || format!("ask for the queue of the device {}", device.name);
    match refused(answer, action)? {
        Some(RouteNetlinkMessage::NewQueueDiscipline(queue)) => Ok(stats(&queue)),
        answer => Err(Error::unreadable(
            format!(
                "the kernel's answer about the queue of the device {}",
                device.name
            ),
            format!("{answer:?}"),
        )),
    }
}

fn root_of(device: Device<'_>) -> Result<TcMessage, Error> {
    let index = i32::try_from(device.index);
    let index = index.map_err(|e| Error::unreadable("a device's index", e))?;
    let mut message = TcMessage::with_index(index);
    message.header.parent = TcHandle::ROOT;
    Ok(message)
}

fn stats(queue: &TcMessage) -> QdiscStats {
    let mut read = QdiscStats::default();
    let all = queue
        .attributes
        .iter()
        .filter_map(|attribute| match attribute {
            TcAttribute::Stats2(stats) => Some(stats),
            _ => None,
        });
    for stats in all.flatten() {
        match stats {
            TcStats2::Basic(basic) => {
                read.sent_bytes = basic.bytes;
                read.sent_packets = basic.packets.into();
            }
            TcStats2::Queue(queue) => {
                read.dropped = queue.drops.into();
                read.overlimits = queue.overlimits.into();
                read.requeues = queue.requeues.into();
                read.backlog_bytes = queue.backlog.into();
                read.backlog_packets = queue.qlen.into();
            }
            _ => {}
        }
    }
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_since_an_earlier_reading_are_differences_and_backlog_is_not() {
        let earlier = QdiscStats {
            sent_packets: 10,
            backlog_packets: 4,
            ..QdiscStats::default()
        };
        let later = QdiscStats {
            sent_packets: 12,
            backlog_packets: 3,
            ..QdiscStats::default()
        };
        let between = later.since(&earlier);
        assert_eq!((between.sent_packets, between.backlog_packets), (2, 3));
    }
}
