//! How full socket buffers were.

use std::time::Duration;

use ebpf_congestion_signals_common::{PRESSURE_ONE, Peak, SPAN_SHIFT, SPANS};

use super::KernelTime;

/// Occupancy of socket buffers, each sample as a share of the socket's limit. Counters: the average
/// of an interval is the difference of `sum` divided by the difference of `samples`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PressureSample {
    /// Sum of the shares (one can exceed 1.0: the kernel admits the last packet whole).
    pub sum: f64,
    /// Number of samples in `sum`.
    pub samples: u64,
    /// The largest shares of the last second.
    pub peaks: PressurePeaks,
}

impl PressureSample {
    /// The average share since an earlier sample; `None` if no buffer was sampled since.
    pub fn average_since(&self, earlier: &Self) -> Option<f64> {
        let samples = self.samples.saturating_sub(earlier.samples);
        (samples > 0).then(|| ((self.sum - earlier.sum) / samples as f64).max(0.0))
    }
}

/// The largest shares of the last second, in spans of an eighth of it: any number of readers can
/// ask for the peak of their interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PressurePeaks {
    spans: [Peak; SPANS],
}

impl PressurePeaks {
    /// The longest interval that is kept.
    pub const LONGEST: Duration = Duration::from_nanos((SPANS as u64 - 1) << SPAN_SHIFT);

    #[cfg_attr(
        not(all(feature = "ebpf", target_os = "linux")),
        allow(dead_code, reason = "only the kernel reports peaks")
    )]
    pub(crate) fn new(spans: [Peak; SPANS]) -> Self {
        Self { spans }
    }

    /// The largest of several CPUs' peaks.
    #[cfg_attr(
        not(all(feature = "ebpf", target_os = "linux")),
        allow(dead_code, reason = "only the kernel reports peaks")
    )]
    pub(crate) fn merge(&mut self, other: &Self) {
        for (ours, theirs) in self.spans.iter_mut().zip(&other.spans) {
            let newer = theirs.span.wrapping_sub(ours.span).cast_signed();
            if newer > 0 || (newer == 0 && theirs.share > ours.share) {
                *ours = *theirs;
            }
        }
    }

    /// The largest share between two moments, to 134 ms at the earlier end; `None` if the interval
    /// is longer than [`LONGEST`](Self::LONGEST).
    pub fn between(&self, earlier: KernelTime, later: KernelTime) -> Option<f64> {
        let share = ebpf_congestion_signals_common::peak(
            &self.spans,
            earlier.as_nanos(),
            later.as_nanos(),
        )?;
        Some(f64::from(share) / f64::from(PRESSURE_ONE))
    }
}

/// Occupancy of a socket's buffers when last seen, in bytes of `truesize` (what the kernel
/// charges) and, as far as is known, of payload. Gauges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BufferSample {
    /// Bytes in the send buffer: `sk_wmem_alloc` for UDP, `sk_wmem_queued` for TCP.
    pub wmem: u32,
    /// Limit of the send buffer: `sk_sndbuf`.
    pub sndbuf: u32,
    /// Payload in `wmem`, computed as if all packets were like the last one sent; `None` before the
    /// first.
    pub wmem_payload: Option<u32>,
    /// Bytes in the receive buffer: `sk_rmem_alloc`.
    pub rmem: u32,
    /// Limit of the receive buffer: `sk_rcvbuf`.
    pub rcvbuf: u32,
    /// Payload in `rmem`, computed as if all packets were like the one last seen at its head;
    /// `None` before a packet was left there by a receive.
    pub rmem_payload: Option<u32>,
}

#[cfg(test)]
mod tests {
    use ebpf_congestion_signals_common::{position, span};

    use super::*;

    fn peaks(noted: &[(u64, u32)]) -> PressurePeaks {
        let mut spans = [Peak::default(); SPANS];
        for (time, share) in noted {
            spans[position(span(*time))] = Peak {
                span: span(*time),
                share: *share,
            };
        }
        PressurePeaks::new(spans)
    }

    #[test]
    fn cpus_peaks_merge_to_the_newest_and_largest() {
        let now = 100 << SPAN_SHIFT;
        let later = now + (SPANS as u64) * (1 << SPAN_SHIFT);
        let mut merged = peaks(&[(now, PRESSURE_ONE)]);
        merged.merge(&peaks(&[(later, PRESSURE_ONE / 4)]));
        merged.merge(&peaks(&[(later, PRESSURE_ONE / 2)]));
        merged.merge(&peaks(&[(now, PRESSURE_ONE)]));
        let later = KernelTime::from_nanos(later);
        assert_eq!(merged.between(later, later), Some(0.5));
    }

    #[test]
    fn an_average_is_that_of_the_interval() {
        let sample = |sum, samples| PressureSample {
            sum,
            samples,
            ..PressureSample::default()
        };
        let average = sample(3.0, 14).average_since(&sample(1.0, 10));
        assert_eq!(average, Some(0.5));
        assert_eq!(sample(3.0, 14).average_since(&sample(3.0, 14)), None);
    }
}
