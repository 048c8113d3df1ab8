//! Backups of the running daemon.

use std::path::PathBuf;

use axum::extract::State;
use axum::{Extension, Json as Answer};
use http::header;
use serde::Deserialize;
use utoipa::ToSchema;

use super::auth::AuditSubject;
use super::extract::Json;
use super::problem::{Problem, ProblemKind};
use super::{Api, BackupRefusal, ControlRequest};
use crate::documents::BackupReport;

/// Where a backup is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BackupRequest {
    /// An absolute path on the daemon's machine. It must not exist, or be an empty folder.
    #[schema(value_type = String, pattern = "^/")]
    folder: PathBuf,
}

/// Takes a backup, and answers when it is complete. A client that ends the request gives it up, and so does
/// a disk that completes no write.
#[utoipa::path(
    post,
    path = "/v1/backups",
    operation_id = "take_backup",
    tag = "daemon",
    request_body = BackupRequest,
    responses(
        (status = 200, description = "It is complete and verified", body = BackupReport),
    ),
)]
pub(super) async fn take(
    State(api): State<Api>,
    Json(BackupRequest { folder }): Json<BackupRequest>,
) -> Result<(Extension<AuditSubject>, Answer<BackupReport>), Problem> {
    let subject = Extension(AuditSubject(folder.display().to_string()));
    let request = |reply| ControlRequest::Backup { folder, reply };
    let asked = api.control.ask(request);
    let report = api.sessions.while_disk_answers(asked).await???;
    Ok((subject, Answer(report)))
}

impl From<BackupRefusal> for Problem {
    fn from(refusal: BackupRefusal) -> Self {
        match refusal {
            BackupRefusal::Busy(folder) => {
                let folder = folder.display();
                let detail = format!(
                    "a backup is being taken into {folder}; wait for its end, and ask again"
                );
                Self::new(ProblemKind::BACKUP_RUNS, detail)
            }
            BackupRefusal::Folder(detail) => Self::new(ProblemKind::BACKUP_FOLDER, detail),
            BackupRefusal::NoRoom {
                text,
                needed_bytes,
                free_bytes,
                reserve_bytes,
            } => Self::new(ProblemKind::DISK_NEARLY_FULL, text)
                .fact("needed_bytes", needed_bytes)
                .fact("free_bytes", free_bytes)
                .fact("reserve_bytes", reserve_bytes),
            BackupRefusal::Damaged(detail) => Self::new(ProblemKind::STORE_DAMAGED, detail),
            BackupRefusal::Failed(detail) => Self::new(ProblemKind::BACKUP_FAILED, detail),
            BackupRefusal::Leaving => {
                let detail = "there is no backup: the daemon is being replaced, or stops; ask again \
                              when it serves";
                Self::new(ProblemKind::RESTARTING, detail).header(header::RETRY_AFTER, 1_u16)
            }
        }
    }
}
