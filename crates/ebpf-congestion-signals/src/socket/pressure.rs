//! How full a socket's buffer was at each sample.

use std::sync::atomic::{AtomicU64, Ordering};

use ebpf_congestion_signals_common::{PRESSURE_ONE, Peak, SPANS, position, span};

use super::flow::add;
use crate::sample::{KernelTime, PressurePeaks, PressureSample};

/// Counters of one buffer; written by one at a time.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    sum: AtomicU64,
    samples: AtomicU64,
    /// A span in the high half, its largest share in the low one.
    peaks: [AtomicU64; SPANS],
}

impl Pressure {
    pub(super) fn note(&self, bytes: u32, limit: u32, now: KernelTime) {
        let one = u64::from(PRESSURE_ONE);
        let Some(share) = (u64::from(bytes) * one).checked_div(limit.into()) else {
            return;
        };
        add(&self.sum, share);
        add(&self.samples, 1);
        let span = span(now.as_nanos());
        let peak = &self.peaks[position(span)];
        let before = unpack(peak.load(Ordering::Relaxed));
        let share = u32::try_from(share).unwrap_or(u32::MAX);
        if before.span != span || share > before.share {
            let packed = u64::from(span) << 32 | u64::from(share);
            peak.store(packed, Ordering::Relaxed);
        }
    }

    pub(super) fn sample(&self) -> PressureSample {
        let peaks = std::array::from_fn(|at| unpack(self.peaks[at].load(Ordering::Relaxed)));
        PressureSample {
            sum: self.sum.load(Ordering::Relaxed) as f64 / f64::from(PRESSURE_ONE),
            samples: self.samples.load(Ordering::Relaxed),
            peaks: PressurePeaks::new(peaks),
        }
    }
}

fn unpack(packed: u64) -> Peak {
    #[expect(clippy::cast_possible_truncation, reason = "one half each")]
    Peak {
        span: (packed >> 32) as u32,
        share: packed as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn average_and_peak_are_those_of_the_readings() {
        let pressure = Pressure::default();
        let start = KernelTime::from_nanos(1 << 40);
        for bytes in [100, 900, 200] {
            pressure.note(bytes, 1000, start);
        }
        pressure.note(5, 0, start);
        let sample = pressure.sample();
        assert_eq!(sample.samples, 3);
        assert!((sample.sum - 1.2).abs() < 0.001);
        let peak = sample.peaks.between(start, start).unwrap();
        assert!((peak - 0.9).abs() < 0.001);
    }
}
