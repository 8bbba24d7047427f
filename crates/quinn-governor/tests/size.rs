//! What a governed connection takes in memory.

use quinn_governor::GovernedController;

#[test]
fn a_controller_does_not_grow() {
    // Without the wrapped controller, which has a box of its own. The aim is 512.
    let bytes = size_of::<GovernedController>();
    let tuning = if cfg!(feature = "tuning") { 8 } else { 0 };
    let decisions = if cfg!(feature = "qlog") { 16 } else { 0 };
    assert!(bytes <= 584 + tuning + decisions, "{bytes} bytes");
}
