use std::{
    io,
    net::UdpSocket,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use netlab::{Addresses, Error, Path};
use nix::sys::socket::{getsockopt, setsockopt, sockopt};

/// Ethernet, IPv4 and UDP headers: what a queue counts beyond the payload.
pub(crate) const HEADERS_V4: usize = 14 + 20 + 8;

/// Room that no test here overflows, on any machine.
const RECEIVE_BUFFER: usize = 32 << 20;

/// Room that no test here overflows where its receiver is not kept from running.
const ENOUGH: usize = 4 << 20;

/// The two ends of a flow, the sender's connected to the receiver's.
pub(crate) struct Flow {
    pub(crate) sender: UdpSocket,
    pub(crate) receiver: UdpSocket,
}

/// What arrived.
pub(crate) struct Arrivals {
    pub(crate) datagrams: u64,
    pub(crate) between_first_and_last: Duration,
}

impl Flow {
    pub(crate) fn new(path: &Path, ends: Addresses) -> Result<Self, Box<dyn std::error::Error>> {
        let bind = |address| move || UdpSocket::bind((address, 0));
        let receiver = path.receiver().run(bind(ends.receiver))??;
        let sender = path.sender().run(bind(ends.sender))??;
        sender.connect(receiver.local_addr()?)?;
        if setsockopt(&receiver.as_fd(), sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            // In a user namespace not even root may exceed net.core.rmem_max.
            setsockopt(&receiver.as_fd(), sockopt::RcvBuf, &ENOUGH)?;
            let room = getsockopt(&receiver.as_fd(), sockopt::RcvBuf)?;
            let missing =
                || format!("net.core.rmem_max is less than {ENOUGH}: raise it, or run as root");
            live_test::require((room < 2 * ENOUGH).then(missing))?;
        }
        for socket in [&sender, &receiver] {
            socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        }
        Ok(Self { sender, receiver })
    }

    /// Sends as fast as the socket takes it. Returns how many datagrams.
    pub(crate) fn blast(&self, payload: &[u8], time: Duration) -> io::Result<u64> {
        let start = Instant::now();
        let mut sent = 0;
        while start.elapsed() < time {
            self.sender.send(payload)?;
            sent += 1;
        }
        Ok(sent)
    }

    /// Receives until nothing came for `silence`.
    pub(crate) fn drain(&self, silence: Duration) -> io::Result<Arrivals> {
        self.receiver.set_read_timeout(Some(silence))?;
        let mut buffer = [0; 1500];
        let mut arrivals = Arrivals {
            datagrams: 0,
            between_first_and_last: Duration::ZERO,
        };
        let mut first = None;
        loop {
            match self.receiver.recv(&mut buffer) {
                Ok(_) => {
                    arrivals.datagrams += 1;
                    let first = *first.get_or_insert_with(Instant::now);
                    arrivals.between_first_and_last = first.elapsed();
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(arrivals),
                Err(e) => return Err(e),
            }
        }
    }

    pub(crate) fn receiver_port(&self) -> io::Result<u16> {
        Ok(self.receiver.local_addr()?.port())
    }
}

/// The port's drops and the namespace's errors at the receiver.
pub(crate) fn receive_drops(path: &Path, flow: &Flow, family: netlab::Family) -> u64 {
    let read = || -> Result<u64, Error> {
        let port = flow.receiver_port().expect("the socket is bound");
        let sockets = path.receiver().udp_sockets(family, port)?;
        let counters = path.receiver().udp_counters(family)?;
        Ok(sockets.iter().map(|socket| socket.drops).sum::<u64>() + counters.in_errors)
    };
    read().expect("the counters can be read")
}
