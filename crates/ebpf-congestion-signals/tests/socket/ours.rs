//! A socket that reports to the source, as a transport's does.

use std::error::Error;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ebpf_congestion_signals::{
    QueueSample, SignalSource, SocketObserver, SocketSend, SocketSource, Watch, WatchTarget,
};
use netlab::{Bottleneck, Family, Namespace, Path, PathConfig, TokenBucket};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg, setsockopt, sockopt};

/// Payload of a test's datagrams, bytes.
pub(crate) const PAYLOAD: usize = 1200;

/// Such a datagram over IPv4 on the wire.
pub(crate) const ON_WIRE: u64 = PAYLOAD as u64 + 14 + 20 + 8;

/// More than the kernel allows: the result is the largest buffer, which no test overflows by
/// accident.
const RECEIVE_BUFFER: usize = 32 << 20;

/// How long nothing comes before all has come.
const SILENCE: Duration = Duration::from_millis(300);

/// A socket of ours, and what observes it.
pub(crate) struct Ours {
    pub(crate) socket: UdpSocket,
    pub(crate) observer: Arc<dyn SocketObserver>,
    pub(crate) watch: Watch,
}

impl Ours {
    /// Bound in a namespace, observed and watched.
    pub(crate) fn bind(
        source: &SocketSource,
        namespace: &Namespace,
        address: IpAddr,
    ) -> Result<Self, Box<dyn Error>> {
        let ours = namespace.run(|| -> Result<Self, String> {
            let socket = UdpSocket::bind((address, 0)).map_err(|error| error.to_string())?;
            socket
                .set_nonblocking(true)
                .map_err(|error| error.to_string())?;
            Self::of(source, socket).map_err(|error| error.to_string())
        })?;
        Ok(ours?)
    }

    pub(crate) fn of(source: &SocketSource, socket: UdpSocket) -> Result<Self, Box<dyn Error>> {
        let observer = source.observe_socket(WatchTarget::socket(&socket))?;
        Ok(Self {
            observer: observer.ok_or("the source wants to observe")?,
            watch: source.watch(WatchTarget::socket(&socket).sharing())?,
            socket,
        })
    }

    /// Sends one datagram.
    pub(crate) fn send(&self, to: SocketAddr) -> io::Result<()> {
        let send = SocketSend {
            destination: to,
            bytes: PAYLOAD,
            segment: None,
        };
        self.observer
            .send(send, || self.socket.send_to(&[7; PAYLOAD], to).map(drop))
    }

    /// Sends a batch of `segments` datagrams in one call.
    pub(crate) fn send_batch(&self, to: SocketAddr, segments: usize) -> io::Result<()> {
        let payload = vec![7; segments * PAYLOAD];
        let size = u16::try_from(PAYLOAD).expect("a payload fits a datagram");
        let send = SocketSend {
            destination: to,
            bytes: payload.len(),
            segment: Some(PAYLOAD),
        };
        self.observer.send(send, || {
            sendmsg(
                self.socket.as_raw_fd(),
                &[IoSlice::new(&payload)],
                &[ControlMessage::UdpGsoSegments(&size)],
                MsgFlags::empty(),
                Some(&SockaddrStorage::from(to)),
            )?;
            Ok(())
        })
    }

    /// Receives as a transport does: until nothing more is there.
    pub(crate) fn receive(&self) -> u64 {
        let mut datagrams = 0;
        loop {
            let received = self.socket.recv(&mut [0; 2048]);
            self.observer.on_receive(received.as_ref().err());
            match received {
                Ok(_) => datagrams += 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return datagrams,
                Err(_) => {}
            }
        }
    }

    /// What is known of its queue now.
    pub(crate) fn queue(&self) -> Option<QueueSample> {
        // Longer than the source waits between two readings of a socket.
        thread::sleep(Duration::from_millis(1));
        self.receive();
        self.watch.congestion().queue
    }

    /// What it has in its queue now.
    pub(crate) fn own(&self) -> Result<u64, Box<dyn Error>> {
        let queue = self.queue().ok_or("the queue is known")?;
        Ok(queue.own.ok_or("its own backlog is known")?)
    }

    pub(crate) fn queue_drops(&self) -> u64 {
        let drops = self.watch.congestion().queue_drops;
        drops.expect("the source counts them")
    }
}

/// A path with a token bucket at the sender's device.
pub(crate) fn bottleneck(rate: u64, burst: u32, limit: u32) -> Result<Path, netlab::Error> {
    Path::new(&PathConfig {
        bottleneck: Bottleneck::Local(TokenBucket { rate, burst, limit }),
        second_peer: true,
        ..PathConfig::default()
    })
}

/// A socket at the receiving end with room for whatever a test sends.
pub(crate) fn sink(path: &Path, family: Family) -> Result<UdpSocket, Box<dyn Error>> {
    let address = path.addresses(family).receiver;
    let socket = path.receiver().run(|| UdpSocket::bind((address, 0)))??;
    setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
    Ok(socket)
}

/// Reads until nothing more comes; answers how many datagrams came.
pub(crate) fn drain(socket: &UdpSocket) -> io::Result<u64> {
    socket.set_read_timeout(Some(SILENCE))?;
    let mut datagrams = 0;
    loop {
        match socket.recv(&mut [0; 2048]) {
            Ok(_) => datagrams += 1,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(datagrams),
            Err(error) => return Err(error),
        }
    }
}

/// Waits until `holds`, for some seconds at most.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{what} does not come true"
        );
        thread::sleep(Duration::from_millis(2));
    }
}
