//! Waiting for a server that may end meanwhile.

use std::fmt::Display;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::time::sleep;

/// The interval at which the server's processes are checked.
const INTERVAL: Duration = Duration::from_millis(50);
/// How long after a failure the server's end is still taken for its cause: a process closes its
/// sockets before its exit status is available.
const EXIT_DELAY: Duration = Duration::from_millis(500);
/// How many lines of a log an error shows.
const SHOWN_LINES: usize = 20;

/// Awaits `work`, and drops it once the server has ended.
///
/// # Errors
/// `check`'s as soon as it returns one, which takes precedence, or the error of `work`.
pub(crate) async fn attend<T, E: Display>(
    mut check: impl FnMut() -> Result<(), String>,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, String> {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            done = &mut work => {
                if done.is_err() {
                    sleep(EXIT_DELAY).await;
                }
                check()?;
                return done.map_err(|error| error.to_string());
            }
            () = sleep(INTERVAL) => check()?,
        }
    }
}

/// Returns the last lines of a log.
pub(super) fn last_lines(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn the_servers_end_ends_the_wait_and_explains_failures() {
        let ended = || Err("it ended with exit status: 1".to_owned());
        let never = pending::<Result<(), String>>();
        let failed = ready(Err::<(), _>("connection refused"));
        assert_eq!(attend(ended, never).await, ended());
        assert_eq!(attend(ended, failed).await, ended());
        let done = ready(Ok::<_, String>(7));
        assert_eq!(attend(|| Ok(()), done).await, Ok(7));
        let failed = ready(Err::<(), _>("wrong"));
        assert_eq!(attend(|| Ok(()), failed).await, Err("wrong".to_owned()));
    }

    #[test]
    fn the_end_of_a_log_is_shown() {
        let log: String = (1..=30).map(|n| format!("line {n}\n")).collect();
        let shown = last_lines(&log);
        assert!(shown.starts_with("line 11\n") && shown.ends_with("line 30"));
        assert_eq!(last_lines("one\n"), "one");
    }
}
