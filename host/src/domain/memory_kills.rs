//! When workers were killed, as far as that is to be told.

/// The last kills of workers for want of memory, or that may have been.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryKills<T> {
    /// By the kernel, by its own account.
    pub by_kernel: Option<T>,
    /// Several in a row, where the system does not tell who sends a SIGKILL.
    pub by_unknown: Option<T>,
    /// Many in a row, where it tells that it was not the kernel.
    pub by_others: Option<T>,
}

impl<T: Copy> MemoryKills<T> {
    /// Converts the moments; those for which there is no other value are left out.
    pub fn map<U>(self, convert: impl Fn(T) -> Option<U>) -> MemoryKills<U> {
        MemoryKills {
            by_kernel: self.by_kernel.and_then(&convert),
            by_unknown: self.by_unknown.and_then(&convert),
            by_others: self.by_others.and_then(&convert),
        }
    }
}
