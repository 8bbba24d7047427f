//! What the relay can do on this machine: `cargo run --release -p netlab --example relay_figures`
//! (as root). Prints the idle round trip of a path of 20 ms, and for rising rates what arrived,
//! what the relay failed to carry, and the processor time that it took.

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("netlab runs on Linux only");
}

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let Some(why) = netlab::missing_privilege() {
        return Err(why.into());
    }
    figures::idle()?;
    for megabits in [50, 100, 300, 600, 1_000, 1_500] {
        figures::load(megabits)?;
    }
    Ok(())
}

#[cfg(target_os = "linux")]
mod figures {
    use std::{
        io,
        net::UdpSocket,
        os::fd::AsFd,
        sync::atomic::{AtomicBool, Ordering::Relaxed},
        thread,
        time::{Duration, Instant},
    };

    use netlab::{Bottleneck, Family, Path, PathConfig, RelayConfig, TokenBucket};
    use nix::sys::socket::{setsockopt, sockopt};

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    const ONE_WAY: Duration = Duration::from_millis(10);
    const SECONDS: u64 = 3;

    fn lay(bottleneck: Bottleneck) -> Result<(Path, UdpSocket, UdpSocket), netlab::Error> {
        let path = Path::new(&PathConfig {
            bottleneck,
            relay: Some(RelayConfig::symmetric(ONE_WAY)),
            ..PathConfig::default()
        })?;
        let ends = path.addresses(Family::V4);
        let bind = |address| move || UdpSocket::bind((address, 4433)).expect("the port is free");
        let sender = path.sender().run(bind(ends.sender))?;
        let receiver = path.receiver().run(bind(ends.receiver))?;
        sender.connect((ends.receiver, 4433)).expect("same family");
        Ok((path, sender, receiver))
    }

    pub(crate) fn idle() -> Outcome {
        const COUNT: usize = 200;
        let (path, sender, receiver) = lay(Bottleneck::None)?;
        let echo = thread::spawn(move || -> io::Result<()> {
            for _ in 0..COUNT {
                let (_, from) = receiver.recv_from(&mut [0; 64])?;
                receiver.send_to(&[0; 64], from)?;
            }
            Ok(())
        });
        let mut trips = Vec::new();
        for _ in 0..COUNT {
            let start = Instant::now();
            sender.send(&[0; 64])?;
            sender.recv(&mut [0; 64])?;
            trips.push(start.elapsed());
        }
        echo.join().expect("it does not panic")?;
        trips.sort_unstable();
        let [p50, p99] = [50, 99].map(|p| trips[COUNT * p / 100]);
        println!("idle: round trip p50 {p50:?}, p99 {p99:?}, of 20 ms wanted");
        drop(path);
        Ok(())
    }

    pub(crate) fn load(megabits: u64) -> Outcome {
        let bucket = TokenBucket {
            rate: megabits * 1_000_000,
            burst: 64_000,
            limit: 200_000,
        };
        let (path, sender, receiver) = lay(Bottleneck::Local(bucket))?;
        setsockopt(&receiver.as_fd(), sockopt::RcvBufForce, &(64 << 20))?;
        // Batches, so that the sender leaves the processors to the relay.
        setsockopt(&sender.as_fd(), sockopt::UdpGsoSegment, &1452)?;
        // No larger than the queue, so that the sender blocks and nothing drops.
        setsockopt(&sender.as_fd(), sockopt::SndBuf, &(64 << 10))?;
        receiver.set_read_timeout(Some(Duration::from_millis(50)))?;
        let done = AtomicBool::new(false);
        let start = Instant::now();
        let arrived = thread::scope(|scope| -> io::Result<u64> {
            let drain = scope.spawn(|| {
                let mut arrived = 0;
                while !done.load(Relaxed) {
                    arrived += u64::from(receiver.recv(&mut [0; 1500]).is_ok());
                }
                arrived
            });
            let batch = vec![0; 10 * 1452];
            let sent = (|| {
                while start.elapsed() < Duration::from_secs(SECONDS) {
                    sender.send(&batch)?;
                }
                Ok(())
            })();
            thread::sleep(Duration::from_millis(200));
            done.store(true, Relaxed);
            let arrived = drain.join().expect("it does not panic");
            sent.map(|()| arrived)
        })?;
        let forward = path.relay_stats()?.forward;
        let queue = path.bottleneck_stats()?;
        println!(
            "{megabits} Mbit/s: at the queue {:.0} Mbit/s, {arrived} of {} packets arrived; relay: \
             {} not carried, processor {:.0}%, {:.1} us a packet, worst lateness {:?}",
            8e-6 * queue.sent_bytes as f64 / SECONDS as f64,
            queue.sent_packets,
            forward.unintended_drops(),
            100.0 * forward.cpu_time.as_secs_f64() / SECONDS as f64,
            1e6 * forward.cpu_time.as_secs_f64() / forward.received as f64,
            forward.worst_lateness,
        );
        Ok(())
    }
}
