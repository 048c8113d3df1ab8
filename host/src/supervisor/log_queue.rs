//! Standard error, written by a thread of its own: whoever logs never waits for whoever reads.
//!
//! A pipe whose reader has stopped is full after 64 KiB, and the next write to it blocks, possibly
//! for ever. Setting `O_NONBLOCK` is no way out: the flag belongs to the pipe's open file
//! description, which is shared with the processes that gave it to us.
//!
//! ```text
//!   log(text), write(line) --> queue, at most so many bytes --> thread --> standard error
//!                                |
//!                                +-- full: the line is dropped, and a mark counts it
//! ```
//!
//! A mark is replaced by one line with the count when the queue reaches it: in the place where the
//! lines are missing, once standard error is read again.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd as _;
use std::panic;
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, poll};

use super::log_line::{LineFormat, Severity, line};

/// How long a panic waits until it is written: it may be the process's last line.
const PANIC_PATIENCE: Duration = Duration::from_millis(250);

/// A queue of lines for standard error. Its clones share the queue.
#[derive(Clone, Debug)]
pub struct LogQueue(Arc<LogChannel>);

#[derive(Debug)]
struct LogChannel {
    queue: Mutex<PendingLines>,
    /// Notified when an entry is added to the queue.
    added: Condvar,
    /// Notified when the thread has written everything.
    idle: Condvar,
}

#[derive(Debug, Default)]
struct PendingLines {
    /// The most that waits to be written, in bytes.
    limit: usize,
    entries: VecDeque<LogEntry>,
    /// The size of all lines in `entries`.
    bytes: usize,
    /// Whether the thread writes an entry that is no longer in `entries`.
    writing: bool,
    format: LineFormat,
    /// All lines ever lost.
    lost: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum LogEntry {
    Line(Vec<u8>),
    /// So many lines were dropped here.
    Dropped(u64),
}

impl LogQueue {
    /// Starts the log of this process, its panics included. If that fails, says so on standard
    /// error and returns the exit code.
    pub fn for_process(limit: usize) -> Result<Self, ExitCode> {
        match Self::start(limit) {
            Ok(log) => {
                log.log_panics();
                Ok(log)
            }
            Err(error) => {
                let _ = writeln!(io::stderr(), "abide: the log cannot be started: {error}");
                Err(ExitCode::FAILURE)
            }
        }
    }

    /// Starts the thread that writes to standard error. At most `limit` bytes wait for it.
    pub(super) fn start(limit: usize) -> io::Result<Self> {
        // A descriptor of its own: a blocked write must not hold the lock of `std::io::stderr`.
        let stderr = io::stderr().as_fd().try_clone_to_owned()?;
        Self::start_on(limit, File::from(stderr))
    }

    fn start_on(limit: usize, output: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(LogChannel {
            queue: Mutex::new(PendingLines {
                limit,
                ..PendingLines::default()
            }),
            added: Condvar::new(),
            idle: Condvar::new(),
        });
        let writer = shared.clone();
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer.run(output))?;
        Ok(Self(shared))
    }

    /// Sets the format of the lines that [`log`](Self::log) writes from now on.
    pub fn set_format(&self, format: LineFormat) {
        self.0.queue().format = format;
    }

    /// Sets how many bytes may wait from now on. What waits already stays.
    pub fn set_limit(&self, limit: usize) {
        self.0.queue().limit = limit;
    }

    /// Logs a line. Never blocks.
    pub fn log(&self, text: &str) {
        self.log_as(Severity::Warn, text);
    }

    fn log_as(&self, severity: Severity, text: &str) {
        let format = self.0.queue().format;
        self.write(line(format, severity, SystemTime::now(), text));
    }

    /// Logs the panics of this process to this queue from now on. (The standard hook writes to
    /// standard error itself, and so would wait for its reader.)
    fn log_panics(&self) {
        let log = self.clone();
        panic::set_hook(Box::new(move |panic| {
            let mut text = panic.to_string();
            let trace = Backtrace::capture();
            if trace.status() == BacktraceStatus::Captured {
                text.push_str(&format!("\n{trace}"));
            }
            log.log_as(Severity::Error, &text);
            log.flush(PANIC_PATIENCE);
        }));
    }

    /// Logs bytes that are a whole line already. Never blocks.
    pub fn write(&self, line: Vec<u8>) {
        self.0.queue().push(line);
        self.0.added.notify_one();
    }

    /// Returns the number of lines that were lost since the start: dropped because too many waited,
    /// or refused by standard error.
    pub fn lost(&self) -> u64 {
        self.0.queue().lost
    }

    /// Waits until everything is written, at most for `patience`. For the end of a process.
    pub fn flush(&self, patience: Duration) {
        let end = Instant::now() + patience;
        let mut queue = self.0.queue();
        while queue.writing || !queue.entries.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.0.idle.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl PendingLines {
    fn push(&mut self, line: Vec<u8>) {
        let limit = self.limit;
        // A line that is larger than the limit is written if nothing else waits.
        let fits = self.bytes + line.len() <= limit || self.entries.is_empty();
        // Once lines are missing, those that happen to fit are no use: the writer makes room first.
        let after_a_gap = matches!(self.entries.back(), Some(LogEntry::Dropped(_)));
        if fits && !(after_a_gap && self.bytes > limit / 2) {
            self.bytes += line.len();
            self.entries.push_back(LogEntry::Line(line));
            return;
        }
        self.lost += 1;
        match self.entries.back_mut() {
            Some(LogEntry::Dropped(count)) => *count += 1,
            _ => self.entries.push_back(LogEntry::Dropped(1)),
        }
    }
}

impl LogChannel {
    fn queue(&self) -> MutexGuard<'_, PendingLines> {
        // Nothing panics while it holds the lock; were it so, a log is still better than none.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is queued, for as long as the process lives.
    fn run(&self, mut output: impl Write) {
        // Lines that standard error refused since it last took one.
        let mut refused = 0;
        loop {
            let (entry, format) = self.next();
            let dropped = match entry {
                LogEntry::Dropped(count) => count,
                LogEntry::Line(_) => 0,
            };
            let gap = refused + dropped;
            if gap > 0 {
                let text = format!(
                    "{gap} lines of the log are missing here: nothing read them, or they could not \
                     be written"
                );
                let line = line(format, Severity::Warn, SystemTime::now(), &text);
                refused = match write_all(&mut output, &line) {
                    Ok(()) => 0,
                    Err(_) => gap,
                };
            }
            if let LogEntry::Line(line) = entry
                && (refused > 0 || write_all(&mut output, &line).is_err())
            {
                refused += 1;
                self.queue().lost += 1;
            }
        }
    }

    /// Takes the next entry, once there is one.
    fn next(&self) -> (LogEntry, LineFormat) {
        let mut queue = self.queue();
        queue.writing = false;
        loop {
            if let Some(entry) = queue.entries.pop_front() {
                if let LogEntry::Line(line) = &entry {
                    queue.bytes -= line.len();
                }
                queue.writing = true;
                return (entry, queue.format);
            }
            self.idle.notify_all();
            let woken = self.added.wait(queue);
            queue = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Writes a whole line. Waits where somebody else has made standard error non-blocking, so that a
/// line is not cut in two.
fn write_all(output: &mut impl Write, mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match output.write(line) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => line = &line[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let stderr = rustix::stdio::stderr();
                poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// An output that a test lets through, line by line.
    struct Gate {
        permits: Receiver<io::Result<()>>,
        lines: Sender<String>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.permits.recv().unwrap_or(Ok(()))?;
            let line = String::from_utf8(bytes.to_vec()).expect("lines are text");
            let _ = self.lines.send(line);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated(limit: usize) -> (LogQueue, Sender<io::Result<()>>, Receiver<String>) {
        let (permit, permits) = channel();
        let (lines, written) = channel();
        let queue = LogQueue::start_on(limit, Gate { permits, lines });
        (queue.expect("threads can be started"), permit, written)
    }

    fn next(written: &Receiver<String>) -> String {
        let line = written.recv_timeout(Duration::from_secs(60));
        line.expect("the thread writes what is queued")
    }

    #[test]
    fn whoever_logs_never_waits_and_what_is_dropped_is_counted_where_it_is_missing() {
        let (queue, permit, written) = gated(400);
        // The first line is taken by the thread, which then waits; the others pile up.
        for n in 0..100 {
            queue.log(&format!("line {n}"));
        }
        let lost = queue.lost();
        assert!((50..100).contains(&lost), "{lost} lost");
        drop(permit);
        let kept = 100 - usize::try_from(lost).expect("it is small");
        for n in 0..kept {
            assert_eq!(next(&written), format!("abide: line {n}\n"));
        }
        let gap = next(&written);
        assert!(
            gap.starts_with(&format!("abide: {lost} lines of the log are missing")),
            "{gap}"
        );
        queue.log("flows again");
        assert_eq!(next(&written), "abide: flows again\n");
        assert_eq!(queue.lost(), lost);
    }

    #[test]
    fn a_limit_holds_from_when_it_is_set() {
        let (queue, _permit, _written) = gated(400);
        let write = |lines| (0..lines).for_each(|_| queue.log("ten bytes."));
        write(100);
        let lost = queue.lost();
        assert!(lost > 50, "{lost} lost");
        queue.set_limit(40_000);
        write(100);
        assert_eq!(queue.lost(), lost);
        queue.set_limit(400);
        write(100);
        assert_eq!(queue.lost(), lost + 100);
    }

    #[test]
    fn what_cannot_be_written_is_told_once_it_can() {
        let (queue, permit, written) = gated(400);
        for _ in 0..3 {
            permit
                .send(Err(io::Error::other("the disk is full")))
                .expect("it listens");
        }
        for line in ["a", "b", "c"] {
            queue.log(line);
            queue.flush(Duration::from_secs(60));
        }
        drop(permit);
        queue.log("d");
        assert!(next(&written).starts_with("abide: 3 lines of the log are missing"));
        assert_eq!(next(&written), "abide: d\n");
        assert_eq!(queue.lost(), 3);
    }

    #[test]
    fn a_flush_waits_for_the_last_line_and_no_longer_than_it_may() {
        let (queue, permit, written) = gated(400);
        queue.log("a");
        queue.flush(Duration::from_millis(10));
        assert!(written.try_recv().is_err());
        drop(permit);
        queue.flush(Duration::from_secs(60));
        assert_eq!(written.try_recv().as_deref(), Ok("abide: a\n"));
    }
}
