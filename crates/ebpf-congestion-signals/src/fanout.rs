//! Hands a source's events to any number of readers, none of which can hold back another.

use async_trait::async_trait;
use tokio::sync::broadcast;

use crate::event::{Event, EventStream};

/// Events kept for the slowest reader. At the default limit of events a second this is a few
/// seconds of one CPU's.
const KEPT_EVENTS: usize = 4096;

/// The sending end, one a source.
#[derive(Debug)]
pub(crate) struct Fanout {
    sender: broadcast::Sender<Event>,
}

impl Fanout {
    pub(crate) fn new() -> Self {
        Self {
            sender: broadcast::Sender::new(KEPT_EVENTS),
        }
    }

    /// Hands `event` to all readers; without readers it is gone.
    pub(crate) fn publish(&self, event: Event) {
        // The error says that nobody listens, which is no failure.
        drop(self.sender.send(event));
    }

    pub(crate) fn subscribe(&self) -> Box<dyn EventStream> {
        Box::new(Reader {
            receiver: self.sender.subscribe(),
        })
    }
}

struct Reader {
    receiver: broadcast::Receiver<Event>,
}

#[async_trait]
impl EventStream for Reader {
    async fn next(&mut self) -> Option<Event> {
        match self.receiver.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(events)) => Some(Event::Lost { events }),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_reader_is_told_how_much_it_missed() {
        let fanout = Fanout::new();
        let mut reader = fanout.subscribe();
        for events in 0..KEPT_EVENTS as u64 + 10 {
            fanout.publish(Event::Lost { events });
        }
        assert_eq!(reader.next().await, Some(Event::Lost { events: 10 }));
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
