//! What half and double of each of the laws' numbers do, measured in the simulator.
//!
//! `cargo run --release -p netlab --example sensitivity -- sending|ablation|receiving [FILE]`
//!
//! With `ablation`, what each mechanism is worth: the same figures with one switched off.
//!
//! Writes a table in Markdown, of the law named, to the standard output or to a file. Those in the
//! documentation of the laws' modules are `crates/quinn-governor/src/law/sensitivity.md` (sending,
//! which takes several minutes) and `crates/quinn-governor/src/receive/sensitivity.md` (receiving,
//! a minute or two).

use std::error::Error;
use std::fs;

mod measure;
mod receiving;
mod sending;
#[path = "../../tests/scenarios/window.rs"]
mod window;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let table = match arguments.next().as_deref() {
        Some("sending") => measure::sensitivity(&sending::figures(), &sending::variations())?,
        Some("ablation") => measure::ablation(&sending::figures(), &sending::ablations())?,
        Some("receiving") => measure::sensitivity(&receiving::figures(), &receiving::variations())?,
        _ => return Err("usage: sensitivity sending|ablation|receiving [FILE]".into()),
    };
    match arguments.next() {
        Some(path) => fs::write(path, table)?,
        None => print!("{table}"),
    }
    Ok(())
}
