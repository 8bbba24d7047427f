//! Topologies that hosts have: what is reported of a flow is what `tc` and the receiver say.

mod bed;
mod bystanders;
mod containers;
mod devices;
mod hooks;
mod link_local;
mod shapers;
