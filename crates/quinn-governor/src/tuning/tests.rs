use std::time::Duration;

use crate::law::constants::Tuning;
use crate::receive::constants::ReceiveTuning;

#[test]
fn one_number_is_scaled_and_no_other() {
    let scaled = Tuning::scaled("shrink_time", 2.0).unwrap();
    assert_eq!(scaled.shrink_time, Duration::from_millis(64));
    let rest = Tuning {
        shrink_time: Tuning::STANDARD.shrink_time,
        ..scaled
    };
    assert_eq!(rest, Tuning::STANDARD);
    assert!(Tuning::scaled("no such number", 2.0).is_none());
    for name in Tuning::NAMES {
        assert_eq!(Tuning::scaled(name, 1.0), Some(Tuning::STANDARD), "{name}");
    }
}

#[test]
fn each_law_has_numbers_of_its_own() {
    let scaled = ReceiveTuning::scaled("reduction", 0.5).unwrap();
    assert_eq!(scaled.reduction, ReceiveTuning::STANDARD.reduction / 2.0);
    assert!(ReceiveTuning::scaled("min_window_datagrams", 2.0).is_none());
    for name in ReceiveTuning::NAMES {
        let same = ReceiveTuning::scaled(name, 1.0);
        assert_eq!(same, Some(ReceiveTuning::STANDARD), "{name}");
    }
}
