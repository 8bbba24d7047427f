//! The governor's decisions in a connection's qlog.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use quinn_proto::QlogConfig;

/// A connection's qlog that both quinn and the governor write to, so that a viewer shows the
/// governor's decisions beside their effects.
///
/// The window that quinn logs in `recovery:metrics_updated` is the governed one in any case. In
/// addition, each change of what bounds the window is a `recovery:congestion_state_updated` event
/// (draft-ietf-quic-qlog-quic-events, section 7.4) with these states:
///
/// | state | the window is |
/// | --- | --- |
/// | `base` | the base controller's |
/// | `capped` | bounded by the backlog of this host's queue |
/// | `recovery` | reduced by the base controller, for a drop in this host's queue |
///
/// The field `trigger` has the cause: `local_queue`, `local_drop`, or `signals_lost` where the
/// signals are stale.
///
/// Events are written synchronously, as quinn's own are: use it to examine a connection, not for
/// all connections of a busy server. Each connection needs its own log: the events carry no
/// connection ID, which a controller does not know.
#[derive(Clone)]
pub struct DecisionLog {
    shared: Arc<Shared>,
}

struct Shared {
    out: Mutex<Box<dyn Write + Send + Sync>>,
    start: Instant,
}

impl DecisionLog {
    /// A log in the JSON text sequences format (RFC 7464) that quinn writes. Pass a
    /// [`BufWriter`](io::BufWriter) over a file, whose name by convention ends in `.sqlog`. Times
    /// are relative to `start`.
    pub fn new(start: Instant, out: impl Write + Send + Sync + 'static) -> Self {
        Self {
            shared: Arc::new(Shared {
                out: Mutex::new(Box::new(out)),
                start,
            }),
        }
    }

    /// quinn's side of the log: pass `log.config().into_stream()` to
    /// `TransportConfig::qlog_stream`. A title may be set before.
    pub fn config(&self) -> QlogConfig {
        let mut config = QlogConfig::default();
        config
            .writer(Box::new(WholeRecords {
                shared: Arc::clone(&self.shared),
                record: Vec::new(),
            }))
            .start_time(self.shared.start);
        config
    }

    /// Writes that the congestion state changed from `old` to `new`.
    pub(crate) fn changed(&self, now: Instant, [old, new]: [&str; 2], trigger: &str) {
        let time = now.saturating_duration_since(self.shared.start);
        let record = format!(
            "\x1e{{\"time\":{:.3},\"name\":\"recovery:congestion_state_updated\",\"data\":\
             {{\"old\":\"{old}\",\"new\":\"{new}\",\"trigger\":\"{trigger}\"}}}}\n",
            1e3 * time.as_secs_f64()
        );
        // A log that cannot be written is no reason to stop a connection; quinn says so itself.
        let _ = self.shared.out.lock().write_all(record.as_bytes());
    }
}

impl fmt::Debug for DecisionLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecisionLog")
            .field("start", &self.shared.start)
            .finish_non_exhaustive()
    }
}

/// quinn writes a record in pieces; they come to the log together.
struct WholeRecords {
    shared: Arc<Shared>,
    record: Vec<u8>,
}

impl Write for WholeRecords {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.record.extend_from_slice(bytes);
        // Text within a record has its line breaks escaped.
        if let Some(end) = self.record.iter().rposition(|byte| *byte == b'\n') {
            let whole = self.record.drain(..=end).collect::<Vec<u8>>();
            self.shared.out.lock().write_all(&whole)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.shared.out.lock().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_decision_never_comes_into_the_middle_of_a_record() {
        let kept = Kept::default();
        #[expect(clippy::disallowed_methods, reason = "any instant will do")]
        let start = Instant::now();
        let log = DecisionLog::new(start, kept.clone());
        let mut quinn = WholeRecords {
            shared: Arc::clone(&log.shared),
            record: Vec::new(),
        };
        quinn.write_all(b"\x1e{\"a\":").unwrap();
        log.changed(start, ["base", "capped"], "local_queue");
        quinn.write_all(b"1}\n\x1e{").unwrap();
        let text = String::from_utf8(kept.0.lock().clone()).unwrap();
        let records: Vec<_> = text.split('\x1e').skip(1).collect();
        assert_eq!(records.len(), 2, "{text}");
        assert!(records[0].contains("\"old\":\"base\",\"new\":\"capped\""));
        assert_eq!(records[1], "{\"a\":1}\n");
    }
}
