//! The programs at the ends of a run, and their arguments.

use std::net::SocketAddr;
use std::path::Path;

use netlab::Namespace;

use super::choices::{BottleneckAt, Disturbance, Signals};
use super::figures::Side;
use super::parameters::{PAYLOAD, Parameters};
use super::topology::{Topology, bytes, whole};

const PORT: u16 = 4433;

/// Bytes of a small send buffer. The kernel doubles them and charges 2,304 for a full datagram, so
/// that 28 fit: 7 ms at 50 Mbit/s.
const SMALL_BUFFER: u32 = 32_768;

/// The two programs of a run.
pub(super) struct Ends<'a> {
    pub(super) server: &'a Namespace,
    pub(super) server_options: String,
    pub(super) client: &'a Namespace,
    pub(super) client_options: String,
}

impl<'a> Ends<'a> {
    /// Arguments of the server and of the client. The one that sends is measured: it is in front of
    /// the bottleneck, is governed or not, and writes the trace.
    pub(super) fn of(
        parameters: &Parameters,
        topology: &'a Topology,
        side: Side,
        trace: &Path,
    ) -> Self {
        let (sender_address, receiver_address) = topology.addresses();
        let base = base_name(parameters);
        let measured = format!(
            "{} --base {base} --json --trace {}",
            signals(parameters, side),
            trace.display()
        );
        if parameters.peers > 0 {
            let address = SocketAddr::new(sender_address, PORT);
            let (peers, seconds) = (parameters.peers, parameters.seconds);
            let mut moves = format!(
                " --half-open {} --reconnects {}",
                parameters.half_open, parameters.reconnects
            );
            if parameters.one_socket {
                moves += " --one-socket";
            }
            if parameters.disturb == Some(Disturbance::Rebind) {
                moves += &format!(" --rebind-after {}", Disturbance::begins(parameters));
            }
            return Self {
                server: topology.sender(),
                server_options: format!("--listen {address} --flows {peers} {measured}"),
                client: topology.receiver(),
                client_options: format!(
                    "--connect {address} --seconds {seconds} --flows {peers} --download \
                     --source none --json{moves}"
                ),
            };
        }
        let address = SocketAddr::new(receiver_address, PORT);
        Self {
            server: topology.receiver(),
            server_options: format!("--listen {address} {}", Self::receiving(parameters, side)),
            client: topology.sender(),
            client_options: format!(
                "--connect {address} {measured} {}{}",
                Self::sending(parameters),
                baseline(parameters, side)
            ),
        }
    }

    /// A receiving server's options.
    fn receiving(parameters: &Parameters, side: Side) -> String {
        let mut options = if parameters.bottleneck == BottleneckAt::SameHost {
            // There the receiving side can do something about it.
            signals(parameters, side)
        } else {
            "--source none".to_owned()
        };
        if let Some(buffer) = parameters.receive_buffer_kb {
            options += &format!(" --receive-buffer {}", bytes(buffer));
        }
        options
    }

    /// A sending client's options.
    fn sending(parameters: &Parameters) -> String {
        let mut options = format!(
            "--seconds {} --flows {}",
            parameters.seconds, parameters.flows
        );
        if parameters.stagger_s > 0.0 {
            options += &format!(" --stagger {}", parameters.stagger_s);
        }
        if parameters.download_first_s > 0.0 {
            options += &format!(" --download-first {}", parameters.download_first_s);
        }
        if let Some(burst) = parameters.burst_kb {
            let pause = parameters.pause_ms / 1e3;
            options += &format!(" --burst {} --pause {pause}", bytes(burst));
        }
        options += &format!(
            " --half-open {} --reconnects {}",
            parameters.half_open, parameters.reconnects
        );
        if parameters.one_socket {
            options += " --one-socket";
        }
        if parameters.disturb == Some(Disturbance::Rebind) {
            options += &format!(" --rebind-after {}", Disturbance::begins(parameters));
        }
        if let Some(share) = parameters.detach {
            options += &format!(" --detach-after {}", share * parameters.seconds);
        }
        options
    }

    /// Options of stock clients beside the measured ones.
    pub(super) fn rivals(parameters: &Parameters, topology: &Topology) -> String {
        let address = SocketAddr::new(topology.addresses().1, PORT);
        let base = base_name(parameters);
        let Parameters {
            rivals, seconds, ..
        } = parameters;
        format!(
            "--connect {address} --seconds {seconds} --flows {rivals} --base {base} \
             --governor off --source none --json"
        )
    }
}

/// By whose signals a side is governed, or only watched.
fn signals(parameters: &Parameters, side: Side) -> String {
    let (source, governor) = match (side, parameters.source) {
        (Side::BySocket, _) => (Signals::Socket, "on"),
        (Side::Governed, source) => (source, "on"),
        (_, Signals::Ebpf) if !parameters.unwatched => (Signals::Ebpf, "off"),
        // A socket reports to a source where it is governed alone.
        _ => (Signals::None, "off"),
    };
    format!("--source {} --governor {governor}", source.name())
}

/// What else is done against a standing queue.
fn baseline(parameters: &Parameters, side: Side) -> String {
    match side {
        Side::SmallBuffer => format!(" --send-buffer {SMALL_BUFFER}"),
        Side::Gate => " --send-gate".to_owned(),
        Side::FixedRate => {
            let payload = parameters.rate_mbps * PAYLOAD;
            format!(" --fixed-rate {}", whole(payload).max(1))
        }
        _ => String::new(),
    }
}

fn base_name(parameters: &Parameters) -> String {
    format!("{:?}", parameters.base).to_lowercase()
}
