//! The server that a client connects to.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use anyhow::Context;

/// A host, by its name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    text: String,
}

impl Peer {
    /// The first of its addresses, as the system's resolver knows them.
    pub fn resolve(&self) -> anyhow::Result<SocketAddr> {
        let addresses = self.text.to_socket_addrs();
        let mut addresses = addresses.with_context(|| format!("cannot find the host of {self}"))?;
        addresses
            .next()
            .with_context(|| format!("{self} has no address"))
    }
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let advice = "give a host and a port, such as example.org:4433, 192.0.2.1:4433 or \
                      [2001:db8::1]:4433";
        let (host, port) = text.rsplit_once(':').ok_or(advice)?;
        // Several colons are an address without brackets.
        let is_host = !host.is_empty() && (!host.contains(':') || host.starts_with('['));
        if is_host && port.parse::<u16>().is_ok() {
            Ok(Self {
                text: text.to_owned(),
            })
        } else {
            Err(advice.to_owned())
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_named_or_addressed() {
        for text in [
            "localhost:1",
            "example.org:4433",
            "127.0.0.1:4433",
            "[::1]:4433",
        ] {
            assert!(text.parse::<Peer>().is_ok(), "{text}");
        }
        let peer: Peer = "localhost:4433".parse().unwrap();
        let address = peer.resolve().unwrap();
        assert!(address.ip().is_loopback());
        assert_eq!(address.port(), 4433);
    }

    #[test]
    fn what_lacks_a_port_is_refused_with_advice() {
        for text in [
            "nowhere",
            "127.0.0.1",
            "::1",
            "::1:4433",
            ":4433",
            "host:port",
            "host:70000",
        ] {
            let advice = text.parse::<Peer>().unwrap_err();
            assert!(advice.contains("example.org:4433"), "{text}");
        }
    }
}
