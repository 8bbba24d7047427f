//! What a governed connection takes in memory.

use quinn_governor::GovernedController;

#[test]
fn a_controller_does_not_grow() {
    // Without the wrapped controller, which has a box of its own. The aim is 512.
    let bytes = size_of::<GovernedController>();
    assert!(bytes <= 584, "{bytes} bytes");
}
