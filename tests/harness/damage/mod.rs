//! Damage to the files of a data folder.

mod files;
mod harm;
mod named;

pub use files::{FilesByKind, file_named, files_by_kind};
pub use harm::{Damaged, Harm, damage};
pub use named::{is_logged, named_by, names};
