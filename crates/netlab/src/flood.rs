use std::{
    net::{Ipv4Addr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::sys::socket::{setsockopt, sockopt};

use crate::{
    error::Error,
    path::{Family, Path},
};

/// Bytes of a datagram's payload.
const PAYLOAD: usize = 1200;

/// Its bytes on the wire, with the headers of UDP, IPv4 and Ethernet.
const ON_THE_WIRE: u64 = PAYLOAD as u64 + 42;

/// Bytes of send buffer that the socket asks for.
const SEND_BUFFER: usize = 8 << 20;

/// Datagrams are sent in bursts this far apart.
const INTERVAL: Duration = Duration::from_millis(1);

/// A thread that sends UDP at a constant rate over a [`Path`], whatever is lost, until this is
/// dropped or its time is over. What arrives is not read.
#[derive(Debug)]
pub struct UdpFlood {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _sink: UdpSocket,
}

impl UdpFlood {
    /// Starts to send so many bits a second, headers included, for this time. A queue discipline
    /// with classes may go by the packets' `priority` (SO_PRIORITY), which is 0 by default.
    ///
    /// # Errors
    ///
    /// [`Error::System`] when no socket or thread could be had.
    pub fn start(path: &Path, rate: u64, time: Duration, priority: u32) -> Result<Self, Error> {
        let failed = |e| Error::system("flood a path", e, "raise the limits on files and threads");
        let ends = path.addresses(Family::V4);
        let sink = (path.receiver())
            .run(|| UdpSocket::bind((ends.receiver, 0)))?
            .map_err(failed)?;
        let to = sink.local_addr().map_err(failed)?;
        let socket = path.sender().run(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.connect(to)?;
            socket.set_nonblocking(true)?;
            // As much as this user may have: the queue is to overflow, not the socket.
            let _ = setsockopt(&socket, sockopt::SndBuf, &SEND_BUFFER);
            let _ = setsockopt(&socket, sockopt::SndBufForce, &SEND_BUFFER);
            if priority != 0 {
                setsockopt(&socket, sockopt::Priority, &priority.cast_signed())?;
            }
            Ok(socket)
        })?;
        let socket = socket.map_err(failed)?;
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("netlab-flood".to_owned())
            .spawn(move || {
                let began = Instant::now();
                let mut sent = 0;
                while !stopped.load(Relaxed) && began.elapsed() < time {
                    let due = rate * micros(began.elapsed()) / 8_000_000;
                    while sent < due {
                        // Refused, it counts as sent: what is not taken is part of a flood.
                        let _ = socket.send(&[0; PAYLOAD]);
                        sent += ON_THE_WIRE;
                    }
                    thread::sleep(INTERVAL);
                }
            })
            .map_err(failed)?;
        Ok(Self {
            stop,
            thread: Some(thread),
            _sink: sink,
        })
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Drop for UdpFlood {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // It does not panic.
            let _ = thread.join();
        }
    }
}
