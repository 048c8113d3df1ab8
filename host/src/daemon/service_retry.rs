//! Decides which workers stay up although they cannot serve, and what becomes of them. Pure.
//!
//! | what keeps the worker from serving | after an operator's start | in a standby, or after a kill from outside | after a death by own doing, or a rollback |
//! |---|---|---|---|
//! | the store lacks what was acknowledged | stays up | stays up | stays up |
//! | the store does not open, or cannot be read; a plugin, or what else sessions run with, does not load | exits, with the reason | exits: the supervisor rolls back, if there is something to roll back to | stays up |
//! | a panic | exits | exits | exits: this process is not trusted any more |
//!
//! In the last column the supervisor has had the choice, and has nothing else to start. Without the
//! worker nobody would answer the clients.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::Config;
use crate::store::OpenError;
use crate::supervisor::{Mode, StartCause};

use super::open_store::NoStore;
use super::standby::Unprepared;

/// The reason why a worker cannot serve.
#[derive(Debug, thiserror::Error)]
pub(super) enum CannotServe {
    #[error(transparent)]
    Store(#[from] NoStore),
    /// What sessions run with cannot be prepared. `config` is the configuration file.
    #[error("{}: {source}", config.display())]
    Unprepared { config: PathBuf, source: Unprepared },
}

impl CannotServe {
    pub(super) fn unprepared(config: &Config, source: Unprepared) -> Self {
        match source {
            Unprepared::NoStore(error) => Self::Store(error.into()),
            source => Self::Unprepared {
                config: config.file.clone(),
                source,
            },
        }
    }

    /// Whether this process is not to be trusted with another try.
    pub(super) fn is_panic(&self) -> bool {
        matches!(
            self,
            Self::Store(NoStore::Panic(_))
                | Self::Unprepared {
                    source: Unprepared::Panic(_),
                    ..
                }
        )
    }
}

/// The pause before the worker tries again; each further one is twice as long.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause: clients wait meanwhile.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Returns the pause after the pause `last`.
pub(super) fn next_pause(last: Duration) -> Duration {
    (last * 2).min(LONGEST_PAUSE)
}

/// Whether a worker stays up that cannot serve for this reason. `mode` and `cause` are those of its
/// start.
pub(super) fn stays_up(error: &CannotServe, mode: Mode, cause: &StartCause) -> bool {
    match error {
        // Neither another worker nor an older binary would bring back what the files lack. The older
        // one might drop the rest without a word.
        CannotServe::Store(NoStore::Open(OpenError::Missing { .. })) => true,
        _ if error.is_panic() => false,
        // A file may be put back, a disk mounted again, have room again; a tool may have the folder
        // for a while. Of a newer version's store: a rollback to that version would mend it, but there
        // is none, and it may also be a damaged `FORMAT`.
        CannotServe::Store(NoStore::Open(_) | NoStore::Read(_) | NoStore::Panic(_))
        | CannotServe::Unprepared { .. } => has_no_alternative(mode, cause),
    }
}

/// Whether the supervisor has no other configuration or binary to start.
fn has_no_alternative(mode: Mode, cause: &StartCause) -> bool {
    match cause {
        // The operator who starts the daemon sees it exit, with the reason.
        StartCause::First | StartCause::Planned => false,
        // What it runs on may not have passed probation: an exit, which is its own doing, leads to what
        // has, or back here.
        StartCause::Crash {
            own_doing: false, ..
        } => false,
        // A standby, whose predecessor died while it drained, has not passed probation either.
        StartCause::Crash {
            own_doing: true, ..
        }
        | StartCause::Rollback { .. } => mode == Mode::Serve,
    }
}

/// Returns the cause of the start of a worker that serves after all, and could not at once for `reason`:
/// it goes into the restart's record. Of a rollback, a crash is left: what was rolled back need not be
/// what kept the worker from serving, so it is not rejected for that.
pub(super) fn cause_of_late_service(cause: StartCause, reason: &str) -> StartCause {
    let with_reason = |detail: String| match detail.contains(reason) {
        true => detail,
        false => format!("{detail}; the daemon could not serve at once: {reason}"),
    };
    match cause {
        StartCause::Crash { own_doing, detail } => StartCause::Crash {
            own_doing,
            detail: with_reason(detail),
        },
        StartCause::Rollback { detail } => StartCause::Crash {
            own_doing: true,
            detail: with_reason(detail),
        },
        StartCause::First | StartCause::Planned => cause,
    }
}

/// Returns what an operator can do.
pub(super) fn remedy(error: &CannotServe) -> &'static str {
    match error {
        CannotServe::Store(error) => store_remedy(error),
        CannotServe::Unprepared { .. } => {
            "put right what is named, and the daemon serves by itself. Or stop it, change the \
             configuration, and start it again"
        }
    }
}

fn store_remedy(error: &NoStore) -> &'static str {
    match error {
        NoStore::Open(OpenError::Missing { .. }) => {
            "stop the daemon; then move the folder away and `abide restore` a backup, or start once \
             with `abide serve --accept-loss`"
        }
        NoStore::Open(OpenError::Corrupt { .. } | OpenError::NotAStore { .. }) => {
            "put the damaged file back, and the store is opened by itself. Or stop the daemon; then \
             `abide store salvage NEW`, and set `data_dir` to NEW, or move the folder away and \
             `abide restore` a backup"
        }
        NoStore::Open(
            OpenError::Gone { .. }
            | OpenError::NotAFolder { .. }
            | OpenError::HalfSalvaged { .. }
            | OpenError::IsBackup { .. }
            | OpenError::PartialBackup { .. },
        ) => {
            "mount the disk, or put the data folder back, and the store is opened by itself. Or stop \
             the daemon, and `abide restore` a backup"
        }
        NoStore::Open(OpenError::Locked { .. }) => {
            "end the process that uses the folder, and the store is opened by itself"
        }
        NoStore::Open(OpenError::NewerFormat { .. } | OpenError::NewerPart { .. }) => {
            "stop the daemon, and start the version that wrote the folder, or a later one; if no later \
             one did, its file `FORMAT` is damaged: put it back, and the store is opened by itself"
        }
        NoStore::Open(OpenError::Io(_)) => {
            "make the folder readable and writable again (disk, owner, permissions, free space), and \
             the store is opened by itself"
        }
        NoStore::Read(_) | NoStore::Panic(_) => {
            "stop the daemon and run `abide store check`, which says what is damaged; then \
             `abide store salvage NEW`, or `abide restore` a backup"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{FailedIo, LostSessions, MissingWrites, StoreError};

    fn errors() -> Vec<CannotServe> {
        let path = || "/data".into();
        let reason = || "CURRENT".to_owned();
        let read = StoreError::Read { reason: reason() };
        let opens = [
            OpenError::Corrupt {
                path: path(),
                reason: reason(),
            },
            OpenError::NotAStore {
                path: path(),
                reason: reason(),
            },
            OpenError::NotAFolder { path: path() },
            OpenError::HalfSalvaged { path: path() },
            OpenError::IsBackup { path: path() },
            OpenError::PartialBackup { path: path() },
            OpenError::Gone { path: path() },
            OpenError::Io(FailedIo {
                doing: "open",
                path: path(),
                reason: reason(),
            }),
            OpenError::Locked {
                path: path(),
                pid: None,
            },
            OpenError::NewerFormat {
                path: path(),
                found: 3,
                reads: 2,
                line: "abide-store 2".to_owned(),
            },
            OpenError::NewerPart {
                path: path(),
                part: "kv".to_owned(),
                line: "abide-store 2".to_owned(),
            },
        ];
        let opens = opens.into_iter().map(NoStore::Open);
        let stores = opens.chain([NoStore::Read(read)]).map(CannotServe::Store);
        let denied = || std::io::ErrorKind::PermissionDenied.into();
        let unprepared = [
            Unprepared::DataDir {
                path: path(),
                source: denied(),
            },
            Unprepared::PluginFile {
                name: "echo".to_owned(),
                path: "/echo.wasm".into(),
                source: denied(),
            },
        ];
        let unprepared = unprepared.map(|source| CannotServe::Unprepared {
            config: "/abide.toml".into(),
            source,
        });
        stores.chain(unprepared).collect()
    }

    fn missing() -> CannotServe {
        CannotServe::Store(NoStore::Open(OpenError::Missing {
            path: "/data".into(),
            missing: MissingWrites {
                operations: 1,
                places: Vec::new(),
                sessions: LostSessions::Any,
            },
        }))
    }

    fn crash(own_doing: bool) -> StartCause {
        StartCause::Crash {
            own_doing,
            detail: "died".to_owned(),
        }
    }

    fn rollback() -> StartCause {
        StartCause::Rollback {
            detail: "died".to_owned(),
        }
    }

    #[test]
    fn a_worker_stays_up_where_nothing_else_can_be_started() {
        for (mode, cause, stays) in [
            (Mode::Serve, StartCause::First, false),
            (Mode::Standby, StartCause::Planned, false),
            (Mode::Standby, crash(true), false),
            (Mode::Standby, crash(false), false),
            (Mode::Serve, crash(false), false),
            (Mode::Serve, crash(true), true),
            (Mode::Serve, rollback(), true),
        ] {
            for error in errors() {
                let text = format!("{error}: {mode:?}, {cause:?}");
                assert_eq!(stays_up(&error, mode, &cause), stays, "{text}");
            }
            assert!(stays_up(&missing(), mode, &cause), "{mode:?}, {cause:?}");
        }
    }

    #[tokio::test]
    async fn a_worker_that_panicked_exits() {
        let aborted = async || {
            let task = tokio::spawn(std::future::pending::<()>());
            task.abort();
            task.await.expect_err("it was aborted")
        };
        let unprepared = CannotServe::Unprepared {
            config: "/abide.toml".into(),
            source: Unprepared::Panic(aborted().await),
        };
        for error in [
            CannotServe::Store(NoStore::Panic(aborted().await)),
            unprepared,
        ] {
            assert!(!stays_up(&error, Mode::Serve, &rollback()), "{error}");
        }
    }

    #[test]
    fn the_record_names_the_reason_once_and_rejects_no_configuration() {
        let causes = [
            (StartCause::First, StartCause::First),
            (StartCause::Planned, StartCause::Planned),
        ];
        for (cause, same) in causes {
            assert_eq!(cause_of_late_service(cause, "CURRENT"), same);
        }
        let detail = "died; the daemon could not serve at once: CURRENT".to_owned();
        for own_doing in [false, true] {
            let detail = detail.clone();
            let with_reason = StartCause::Crash { own_doing, detail };
            assert_eq!(
                cause_of_late_service(crash(own_doing), "CURRENT"),
                with_reason
            );
        }
        let own_doing = true;
        let with_reason = StartCause::Crash { own_doing, detail };
        assert_eq!(cause_of_late_service(rollback(), "CURRENT"), with_reason);
        assert_eq!(
            cause_of_late_service(with_reason.clone(), "CURRENT"),
            with_reason
        );
    }

    #[test]
    fn pauses_grow_to_half_a_minute() {
        let pauses = std::iter::successors(Some(FIRST_PAUSE), |last| Some(next_pause(*last)));
        let seconds: Vec<u64> = pauses.take(7).map(|pause| pause.as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30]);
    }
}
