//! The memory of all guests together, as operators see it.

use serde::{Deserialize, Serialize};

/// The memory budget of all guests together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GuestMemoryStatus {
    /// What all guests together may hold, in bytes: `daemon.guest_memory`.
    pub budget_bytes: u64,
    /// What is reserved for guests that run, in bytes. More than the budget while a guest runs that
    /// needs more than it.
    pub reserved_bytes: u64,
    /// The number of guests that wait for memory before they begin.
    pub waiting: u64,
}
