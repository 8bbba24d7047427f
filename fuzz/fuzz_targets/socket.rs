//! How the source without privilege parses what the kernel reports: a socket's memory, in the
//! ledger of its sends, and messages of rtnetlink.

#![no_main]

use std::collections::HashMap;
use std::net::SocketAddr;

use ebpf_congestion_signals::SocketSend;
use ebpf_congestion_signals::socket::ledger::{Destination, Ledger};
use ebpf_congestion_signals::socket::netlink::{Answer, answers};
use ebpf_congestion_signals::socket::truesize::Weight;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Socket(Vec<Step>),
    Netlink(&'a [u8]),
    /// Behind a header that is right, as far as it goes.
    Message {
        kind: Kind,
        body: &'a [u8],
    },
}

/// What happens to a socket.
#[derive(Arbitrary, Debug)]
enum Step {
    Send {
        destination: u8,
        bytes: u16,
        segment: Option<u16>,
        ipv6: bool,
    },
    Measure {
        truesize: u32,
        /// Sends since the kernel was asked.
        late: u8,
    },
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Kind {
    Qdisc = 36,
    Route = 24,
    Error = 2,
    Done = 3,
}

fn socket(steps: &[Step]) {
    let mut ledger = Ledger::new();
    let mut backlogs: HashMap<Destination, u64> = HashMap::new();
    let mut sent = 0u64;
    for step in steps {
        match *step {
            Step::Send {
                destination,
                bytes,
                segment,
                ipv6,
            } => {
                let address: SocketAddr = if ipv6 {
                    "[2001:db8::1]:443".parse().unwrap()
                } else {
                    "192.0.2.1:443".parse().unwrap()
                };
                let weight = Weight::of(&SocketSend {
                    destination: address,
                    bytes: bytes.into(),
                    segment: segment.map(usize::from),
                });
                assert!(weight.whole <= weight.split, "{weight:?}");
                assert!(weight.wire > 0 && weight.whole > 0);
                sent += weight.wire;
                let destination = Destination::from(destination);
                *backlogs.entry(destination).or_default() += weight.wire;
                ledger.sent(destination, weight, &mut |destination, bytes| {
                    let backlog = backlogs.get_mut(&destination).unwrap();
                    *backlog = backlog.checked_sub(bytes).unwrap();
                });
            }
            Step::Measure { truesize, late } => {
                let sequence = ledger.sequence().saturating_sub(late.into());
                ledger.measured(truesize.into(), sequence, &mut |destination, bytes| {
                    let backlog = backlogs.get_mut(&destination).unwrap();
                    *backlog = backlog.checked_sub(bytes).unwrap();
                });
                if truesize == 0 && late == 0 {
                    assert_eq!(ledger.backlog(), 0);
                    assert!(ledger.is_empty());
                }
            }
        }
        assert_eq!(backlogs.values().sum::<u64>(), ledger.backlog());
        assert!(ledger.backlog() <= sent);
    }
}

fn netlink(received: &[u8]) {
    let reported = answers(received);
    assert!(
        reported.len() <= received.len() / 16,
        "a header takes 16 bytes"
    );
    for answer in reported {
        if let Answer::Qdisc(qdisc) = answer {
            assert!(qdisc.kind.as_str().len() <= 16);
        }
    }
}

/// A message of rtnetlink.
fn message(kind: Kind, body: &[u8]) -> Vec<u8> {
    let length = 16 + body.len() as u32;
    let mut bytes = Vec::new();
    bytes.extend(length.to_ne_bytes());
    bytes.extend((kind as u16).to_ne_bytes());
    bytes.extend([0; 10]);
    bytes.extend(body);
    bytes
}

fuzz_target!(|input: Input<'_>| match input {
    Input::Socket(steps) => socket(&steps),
    Input::Netlink(received) => netlink(received),
    Input::Message { kind, body } => netlink(&message(kind, body)),
});
