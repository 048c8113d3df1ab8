//! What can be read of a damaged database, in a new one.
//!
//! ```text
//!   tables, logs --> image --> copy around the damage --> judge each session --> write back --> new database
//!                                                              |
//!                                                              +--> report: what is lost, session by session
//! ```
//!
//! The damaged database is only read. The same is done for three purposes: `abide store check` only
//! reports, `abide store salvage` writes into another folder, and a start that finds a damaged table
//! puts the new database in the old one's place (`in_place`), and keeps that aside.
//!
//! | file | content |
//! |---|---|
//! | `image` | makes the tables and logs readable as one database |
//! | `culprit` | finds a damaged table that an error does not name |
//! | `around` | reads a family around its damage |
//! | `copy` | copies all families |
//! | `facts` | what can be read of one session |
//! | `judge`, `rebuild`, `salvaged` | decide what becomes of it |
//! | `write_back` | writes that into the new database |
//! | `rewrite` | all of these in order |
//! | `error` | why nothing can be read |
//! | `beside` | what is in the data folder beside the database |
//! | `in_place`, `to_folder` | the purposes |

mod around;
mod beside;
mod copy;
mod culprit;
mod error;
mod facts;
mod image;
mod in_place;
mod judge;
mod rebuild;
mod rewrite;
mod salvaged;
mod to_folder;
mod write_back;

pub use error::SalvageError;
pub(super) use in_place::{finish_swap, mend};
pub use to_folder::{check, salvage};
