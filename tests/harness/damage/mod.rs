//! Damage to the files of a data folder, and what a daemon makes of it.

mod files;
mod harm;
mod named;
mod start;

pub use files::{FilesByKind, file_named, files_by_kind};
pub use harm::{Damaged, Harm, damage};
pub use named::{is_logged, named_by, names};
pub use start::{DamagedStart, damaged_start, repair};
