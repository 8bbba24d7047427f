//! Whatever happens to a connection and whatever its source says, the governed controller keeps
//! what it promises; [`drive`] says what that is.

#![no_main]

use libfuzzer_sys::fuzz_target;
use quinn_governor::testing::{BaseChoice, Op, drive};

fuzz_target!(|input: (BaseChoice, Vec<Op>)| {
    let (base, ops) = input;
    drive(base, &ops);
});
