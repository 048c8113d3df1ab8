//! The gate in front of a server: it admits or refuses a request, and records both.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{BrokenRule, Rules, prefix_kept};
use crate::answer::message_text;

/// The gate of one server.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    rules: Rules,
    /// The requests that were refused, or were admitted with a violation, in order.
    refused: Vec<BrokenRule>,
    /// The messages of the last admitted request, by conversation.
    passed: BTreeMap<String, Vec<Value>>,
}

impl Gate {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            ..Self::default()
        }
    }

    /// Replaces the rules.
    pub(crate) fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    pub(crate) fn refused(&self) -> &[BrokenRule] {
        &self.refused
    }

    /// Returns why a request is refused; `None` if it is admitted.
    pub(crate) fn admit(&mut self, request: &Value) -> Option<BrokenRule> {
        let violation = self.rules.violations(request).into_iter().next();
        let noted = match &violation {
            Some(violation) => Some(violation.clone()),
            // No server refuses a rewritten prefix: it costs money, not an answer.
            None => self.rewritten(request),
        };
        self.refused.extend(noted);
        violation
    }

    fn rewritten(&mut self, request: &Value) -> Option<BrokenRule> {
        if !self.rules.keeps_prefix() {
            return None;
        }
        let lines = request["messages"].as_array().cloned().unwrap_or_default();
        let earlier = self.passed.entry(conversation(&lines)).or_default();
        let how = prefix_kept(earlier, &lines).err();
        *earlier = lines;
        how.map(|how| BrokenRule::rewritten(&how))
    }
}

/// Returns what distinguishes the conversations of one server: the mark `[session=NAME]` in one of
/// their messages. All conversations without the mark count as one.
fn conversation(lines: &[Value]) -> String {
    let mut texts = lines.iter().map(message_text);
    let name = texts.find_map(|text| {
        let (_, rest) = text.split_once("[session=")?;
        Some(rest.split_once(']')?.0.to_owned())
    });
    name.unwrap_or_default()
}
