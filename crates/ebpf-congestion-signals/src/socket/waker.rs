//! Wakes the thread that lists queues.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;

/// The thread, which sleeps while no socket waits. Woken for the last time when this is dropped.
#[derive(Debug)]
pub(super) struct Waker {
    thread: Thread,
    parked: Arc<AtomicBool>,
}

impl Waker {
    /// Of a thread that sets `parked` before it sleeps.
    pub(super) fn new(thread: Thread, parked: Arc<AtomicBool>) -> Self {
        Self { thread, parked }
    }

    /// A socket waits.
    pub(super) fn wake(&self) {
        if self.parked.load(Ordering::Relaxed) && self.parked.swap(false, Ordering::AcqRel) {
            self.thread.unpark();
        }
    }
}

impl Drop for Waker {
    fn drop(&mut self) {
        self.thread.unpark();
    }
}
