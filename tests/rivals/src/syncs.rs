//! Checks with strace, turn by turn, whether a server syncs before it answers.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use abide::loadgen::{self, Load, LoadProbe, LoadSessions};
use abide_tests::Signal;

use crate::chat::TEXT_BYTES;
use crate::servers::Server;
use crate::timed::{Span, Timed};

/// Number of turns to trace, sent by one client one after the other.
const TURNS: u64 = 100;
/// All system calls that wait until data is on disk.
const CALLS: &str = "trace=fsync,fdatasync,msync,sync_file_range,syncfs,sync";
/// How long strace may take to attach, and to detach.
const PATIENCE: Duration = Duration::from_secs(10);
/// The interval at which strace is polled.
const GLANCE: Duration = Duration::from_millis(20);

/// The result of tracing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SyncCounts {
    /// Number of traced turns.
    pub(crate) turns: usize,
    /// How many of those had a sync that began after the request and ended before the response.
    pub(crate) synced: usize,
    /// All syncs from the first turn to the last.
    pub(crate) syncs: usize,
}

/// Traces some turns of the first session; returns `None` if strace is missing or not permitted.
pub(crate) async fn watch(
    server: &mut Server,
    folder: &Path,
    sessions: &mut LoadSessions,
) -> Result<Option<SyncCounts>, String> {
    let log = folder.join("syncs.strace");
    let Some(strace) = Strace::attach(&server.pids(), &log).await else {
        return Ok(None);
    };
    let timed = Timed::new(server.chat.clone());
    let load = Load {
        sessions: 1,
        connections: 1,
        text_bytes: TEXT_BYTES,
        turns: Some(TURNS),
        duration: Duration::from_secs(60),
        ..Load::new(server.address.to_string())
    };
    let one = LoadSessions(sessions.0.drain(..1).collect());
    let probe = LoadProbe::new();
    let run = loadgen::run(timed.clone(), &load, one, &probe);
    let report = server.attend(run).await?;
    sessions.0.splice(..0, report.sessions.0);
    let text = strace.detach(&log).await?;
    Ok(Some(count(&timed.turns(), &spans(&text))))
}

fn count(turns: &[Span], syncs: &[Span]) -> SyncCounts {
    let within = |turn: &&Span| {
        let mut syncs = syncs.iter();
        syncs.any(|sync| turn.from <= sync.from && sync.to <= turn.to)
    };
    let all = match turns {
        [first, .., last] => {
            let meanwhile = |sync: &&Span| first.from <= sync.from && sync.to <= last.to;
            syncs.iter().filter(meanwhile).count()
        }
        _ => 0,
    };
    SyncCounts {
        turns: turns.len(),
        synced: turns.iter().filter(within).count(),
        syncs: all,
    }
}

/// strace, attached to all threads of some processes.
struct Strace(Child);

impl Strace {
    async fn attach(pids: &[i32], log: &Path) -> Option<Self> {
        let mut command = Command::new("strace");
        command
            .args(["-f", "-ttt", "-T", "-e", CALLS, "-o"])
            .arg(log);
        for pid in pids {
            command.args(["-p", &pid.to_string()]);
        }
        let output = log.with_extension("said");
        let file = fs::File::create(&output).ok()?;
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn();
        let mut strace = Self(child.ok()?);
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if !matches!(strace.0.try_wait(), Ok(None)) {
                return None;
            }
            let text = fs::read_to_string(&output).unwrap_or_default();
            let attached = |pid: &i32| text.contains(&format!("Process {pid} attached"));
            if pids.iter().all(attached) {
                return Some(strace);
            }
            tokio::time::sleep(GLANCE).await;
        }
        None
    }

    /// Detaches from the processes and returns the trace.
    async fn detach(mut self, log: &Path) -> Result<String, String> {
        abide_tests::signal(self.0.id().cast_signed(), Signal::INT);
        let began = Instant::now();
        while self
            .0
            .try_wait()
            .map_err(|error| error.to_string())?
            .is_none()
        {
            if began.elapsed() > PATIENCE {
                return Err(format!("strace has not detached after {PATIENCE:?}"));
            }
            tokio::time::sleep(GLANCE).await;
        }
        fs::read_to_string(log).map_err(|error| format!("{}: {error}", log.display()))
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // An error means that strace has exited already. The traced processes continue.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns when each successful call began and ended, from lines like
/// `17 1700000000.123456 fdatasync(9) = 0 <0.000150>` or, where several threads make calls
/// concurrently, from the two halves `17 1700000000.123456 fdatasync(9 <unfinished ...>` and
/// `17 1700000000.123606 <... fdatasync resumed>) = 0 <0.000150>`.
fn spans(text: &str) -> Vec<Span> {
    let spans = text.lines().filter_map(|line| {
        let (line, took) = line.strip_suffix('>')?.rsplit_once('<')?;
        let took = Duration::try_from_secs_f64(took.parse().ok()?).ok()?;
        let (call, result) = line.rsplit_once('=')?;
        if result.trim() != "0" {
            return None;
        }
        let at = call.split_whitespace().nth(1)?.parse().ok()?;
        let at = Duration::try_from_secs_f64(at).ok()?;
        Some(if call.contains(" resumed>") {
            Span {
                from: at.checked_sub(took)?,
                to: at,
            }
        } else {
            Span {
                from: at,
                to: at + took,
            }
        })
    });
    spans.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(from: f64, to: f64) -> Span {
        Span {
            from: Duration::from_secs_f64(from),
            to: Duration::from_secs_f64(to),
        }
    }

    #[test]
    fn syncs_are_read_and_belong_to_the_turn_around_them() {
        let text = "12 100.250000 fdatasync(9) = 0 <0.125000>\n\
                    13 200.500000 fsync(4 <unfinished ...>\n\
                    12 200.625000 fdatasync(9) = -1 EIO (error) <0.000100>\n\
                    13 200.750000 <... fsync resumed>) = 0 <0.250000>\n\
                    12 300.000000 +++ exited with 0 +++\n";
        let syncs = spans(text);
        assert_eq!(syncs, [span(100.25, 100.375), span(200.5, 200.75)]);
        let turns = [span(100.0, 101.0), span(150.0, 151.0), span(200.6, 201.0)];
        let seen = SyncCounts {
            turns: 3,
            synced: 1,
            syncs: 2,
        };
        assert_eq!(count(&turns, &syncs), seen);
    }
}
