//! Backups: taking one of an open store, and restoring one into a new data folder.
//!
//! ```text
//! FOLDER/BACKUP           the manifest, written last: a folder without it is no backup
//! FOLDER/BACKUP.partial   in its place until then
//! FOLDER/abide.toml       the configuration that ran; a restore leaves it where it is
//! FOLDER/FORMAT, SYNCED   as in a data folder
//! FOLDER/last-good        the configuration that last proved itself, if there is one
//! FOLDER/components/      the plugins' components, by digest
//! FOLDER/db/              RocksDB: tables and what names them, no logs
//! ```
//!
//! A backup has everything that was acknowledged before it began. RocksDB makes a *checkpoint*: it
//! flushes all families up to one number and links the tables into a scratch folder. So the tables hold
//! that moment by themselves, and logs are left out: the live one is written while it would be copied,
//! so that the copy may have a later group of writes behind a torn one, which looks like damage.
//!
//! | file | content |
//! |---|---|
//! | `error` | why a backup or a restore was not done |
//! | `manifest` | the file `BACKUP` |
//! | `target` | the folder that takes a backup |
//! | `take` | takes a backup |
//! | `restore` | restores one |

mod error;
mod manifest;
mod restore;
mod take;
mod target;

pub use error::{BackupError, RestoreError};
pub(super) use manifest::NAME;
pub use manifest::{BackupFile, BackupManifest};
pub use restore::{Restored, restore};
pub use take::BackupJob;
pub(super) use target::{BackupState, PARTIAL, no_backup_any_more, opened_backup};
