//! Records that slots of several kinds hold.

use ebpf_congestion_signals_common::{
    Direction, DropClass, DropCounters, PRESSURE_ONE, Peak, Pressure, SPANS, SendCounters,
};

use super::{Load, load};
use crate::sample::{DropTable, PressurePeaks, PressureSample};

fn drop_counters(counters: *const DropCounters) -> DropCounters {
    DropCounters {
        skbs: load!(counters, skbs),
        packets: load!(counters, packets),
        bytes: load!(counters, bytes),
    }
}

pub(in crate::ebpf) fn send_counters(counters: *const SendCounters) -> SendCounters {
    SendCounters {
        bytes: load!(counters, bytes),
        calls: load!(counters, calls),
        estimated: load!(counters, estimated),
    }
}

pub(in crate::ebpf) fn pressure(pressure: *const Pressure) -> PressureSample {
    let mut peaks = [Peak::default(); SPANS];
    for (place, peak) in peaks.iter_mut().enumerate() {
        *peak = Peak {
            span: load!(pressure, peaks[place].span),
            share: load!(pressure, peaks[place].share),
        };
    }
    PressureSample {
        sum: load!(pressure, sum) as f64 / f64::from(PRESSURE_ONE),
        samples: load!(pressure, samples),
        peaks: PressurePeaks::new(peaks),
    }
}

/// Counters of one direction, by class.
pub(in crate::ebpf) type Classes = [DropCounters; DropClass::COUNT];

/// Adds the counters of some directions, which lie one behind the other at `drops`.
#[inline]
pub(in crate::ebpf) fn add_drops(
    table: &mut DropTable,
    drops: *const Classes,
    directions: &[Direction],
) {
    for direction in directions {
        // SAFETY: callers name directions that there are counters of inside the mapping.
        let classes = unsafe { drops.add(*direction as usize) };
        let dropped = |class| load!(classes, [class as usize].skbs);
        // The common case: no drops.
        if DropClass::ALL
            .map(dropped)
            .iter()
            .fold(0, |any, skbs| any | skbs)
            == 0
        {
            continue;
        }
        for class in DropClass::ALL {
            // SAFETY: as above.
            let counters = unsafe { &raw const (*classes)[class as usize] };
            table.add(*direction, class, drop_counters(counters));
        }
    }
}
