//! What the programs in this package share. The programs are beside this package's `Cargo.toml`:
//! `loopback.rs`, `server.rs`, `client.rs`.

#![forbid(unsafe_code)]

pub mod args;
pub mod baseline;
pub mod certificate;
pub mod comparison;
mod connect;
pub mod control;
pub mod download;
pub mod endpoint;
pub mod interrupt;
pub mod invented;
pub mod lines;
pub mod measure;
pub mod output;
pub mod peer;
pub mod program;
pub mod receive;
pub mod report;
pub mod send;
pub mod serve;
mod served;
pub mod signals;
pub mod source;
pub mod table;
pub mod trace;
pub mod units;
pub mod upload;

/// The code in the documents compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
#[doc = include_str!("../../docs/signals.md")]
pub struct Documents;
