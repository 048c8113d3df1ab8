//! What a start would recover, found out before RocksDB opens the store.
//!
//! RocksDB replays its write-ahead log up to the first damaged byte and drops the rest without a
//! word. That is right for the torn last write of a power cut, which nobody was told of; it is a
//! silent loss if the damage came later. So the log files and the MANIFEST are read here first, and
//! what they hold is compared with what was synced.
//!
//! ```text
//!   MANIFEST --> what the tables hold ----------+
//!   logs ------> complete batches, and damage --+--> verdict: whole | behind damage | missing
//!   SYNCED ----> the last acknowledged write ---+
//! ```
//!
//! Every group of writes is synced before the next one is written. Hence a complete batch behind
//! damaged bytes proves that the damaged ones had been synced too.
//!
//! | file | content |
//! |---|---|
//! | `framing` | RocksDB's framing of log files, which the MANIFEST shares |
//! | `fields` | the fields of the records in both |
//! | `manifest` | the part of the MANIFEST that says what the tables hold, and which logs count |
//! | `wal` | the batches of the write-ahead log, those behind damage included |
//! | `verdict` | decides what is missing |
//! | `lost` | which sessions the missing writes were about |
//! | `examine` | reads the files and asks for the verdict |

mod examine;
mod fields;
mod framing;
mod lost;
mod manifest;
#[cfg(test)]
mod tests;
mod verdict;
mod wal;

pub(super) use examine::{Examined, examine};
pub use lost::LostSessions;
pub(super) use manifest::Manifest;
pub use verdict::MissingWrites;
pub(super) use wal::LoggedBatch;
