//! A process, as `/proc` shows it.

/// What `/proc/PID/stat` says of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessEntry {
    pub(crate) pid: i32,
    /// 0 if the parent is not visible from here.
    pub(crate) parent: i32,
    pub(crate) group: i32,
    pub(crate) session: i32,
    /// When it started, in ticks since boot: ids are reused, the pair of both is not.
    pub(crate) start: u64,
    pub(crate) zombie: bool,
}

impl ProcessEntry {
    /// Reads it; none if there is no such process, or if it is hidden.
    pub(crate) fn read(pid: i32) -> Option<Self> {
        let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        Self::parse(pid, &stat)
    }

    /// Parses a line of `/proc/PID/stat`: `PID (NAME) STATE PARENT GROUP SESSION ...`, where the name
    /// may contain anything and the start time is the 22nd field.
    fn parse(pid: i32, stat: &[u8]) -> Option<Self> {
        let after = stat.iter().rposition(|byte| *byte == b')')? + 1;
        let mut fields = str::from_utf8(stat.get(after..)?)
            .ok()?
            .split_ascii_whitespace();
        let state = fields.next()?;
        let mut number = || fields.next()?.parse().ok();
        Some(Self {
            pid,
            parent: number()?,
            group: number()?,
            session: number()?,
            zombie: matches!(state, "Z" | "X" | "x"),
            start: fields.nth(15)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Pid, getpid, getppid};

    use super::*;

    #[test]
    fn a_line_of_stat_is_read_whatever_the_name() {
        let rest = "34 35 36 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 1 1";
        let read = ProcessEntry::parse(12, format!("12 (a) R 1 (b) S {rest}").as_bytes());
        let expected = ProcessEntry {
            pid: 12,
            parent: 34,
            group: 35,
            session: 36,
            start: 98765,
            zombie: false,
        };
        assert_eq!(read, Some(expected));
        let zombie = ProcessEntry::parse(12, format!("12 (a) Z {rest}").as_bytes());
        assert!(zombie.expect("a line").zombie);
        assert_eq!(ProcessEntry::parse(12, b"12 (sh"), None);
        assert_eq!(ProcessEntry::parse(12, b"12 (sh) S 1 2"), None);
    }

    #[test]
    fn this_process_is_read() {
        let me = ProcessEntry::read(getpid().as_raw_pid()).expect("it is there");
        assert_eq!(Some(me.parent), getppid().map(Pid::as_raw_pid));
        assert_eq!(ProcessEntry::read(i32::MAX), None);
    }
}
