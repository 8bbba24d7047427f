//! Hands a source's events to any number of readers, none of which can hold back another.

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::event::{Event, EventStream};

/// Events kept for the slowest reader. At the default limit of events a second this is a few
/// seconds of one CPU's.
const KEPT_EVENTS: usize = 4096;

/// An event, and how many there were up to it, those included that it says are lost.
#[derive(Clone, Debug)]
struct Numbered {
    event: Event,
    total: u64,
}

/// How many lost events this one reports.
fn weight(event: &Event) -> u64 {
    match event {
        Event::Lost { events } => *events,
        _ => 1,
    }
}

/// The sending end, one a source.
#[derive(Debug)]
pub(crate) struct Fanout {
    sender: broadcast::Sender<Numbered>,
    /// Events so far. Held while one is handed out, so that readers begin between two.
    total: Mutex<u64>,
}

impl Fanout {
    pub(crate) fn new() -> Self {
        Self {
            sender: broadcast::Sender::new(KEPT_EVENTS),
            total: Mutex::new(0),
        }
    }

    /// Hands `event` to all readers; without readers it is gone.
    pub(crate) fn publish(&self, event: Event) {
        let mut total = self.total.lock();
        *total += weight(&event);
        let numbered = Numbered {
            event,
            total: *total,
        };
        // The error says that there is no receiver, which is no failure.
        drop(self.sender.send(numbered));
    }

    pub(crate) fn subscribe(&self) -> Box<dyn EventStream> {
        let total = self.total.lock();
        Box::new(Reader {
            receiver: self.sender.subscribe(),
            reported: *total,
            next: None,
        })
    }
}

struct Reader {
    receiver: broadcast::Receiver<Numbered>,
    /// Events that were delivered, or reported as lost.
    reported: u64,
    /// What comes after the loss that was reported last.
    next: Option<Event>,
}

#[async_trait]
impl EventStream for Reader {
    async fn next(&mut self) -> Option<Event> {
        if let Some(event) = self.next.take() {
            return Some(event);
        }
        loop {
            match self.receiver.recv().await {
                Ok(Numbered { event, total }) => {
                    // What was overwritten before this reader came to it may itself have been a
                    // loss of many.
                    let missed = total - weight(&event) - self.reported;
                    self.reported = total;
                    if missed == 0 {
                        return Some(event);
                    }
                    self.next = Some(event);
                    return Some(Event::Lost { events: missed });
                }
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_reader_gets_the_number_of_events_that_it_missed() {
        let fanout = Fanout::new();
        let mut reader = fanout.subscribe();
        for events in 0..KEPT_EVENTS as u64 + 10 {
            fanout.publish(Event::Lost { events });
        }
        // Those of 0 to 9, each of which reports as many.
        assert_eq!(reader.next().await, Some(Event::Lost { events: 45 }));
        assert_eq!(
            reader.next().await,
            Some(Event::Lost { events: 10 }),
            "the oldest kept"
        );
        drop(fanout);
        let mut rest = 0;
        while reader.next().await.is_some() {
            rest += 1;
        }
        assert_eq!(rest, KEPT_EVENTS - 1);
    }
}
