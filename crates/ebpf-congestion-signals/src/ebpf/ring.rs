//! Carries events from the ring buffer to their readers.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use ebpf_congestion_signals_common::{Direction, DropClass, EventKind, RawEvent};
use parking_lot::Mutex;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::flows::flow_id;
use super::shared::Shared;
use crate::error::EventsError;
use crate::event::{Buffer, Crossing, DropEvent, Event, PressureEvent};
use crate::sample::KernelTime;

/// The ring, and the task that reads it while a runtime lives.
pub(super) struct Pump {
    ring: Arc<Mutex<RingBuf<MapData>>>,
    task: Option<JoinHandle<()>>,
}

impl Pump {
    pub(super) fn new(ring: RingBuf<MapData>) -> Self {
        Self {
            ring: Arc::new(Mutex::new(ring)),
            task: None,
        }
    }

    /// Starts reading in the current runtime, unless that is being done.
    pub(super) fn ensure_running(&mut self, shared: &Arc<Shared>) -> Result<(), EventsError> {
        if self.task.as_ref().is_some_and(|task| !task.is_finished()) {
            return Ok(());
        }
        let runtime = Handle::try_current().map_err(|_| EventsError::NoRuntime)?;
        let mut ring = self.ring.lock();
        let fd = ring
            .as_fd()
            .try_clone_to_owned()
            .map_err(EventsError::Register)?;
        // Readers get what happens from now on.
        while ring.next().is_some() {}
        drop(ring);
        // SAFETY: an `OwnedFd` is open, and the same descriptor, for as long as it is owned.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }
            .map_err(|error| EventsError::Register(error.into()))?;
        // Events lost before the first subscriber are not reported.
        let lost = shared.events_lost();
        let task = pump(fd, Arc::clone(&self.ring), Arc::downgrade(shared), lost);
        self.task = Some(runtime.spawn(task));
        Ok(())
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// How soon lost events are reported if no event follows: an event over the limit wakes no reader.
const LOSS_DELAY: Duration = Duration::from_millis(250);

async fn pump(
    fd: AsyncFd<OwnedFd>,
    ring: Arc<Mutex<RingBuf<MapData>>>,
    shared: Weak<Shared>,
    mut lost: u64,
) {
    loop {
        let ready = match timeout(LOSS_DELAY, fd.readable()).await {
            Ok(Ok(ready)) => Some(ready),
            Ok(Err(error)) => return ended(&error),
            Err(_silence) => None,
        };
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let mut ring = ring.lock();
        while let Some(record) = ring.next() {
            match RawEvent::from_bytes(&record) {
                Ok((kind, event)) => shared.publish(decode(&shared, kind, &event)),
                Err(error) => tracing::warn!(%error, "an event cannot be read"),
            }
        }
        drop(ring);
        if let Some(mut ready) = ready {
            ready.clear_ready();
        }
        let lost_now = shared.events_lost();
        if lost_now > lost {
            shared.publish(Event::Lost {
                events: lost_now - lost,
            });
            lost = lost_now;
        }
    }
}

fn ended(error: &io::Error) {
    tracing::warn!(%error, "events are no longer read");
}

fn decode(shared: &Shared, kind: EventKind, event: &RawEvent) -> Event {
    let time = KernelTime::from_nanos(event.time_ns);
    let flow = (event.slot != 0).then(|| flow_id(event.slot, event.generation));
    let pressure = |buffer, crossing| {
        Event::Pressure(PressureEvent {
            time,
            flow,
            buffer,
            crossing,
            bytes: event.bytes,
            limit: event.limit,
        })
    };
    match kind {
        EventKind::Drop => Event::Drop(DropEvent {
            time,
            flow,
            reason: shared.reason_name(event.reason),
            class: DropClass::ALL
                .get(event.class as usize)
                .copied()
                .unwrap_or(DropClass::Other),
            direction: Direction::ALL
                .get(event.direction as usize)
                .copied()
                .unwrap_or(Direction::Egress),
            packets: event.packets,
            bytes: event.bytes,
            location: event.location,
        }),
        EventKind::SendPressureHigh => pressure(Buffer::Send, Crossing::Up),
        EventKind::SendPressureLow => pressure(Buffer::Send, Crossing::Down),
        EventKind::ReceivePressureHigh => pressure(Buffer::Receive, Crossing::Up),
        EventKind::ReceivePressureLow => pressure(Buffer::Receive, Crossing::Down),
    }
}
