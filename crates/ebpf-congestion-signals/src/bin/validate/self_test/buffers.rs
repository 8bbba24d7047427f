//! Send buffers, without a queue: a stream whose receiver does not read.

use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use ebpf_congestion_signals::{EbpfSource, SignalSource};
use nix::sys::socket::{getsockopt, setsockopt, sockopt};

use super::{Stop, TestResult, needs};
use crate::proc_net;

/// Bytes asked for; the kernel doubles it. Setting it ends the kernel's own tuning.
const SEND_BUFFER: usize = 65_536;

const WRITE: usize = 4096;

/// The occupancies that are counted for the host are at least those of this stream, of which the
/// kernel's table has the payload; the probe counts buffers whole.
pub(super) fn tcp_send_buffer(source: &EbpfSource) -> TestResult {
    needs(source, "sock_send_length")?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    setsockopt(&listener, sockopt::RcvBuf, &SEND_BUFFER)?;
    let mut stream = TcpStream::connect(listener.local_addr()?)?;
    setsockopt(&stream, sockopt::SndBuf, &SEND_BUFFER)?;
    stream.set_nonblocking(true)?;
    let limit = getsockopt(&stream, sockopt::SndBuf)?;
    let port = stream.local_addr()?.port();

    let pressure = || source.host().pressure.unwrap_or_default();
    let before = pressure();
    let (mut sum, mut sends, mut last) = (0.0, 0u64, 0.0);
    loop {
        match stream.write(&[7; WRITE]) {
            Ok(_) => sends += 1,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error.into()),
        }
        let sockets = proc_net::sockets("tcp")?;
        let row = sockets.iter().find(|row| row.local_port == port);
        // Acknowledgements that come in between only lower it.
        last = row.map_or(0.0, |row| row.send_queue as f64 / limit as f64);
        sum += last;
    }
    let after = pressure();
    let (counted, samples) = (after.sum - before.sum, after.samples - before.samples);
    // Sums are kept in 65536ths.
    let rounding = sends as f64 / 65_536.0;
    if samples < sends || counted + rounding < sum {
        return Err(Stop::Fail(format!(
            "occupancies of {samples} sends sum up to {counted:.3}, but this stream's {sends} \
             alone to {sum:.3}"
        )));
    }
    if counted <= 0.0 {
        return Err(Stop::Fail("no send saw anything in its buffer".to_owned()));
    }
    Ok(format!(
        "{sends} sends, the last at {:.0}% of the buffer in payload; {:.0}% on average, counted \
         whole",
        100.0 * last,
        100.0 * counted / samples as f64
    ))
}
