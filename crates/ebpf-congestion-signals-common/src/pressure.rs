//! How full buffers were: on average, and at most in the last second.

/// Shares of a limit are counted in this many parts.
pub const PRESSURE_ONE: u32 = 65_536;

/// A span of [`Pressure::peaks`] is 2 to the power of this many nanoseconds: 134 ms.
pub const SPAN_SHIFT: u32 = 27;

/// Spans kept: together 1.07 s.
pub const SPANS: usize = 8;

/// The largest share seen in one span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Peak {
    /// The span: kernel time shifted down by [`SPAN_SHIFT`], its low 32 bits.
    pub span: u32,
    /// The largest share in it, in [`PRESSURE_ONE`]ths.
    pub share: u32,
}

/// Occupancy of buffers over their limit, at each sample. A share can exceed one: the kernel
/// admits the last packet whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Pressure {
    /// Sum of the shares, in [`PRESSURE_ONE`]ths. Counter.
    pub sum: u64,
    /// Shares that `sum` sums over. Counter.
    pub samples: u64,
    /// Peaks of the last [`SPANS`] spans in which there was one, by the span's low bits.
    pub peaks: [Peak; SPANS],
    /// The kernel's tick (`jiffies`) of the last sample. For the probes alone.
    pub tick: u32,
    /// The span that this tick lies in: the time is asked for once a tick. For the probes alone.
    pub span: u32,
}

/// The span that a kernel time lies in.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "19 years pass before it repeats"
)]
pub const fn span(time_ns: u64) -> u32 {
    (time_ns >> SPAN_SHIFT) as u32
}

/// The position of a span in [`Pressure::peaks`].
#[inline(always)]
pub const fn position(span: u32) -> usize {
    span as usize % SPANS
}

/// The largest share of the spans from the one of `since_ns` to that of `now_ns`, in
/// [`PRESSURE_ONE`]ths; `None` when that is longer ago than is kept.
pub fn peak(peaks: &[Peak; SPANS], since_ns: u64, now_ns: u64) -> Option<u32> {
    let (first, last) = (span(since_ns), span(now_ns));
    let spans = last.wrapping_sub(first) as usize;
    if since_ns > now_ns || spans >= SPANS {
        return None;
    }
    let within = |peak: &&Peak| last.wrapping_sub(peak.span) as usize <= spans;
    let shares = peaks.iter().filter(within).map(|peak| peak.share);
    Some(shares.max().unwrap_or(0))
}

const _: () = {
    assert!(size_of::<Pressure>() == 24 + 8 * SPANS);
    assert!(SPANS.is_power_of_two());
};

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN_NS: u64 = 1 << SPAN_SHIFT;

    fn peaks(noted: &[(u64, u32)]) -> [Peak; SPANS] {
        let mut peaks = [Peak::default(); SPANS];
        for (time, share) in noted {
            let span = span(*time);
            peaks[position(span)] = Peak {
                span,
                share: *share,
            };
        }
        peaks
    }

    #[test]
    fn a_peak_is_that_of_the_spans_asked_for() {
        let start = 100 * SPAN_NS;
        let peaks = peaks(&[
            (start, 900),
            (start + SPAN_NS, 50),
            (start + 3 * SPAN_NS, 70),
        ]);
        let now = start + 3 * SPAN_NS + 5;
        assert_eq!(peak(&peaks, start, now), Some(900));
        assert_eq!(peak(&peaks, start + SPAN_NS, now), Some(70));
        assert_eq!(peak(&peaks, now, now), Some(70));
    }

    #[test]
    fn a_peak_of_an_earlier_round_is_forgotten() {
        let start = 100 * SPAN_NS;
        let peaks = peaks(&[(start, 900)]);
        let later = start + SPANS as u64 * SPAN_NS;
        assert_eq!(peak(&peaks, later - SPAN_NS, later), Some(0));
    }

    #[test]
    fn longer_ago_than_is_kept_is_not_answered() {
        let peaks = peaks(&[]);
        assert_eq!(peak(&peaks, 0, SPANS as u64 * SPAN_NS), None);
        assert_eq!(peak(&peaks, 10, 5), None);
    }
}
