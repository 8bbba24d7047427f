//! Topologies that hosts have: what is reported of a flow is what `tc` and the receiver say.

mod bed;
mod bulks;
mod bystanders;
mod containers;
mod devices;
mod hooks;
mod late_module;
mod link_local;
mod random;
mod shapers;
mod translated;
mod tunnels;
