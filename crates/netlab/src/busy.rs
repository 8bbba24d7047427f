use std::{
    hint,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
};

use crate::error::Error;

/// Steps between two checks whether to stop.
const STEPS: u32 = 100_000;

/// Threads that do nothing but use processors up, until this is dropped or the process ends.
#[derive(Debug)]
pub struct BusyProcessors {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl BusyProcessors {
    /// Starts so many threads of this niceness: 0 competes with other programs on equal terms,
    /// 19 takes hardly more than what they leave.
    ///
    /// # Errors
    ///
    /// [`Error::System`] when no thread could be started.
    pub fn start(threads: usize, niceness: u8) -> Result<Self, Error> {
        let mut busy = Self {
            stop: Arc::default(),
            threads: Vec::new(),
        };
        for _ in 0..threads {
            let stop = Arc::clone(&busy.stop);
            let thread = thread::Builder::new()
                .name("netlab-busy".to_owned())
                .spawn(move || {
                    // SAFETY: takes no pointer, and 0 is the calling thread. To raise the niceness
                    // needs no privilege, so it does not fail.
                    let _ = unsafe {
                        libc::setpriority(libc::PRIO_PROCESS, 0, libc::c_int::from(niceness))
                    };
                    while !stop.load(Relaxed) {
                        (0..STEPS).for_each(|_| hint::spin_loop());
                    }
                })
                .map_err(|e| Error::system("start a thread", e, "raise the limit on threads"))?;
            busy.threads.push(thread);
        }
        Ok(busy)
    }
}

impl Drop for BusyProcessors {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            // It does not panic.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_threads_end_when_dropped() {
        let busy = BusyProcessors::start(2, 19).expect("threads can be had");
        assert_eq!(busy.threads.len(), 2);
        let stop = Arc::clone(&busy.stop);
        drop(busy);
        assert_eq!(Arc::strong_count(&stop), 1, "a thread is still there");
    }
}
