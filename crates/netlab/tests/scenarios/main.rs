//! Stock and governed senders in the simulator's scenarios, against what must hold.
//!
//! Each test prints its table: run with `--release -- --nocapture --test-threads 1`. What is
//! reached must hold. A goal that is not reached is printed as MISSED, and the best that was reached
//! must hold instead; why it is missed stands beside it.

mod alone;
mod busy;
mod elsewhere;
mod field;
mod figures;
mod grid;
mod receivers;
mod senders;
mod shared;
mod signals;
mod transfers;
mod window;
