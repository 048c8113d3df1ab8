//! Takes backups beside the daemon's work: on a thread of its own, which yields to all others. One at a
//! time; it is given up when its client is gone, and when the worker leaves.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use tokio::sync::oneshot;

use crate::api::BackupRefusal;
use crate::documents::BackupReport;
use crate::store::{BackupError, BackupJob, BackupManifest, Store};

/// A backup that is being taken, or was.
pub(super) struct BackupRun {
    folder: PathBuf,
    signals: Arc<BackupSignals>,
}

/// What a backup and the daemon tell each other.
#[derive(Default)]
struct BackupSignals {
    is_abandoned: AtomicBool,
    is_over: AtomicBool,
}

/// Where the outcome of a backup goes.
pub(super) type BackupReply = oneshot::Sender<Result<BackupReport, BackupRefusal>>;

/// What a backup is to have, and where; [`BackupJob`] describes the fields.
pub(super) struct BackupOrder {
    pub(super) folder: PathBuf,
    pub(super) config: Arc<[u8]>,
    pub(super) reserve_bytes: u64,
    pub(super) version: &'static str,
}

impl BackupRun {
    /// Begins a backup. `reply` is dropped if its thread cannot be started.
    pub(super) fn begin(store: Store, order: BackupOrder, reply: BackupReply) -> io::Result<Self> {
        let folder = order.folder.clone();
        let signals = Arc::new(BackupSignals::default());
        thread::Builder::new().name("backup".to_owned()).spawn({
            let signals = signals.clone();
            move || run(store, &order, &signals, reply)
        })?;
        Ok(Self { folder, signals })
    }

    /// Returns the folder of the backup; none if it is over.
    pub(super) fn runs_into(&self) -> Option<&Path> {
        let is_over = self.signals.is_over.load(Ordering::Acquire);
        (!is_over).then_some(self.folder.as_path())
    }

    /// Gives the backup up. Its client is told.
    pub(super) fn abandon(&self) {
        self.signals.is_abandoned.store(true, Ordering::Relaxed);
    }
}

/// Takes the backup, and replies.
fn run(store: Store, order: &BackupOrder, signals: &BackupSignals, reply: BackupReply) {
    let since = Instant::now();
    let folder = order.folder.display();
    let job = BackupJob {
        folder: &order.folder,
        config: &order.config,
        reserve_bytes: order.reserve_bytes,
        version: order.version,
    };
    tracing::info!("a backup is being taken into {folder}");
    let given_up = || signals.is_abandoned.load(Ordering::Relaxed) || reply.is_closed();
    let taken = store.back_up(job, &given_up);
    // Before the reply: a worker that leaves waits for the client, and then closes the store.
    drop(store);
    let took_ms = since.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
    let outcome = match &taken {
        Ok(manifest) => {
            let (files, bytes) = (manifest.files.len(), manifest.bytes());
            tracing::info!(
                files,
                bytes,
                took_ms,
                sequence = manifest.sequence,
                "the backup in {folder} is complete"
            );
            "completed"
        }
        Err(BackupError::Abandoned) => {
            tracing::warn!("the backup into {folder} was given up");
            "abandoned"
        }
        Err(error) => {
            tracing::error!("there is no backup in {folder}: {error}");
            "failed"
        }
    };
    metrics::counter!("abide_backups_total", "outcome" => outcome).increment(1);
    let reported = match taken {
        Ok(manifest) => Ok(report(order.folder.clone(), &manifest, took_ms)),
        Err(error) => Err(refusal(error)),
    };
    // Before the reply, after which the client may ask for the next one.
    signals.is_over.store(true, Ordering::Release);
    // A dropped receiver is no error: the client has gone.
    let _ = reply.send(reported);
}

/// Describes a backup.
pub(super) fn report(folder: PathBuf, manifest: &BackupManifest, took_ms: u64) -> BackupReport {
    BackupReport {
        folder,
        at: manifest.at,
        sequence: manifest.sequence,
        files: manifest.files.len() as u64,
        bytes: manifest.bytes(),
        took_ms,
    }
}

fn refusal(error: BackupError) -> BackupRefusal {
    let text = error.to_string();
    match error {
        BackupError::Folder { .. } => BackupRefusal::Folder(text),
        BackupError::NoRoom {
            needed_bytes,
            free_bytes,
            reserve_bytes,
            ..
        } => BackupRefusal::NoRoom {
            text,
            needed_bytes,
            free_bytes,
            reserve_bytes,
        },
        BackupError::Damaged { .. } => BackupRefusal::Damaged(text),
        BackupError::Io(_) | BackupError::Store(_) => BackupRefusal::Failed(text),
        BackupError::Abandoned => BackupRefusal::Leaving,
    }
}
