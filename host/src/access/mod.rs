//! Who may call the API: the access tokens, of which the store has the digests, and the audit log of what
//! operators do.
//!
//! ```text
//!   create, revoke --> store (synced) --> table in memory --> the next request sees it
//!                                            |
//!   each request --- digest of its secret ---+--> holder: principal, when it ends
//! ```
//!
//! | file | content |
//! |---|---|
//! | `secret.rs` | what a client sends; drawn once, never stored |
//! | `refusal.rs` | why a token is not made or revoked |
//! | `holder.rs` | who sent a request, how much that may ask for, and until when |
//! | `tokens.rs` | the table of access tokens |
//! | `audit_log.rs` | the record of operators' acts |

mod audit_log;
mod holder;
mod refusal;
mod secret;
mod tokens;

pub use audit_log::AuditLog;
pub use holder::{Admission, Holder, TooMuch};
pub use refusal::TokenRefusal;
pub use secret::TokenSecret;
pub use tokens::{NewToken, Tokens};
