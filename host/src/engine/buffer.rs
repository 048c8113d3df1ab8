//! The outputs and timer changes of a guest before its turn commits: bounded, and committed or lost
//! as a whole.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::{Limits, NAME_MAX_BYTES, Output, Timer, TimerOp, UnixMillis};

/// The reason why an output or timer was not added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is invalid, or not allowed at this point.
    Invalid(String),
    /// It exceeds a limit.
    Limit(String),
}

/// The outputs and timer changes of one guest call.
pub(super) struct Buffer {
    plugin: String,
    events_max: u32,
    event_max_bytes: u64,
    message_max_bytes: u64,
    output_max_bytes: u64,
    /// What was emitted so far, also by timers that were set anew since.
    output_bytes: u64,
    timers_max: u32,
    /// The names of the timers that were already set.
    set_before: BTreeSet<String>,
    open: bool,
    outputs: Vec<Output>,
    /// The changes by timer name: a later change replaces an earlier one.
    timers: BTreeMap<String, TimerOp>,
}

impl Buffer {
    pub(super) fn new(plugin: &str, limits: &Limits, set_before: &[String]) -> Self {
        Self {
            plugin: plugin.to_owned(),
            events_max: limits.events,
            event_max_bytes: limits.event_bytes,
            message_max_bytes: limits.message_bytes,
            output_max_bytes: limits.output_bytes,
            output_bytes: 0,
            timers_max: limits.timers,
            set_before: set_before.iter().cloned().collect(),
            open: false,
            outputs: Vec::new(),
            timers: BTreeMap::new(),
        }
    }

    /// Sets whether outputs and timers are accepted: only while `open` or `turn` runs.
    pub(super) fn accept(&mut self, open: bool) {
        self.open = open;
    }

    pub(super) fn text(&mut self, text: String) -> Result<(), Refused> {
        self.room(text.len())?;
        self.output(text.len())?;
        self.outputs.push(Output::Text(text));
        Ok(())
    }

    pub(super) fn event(&mut self, name: String, data: String) -> Result<(), Refused> {
        check_name("an event", &name)?;
        self.room(data.len())?;
        // Parsed as a `Value`, because that is how it is read later: data that passes here cannot
        // fail to parse there.
        serde_json::from_str::<serde_json::Value>(&data)
            .map_err(|e| Refused::Invalid(format!("the data of event `{name}` is no JSON: {e}")))?;
        self.output(name.len() + data.len())?;
        self.outputs.push(Output::Event { name, data });
        Ok(())
    }

    pub(super) fn set_timer(
        &mut self,
        name: String,
        due: UnixMillis,
        text: String,
    ) -> Result<(), Refused> {
        self.is_open()?;
        check_name("a timer", &name)?;
        self.size(
            "timer's text",
            text.len(),
            self.message_max_bytes,
            "message",
        )?;
        self.output(name.len() + text.len())?;
        if !self.is_set(&name) && self.timers_set() >= self.timers_max as usize {
            let (max, plugin) = (self.timers_max, &self.plugin);
            return Err(Refused::Limit(format!(
                "{max} timers are set, as many as `limits.timers` allows; \
                 cancel some, or raise plugins.{plugin}.limits.timers"
            )));
        }
        let timer = Timer {
            name: name.clone(),
            due,
            text,
        };
        self.timers.insert(name, TimerOp::Set(timer));
        Ok(())
    }

    pub(super) fn cancel_timer(&mut self, name: String) {
        if !self.open {
            return;
        }
        if self.set_before.contains(&name) {
            let cancel = TimerOp::Cancel { name: name.clone() };
            self.timers.insert(name, cancel);
        } else {
            self.timers.remove(&name);
        }
    }

    pub(super) fn take(&mut self) -> (Vec<Output>, Vec<TimerOp>) {
        let timers = std::mem::take(&mut self.timers);
        (
            std::mem::take(&mut self.outputs),
            timers.into_values().collect(),
        )
    }

    fn is_set(&self, name: &str) -> bool {
        match self.timers.get(name) {
            Some(TimerOp::Set(_)) => true,
            Some(TimerOp::Cancel { .. }) => false,
            None => self.set_before.contains(name),
        }
    }

    fn timers_set(&self) -> usize {
        let untouched = |name: &&String| !self.timers.contains_key(*name);
        let new = |op: &&TimerOp| matches!(op, TimerOp::Set(_));
        self.set_before.iter().filter(untouched).count() + self.timers.values().filter(new).count()
    }

    fn is_open(&self) -> Result<(), Refused> {
        if self.open {
            return Ok(());
        }
        Err(Refused::Invalid(
            "nothing is said or planned in `snapshot` and `restore`; do it in `open` or `turn`"
                .into(),
        ))
    }

    /// Checks that one more output of `bytes` fits.
    fn room(&self, bytes: usize) -> Result<(), Refused> {
        self.is_open()?;
        if self.outputs.len() >= self.events_max as usize {
            let (max, plugin) = (self.events_max, &self.plugin);
            return Err(Refused::Limit(format!(
                "the turn has emitted {max} events, as many as `limits.events` allows; \
                 emit fewer, or raise plugins.{plugin}.limits.events"
            )));
        }
        self.size("event", bytes, self.event_max_bytes, "event")
    }

    /// Counts `bytes` of output, unless they are too many.
    fn output(&mut self, bytes: usize) -> Result<(), Refused> {
        let total = self.output_bytes.saturating_add(bytes as u64);
        if total > self.output_max_bytes {
            let (max, plugin) = (self.output_max_bytes, &self.plugin);
            return Err(Refused::Limit(format!(
                "the turn's output would have {total} bytes, `limits.output` allows {max}; \
                 emit less, or raise plugins.{plugin}.limits.output"
            )));
        }
        self.output_bytes = total;
        Ok(())
    }

    fn size(&self, what: &str, bytes: usize, max: u64, key: &str) -> Result<(), Refused> {
        if bytes as u64 <= max {
            return Ok(());
        }
        let plugin = &self.plugin;
        Err(Refused::Limit(format!(
            "the {what} has {bytes} bytes, `limits.{key}` allows {max}; \
             make it smaller, or raise plugins.{plugin}.limits.{key}"
        )))
    }
}

fn check_name(what: &str, name: &str) -> Result<(), Refused> {
    let bytes = name.len();
    if (1..=NAME_MAX_BYTES).contains(&bytes) {
        return Ok(());
    }
    Err(Refused::Invalid(format!(
        "{what}'s name has {bytes} bytes; 1 to {NAME_MAX_BYTES} are allowed"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(set_before: &[&str]) -> Buffer {
        let limits = Limits {
            events: 2,
            event_bytes: 10,
            message_bytes: 10,
            output_bytes: 12,
            timers: 2,
            ..Limits::default()
        };
        let before: Vec<_> = set_before.iter().map(|name| (*name).to_owned()).collect();
        let mut buffer = Buffer::new("p", &limits, &before);
        buffer.accept(true);
        buffer
    }

    fn set(buffer: &mut Buffer, name: &str) -> bool {
        buffer
            .set_timer(name.into(), UnixMillis(1), "t".into())
            .is_ok()
    }

    #[test]
    fn outputs_are_bounded_and_checked() {
        let mut buffer = buffer(&[]);
        assert!(matches!(
            buffer.text("x".repeat(11)),
            Err(Refused::Limit(_))
        ));
        assert!(matches!(
            buffer.event("e".into(), "{".into()),
            Err(Refused::Invalid(_))
        ));
        assert!(matches!(
            buffer.event(String::new(), "1".into()),
            Err(Refused::Invalid(_))
        ));
        assert!(buffer.event("e".into(), "1".into()).is_ok());
        assert!(buffer.text("x".repeat(10)).is_ok());
        assert!(matches!(buffer.text("x".into()), Err(Refused::Limit(_))));
        assert_eq!(buffer.take().0.len(), 2);
    }

    #[test]
    fn all_outputs_together_are_bounded() {
        let mut buffer = buffer(&[]);
        buffer.text("x".repeat(9)).unwrap();
        let Err(Refused::Limit(reason)) = buffer.event("e".into(), "123".into()) else {
            panic!("thirteen bytes are too many");
        };
        assert!(reason.contains("plugins.p.limits.output"), "{reason}");
        assert!(!set(&mut buffer, "abc"));
        assert!(set(&mut buffer, "ab"));
        assert!(buffer.text("x".into()).is_err());
        let (outputs, timers) = buffer.take();
        assert_eq!((outputs.len(), timers.len()), (1, 1));
    }

    #[test]
    fn timers_count_those_that_were_set_before() {
        let mut buffer = buffer(&["a", "b"]);
        assert!(!set(&mut buffer, "c"));
        assert!(set(&mut buffer, "a"), "one of the same name is replaced");
        buffer.cancel_timer("b".into());
        assert!(set(&mut buffer, "c"));
        assert!(!set(&mut buffer, "b"));
        buffer.cancel_timer("c".into());
        buffer.cancel_timer("nobody".into());
        let names: Vec<_> = buffer.take().1.iter().map(|op| format!("{op:?}")).collect();
        assert_eq!(names.len(), 2, "{names:?}");
    }

    #[test]
    fn nothing_is_said_outside_of_open_and_turn() {
        let mut buffer = buffer(&[]);
        buffer.accept(false);
        assert!(matches!(buffer.text("x".into()), Err(Refused::Invalid(_))));
        assert!(!set(&mut buffer, "a"));
    }
}
