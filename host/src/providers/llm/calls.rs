//! Assembles the tool calls of an answer from the fragments that servers send, so that one call is
//! executed once and two calls are both executed. Pure.
//!
//! A server's ids and indexes only determine which fragments belong together:
//!
//! | fragment | belongs to |
//! |---|---|
//! | with an index | the last call with that index |
//! | with only an id | the call with that id |
//! | with neither | the call that was extended last |
//!
//! A fragment starts another call if it names a tool and holds what cannot belong to the same call:
//! another id, or arguments after a complete object. At the end, calls with the same id and name
//! are one call that arrived twice if their arguments are equal or one's are a prefix of the
//! other's. Two equal calls that neither an id nor an index distinguishes are also one: executing a
//! call twice does harm.

use std::cell::Cell;
use std::collections::{BTreeSet, HashSet};

use serde_json::Value;

use super::call_id::call_id;
use super::chunk::Fragment;
use crate::domain::ModelToolCall;
use crate::providers::lossy;

/// How many bytes a call counts for besides its texts, so that empty calls are bounded too.
const CALL_BYTES: usize = 64;
/// The longest tool name that servers accept in a conversation, in bytes.
const NAME_MAX_BYTES: usize = 64;
/// Prefixes that models put before a tool's name.
const NAME_PREFIXES: [&str; 6] = [
    "functions.",
    "functions:",
    "function.",
    "tools.",
    "default_api.",
    "default_api:",
];

#[derive(Clone, Debug, Default)]
struct PartialCall {
    index: Option<u64>,
    id: Option<String>,
    name: Option<String>,
    arguments: String,
    scan: ArgumentScan,
    /// The arguments of the last fragment that repeated the whole call.
    whole: Option<String>,
    /// The arguments of the last fragment, as long as each fragment's begin with the previous
    /// one's.
    grown: Option<String>,
    /// The names of all fragments, concatenated.
    names: String,
    /// Caches whether the arguments are an object.
    is_object: Cell<Option<bool>>,
    has_marks: bool,
}

/// An incremental scan for the end of the outermost object in the arguments, so that they are not
/// scanned again with each fragment.
#[derive(Clone, Debug, Default)]
struct ArgumentScan {
    depth: usize,
    in_text: bool,
    escaped: bool,
    is_closed: bool,
    /// There is text after the object.
    goes_on: bool,
}

impl ArgumentScan {
    fn take(&mut self, part: &str) {
        for byte in part.bytes() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_text => self.escaped = true,
                b'"' => self.in_text = !self.in_text,
                _ if self.in_text => {}
                _ if self.is_closed => self.goes_on |= !byte.is_ascii_whitespace(),
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.is_closed = self.depth == 0;
                }
                _ => {}
            }
        }
    }
}

impl PartialCall {
    fn is_placeholder(&self) -> bool {
        self.arguments.trim() == "{}"
    }

    fn is_complete(&self) -> bool {
        if !self.scan.is_closed || self.scan.goes_on {
            return self.arguments.trim() == "null";
        }
        let known = self.is_object.get();
        let is_object = known.unwrap_or_else(|| is_object(&self.arguments));
        self.is_object.set(Some(is_object));
        is_object
    }

    fn append(&mut self, arguments: &str) {
        if !arguments.is_empty() {
            self.is_object.set(None);
        }
        self.scan.take(arguments);
        self.arguments.push_str(arguments);
    }

    fn replace(&mut self, arguments: String) {
        self.scan = ArgumentScan::default();
        self.is_object.set(None);
        self.scan.take(&arguments);
        self.arguments = arguments;
    }

    /// Returns whether this fragment can only start another call, rather than extend this one.
    fn ends_before(&self, part: &Fragment, known: &BTreeSet<&str>) -> bool {
        let Some(name) = &part.name else {
            return false;
        };
        let is_other = self.name.as_ref().is_some_and(|own| own != name);
        let is_other_id = match (&self.id, &part.id) {
            (Some(own), Some(id)) => own != id,
            _ => false,
        };
        if is_other_id {
            return self.is_complete() || is_other;
        }
        let are_tools =
            |own: &String| known.contains(own.as_str()) && known.contains(name.as_str());
        if is_other && self.name.as_ref().is_some_and(are_tools) {
            return true;
        }
        // Equal arguments without an id of their own repeat the same call; they are not a second
        // one. An empty object may be a placeholder for arguments that are still to arrive.
        (is_other || !part.arguments.trim().is_empty())
            && self.is_complete()
            && (is_other || !(is_same(&self.arguments, &part.arguments) || self.is_placeholder()))
    }

    fn add(&mut self, part: Fragment, has_marks: bool) {
        self.id = self.id.take().or(part.id);
        // Names mostly arrive whole, and some servers repeat them.
        let names_again = self.name.is_some() && part.name.is_some();
        self.names
            .push_str(part.name.as_deref().unwrap_or_default());
        if !part.arguments.is_empty() {
            let is_first = self.arguments.is_empty();
            let before = self.grown.take();
            let grows = before.is_some_and(|before| part.arguments.starts_with(&before));
            self.grown = (is_first || grows).then(|| part.arguments.clone());
        }
        self.name = self.name.take().or(part.name);
        self.has_marks |= has_marks;
        if self.scan.is_closed
            && is_object(&part.arguments)
            && self.is_complete()
            && is_same(&self.arguments, &part.arguments)
        {
            return;
        }
        if part.is_object
            && self.is_complete()
            && let Some(merged) = merged(&self.arguments, &part.arguments)
        {
            return self.replace(merged);
        }
        let grows = !self.arguments.is_empty() && part.arguments.starts_with(&self.arguments);
        if names_again && grows && is_object(&part.arguments) {
            self.whole = Some(part.arguments.clone());
        }
        self.append(&part.arguments);
    }

    /// Settles the arguments, once no more fragments will arrive.
    fn end(&mut self) {
        let grown = self.grown.take().filter(|grown| is_object(grown));
        if let Some(whole) = self.whole.take().or(grown)
            && !self.is_complete()
        {
            self.replace(whole);
        }
    }

    /// Splits it into calls: mostly one, but some servers concatenate the arguments of several.
    fn apart(mut self) -> Vec<Self> {
        self.end();
        let read = serde_json::Deserializer::from_str(&self.arguments);
        let read = read.into_iter::<serde_json::Map<String, Value>>();
        let objects: Result<Vec<_>, _> = match self.scan.goes_on {
            true => read.collect(),
            false => return vec![self],
        };
        let Ok(mut objects) = objects else {
            return vec![self];
        };
        objects.dedup();
        // Some servers send an empty object first, and then the real one.
        if objects.len() > 1 && objects.first().is_some_and(serde_json::Map::is_empty) {
            objects.remove(0);
        }
        let calls = objects.into_iter().map(|object| {
            let mut call = self.clone();
            call.replace(Value::Object(object).to_string());
            call
        });
        calls.collect()
    }

    /// Merges another call into this one if both are the same call, and returns whether it did.
    fn absorb(&mut self, other: &PartialCall) -> bool {
        if self.id != other.id || !same_name(&self.name, &other.name) {
            return false;
        }
        if self.id.is_none() {
            // Different indexes mean different calls.
            return self.index == other.index && is_same(&self.arguments, &other.arguments);
        }
        let (own, others) = (self.arguments.trim(), other.arguments.trim());
        if is_same(own, others) || own.starts_with(others) {
            self.has_marks |= other.has_marks;
        } else if others.starts_with(own) {
            self.replace(other.arguments.clone());
            self.has_marks |= other.has_marks;
        } else if !self.is_complete() && is_object(&format!("{own}{others}")) {
            // The fragments of one call arrived under different indexes.
            self.append(&other.arguments);
            self.has_marks |= other.has_marks;
        } else {
            return false;
        }
        if self.name.is_none() {
            self.name.clone_from(&other.name);
        }
        true
    }
}

/// The calls that have arrived so far.
#[derive(Debug, Default)]
pub(super) struct Calls {
    calls: Vec<PartialCall>,
    /// The position of the call that was extended last.
    last: Option<usize>,
    /// The call in OpenAI's older `function_call` field.
    old: Option<PartialCall>,
}

/// A tool name that no server accepts in a conversation.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadName(pub(super) String);

impl Calls {
    /// Adds a fragment, and returns how many bytes it counts for. `known` are the offered tools.
    pub(super) fn add(&mut self, part: Fragment, has_marks: bool, known: &BTreeSet<&str>) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let weight = text(&part.id) + text(&part.name) + part.arguments.len();
        let found = self.find(&part).filter(|found| {
            let call = self.calls.get(*found);
            call.is_some_and(|call| !call.ends_before(&part, known))
        });
        if let Some(call) = found.and_then(|found| self.calls.get_mut(found)) {
            self.last = found;
            call.add(part, has_marks);
            return weight;
        }
        self.last = Some(self.calls.len());
        let mut call = PartialCall {
            index: part.index,
            ..PartialCall::default()
        };
        call.add(part, has_marks);
        self.calls.push(call);
        weight + CALL_BYTES
    }

    /// Does the same for a fragment of the one call in the older field.
    pub(super) fn add_old(&mut self, part: Fragment, has_marks: bool) -> usize {
        let weight = part.name.as_ref().map_or(0, String::len) + part.arguments.len();
        let is_new = self.old.is_none();
        let call = self.old.get_or_insert_default();
        call.add(part, has_marks);
        weight + if is_new { CALL_BYTES } else { 0 }
    }

    fn find(&self, part: &Fragment) -> Option<usize> {
        if let Some(index) = part.index {
            let under = self
                .calls
                .iter()
                .rposition(|call| call.index == Some(index));
            // A fragment without a name continues an earlier call, even under a new index.
            return under.or_else(|| {
                let id = part.id.as_ref().filter(|_| part.name.is_none());
                let of_id = |id| {
                    self.calls
                        .iter()
                        .rposition(|call| call.id.as_ref() == Some(id))
                };
                let last = self
                    .last
                    .filter(|_| part.name.is_none() && part.id.is_none());
                id.and_then(of_id).or(last)
            });
        }
        let of_id = part.id.as_ref().and_then(|id| {
            let mut calls = self.calls.iter();
            calls.rposition(|call| call.id.as_ref() == Some(id))
        });
        of_id.or(self.last)
    }

    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.old.is_none()
    }

    /// Returns whether the last call names a tool, but none of its arguments have arrived.
    pub(super) fn ends_before_arguments(&self) -> bool {
        let last = self.calls.last();
        last.is_some_and(|call| call.name.is_some() && call.arguments.trim().is_empty())
    }

    /// Returns the calls. If the answer was cut off (`is_cut`), the last one may have no arguments
    /// at all. `known` are the offered tools. `seed` and `taken` determine the [ids](call_id).
    pub(super) fn complete(
        self,
        known: &BTreeSet<&str>,
        seed: &str,
        taken: &mut HashSet<String>,
        is_cut: bool,
    ) -> Result<Vec<ModelToolCall>, BadName> {
        let mut whole: Vec<PartialCall> = Vec::new();
        // Some servers put a call in both fields.
        let is_blank = |call: &PartialCall| call.name.is_none() && call.arguments.trim().is_empty();
        let has_calls = self.calls.iter().any(|call| !is_blank(call));
        let old = self.old.filter(|_| !has_calls);
        let has_others = has_calls || old.is_some();
        for call in self
            .calls
            .into_iter()
            .chain(old)
            .flat_map(PartialCall::apart)
        {
            // An entry that was never filled.
            if is_blank(&call) && (has_others || call.id.is_none()) {
                continue;
            }
            if !whole.iter_mut().any(|before| before.absorb(&call)) {
                whole.push(call);
            }
        }
        let count = whole.len();
        let calls = whole.into_iter().enumerate().map(|(place, call)| {
            // If the answer was cut off before the arguments began, they stay empty, not `{}`.
            let may_be_cut = is_cut && place + 1 == count;
            let has_begun = !call.is_placeholder() && !is_nothing(&call.arguments);
            Ok(ModelToolCall {
                name: match known.contains(call.names.as_str()) {
                    // The name arrived in pieces.
                    true => name(&call.names, known)?,
                    false => name(call.name.as_deref().unwrap_or_default(), known)?,
                },
                arguments: match may_be_cut && !has_begun {
                    true => String::new(),
                    false => arguments(call.arguments, call.has_marks),
                },
                id: call_id(&format!("{seed}\0{place}"), taken),
            })
        });
        calls.collect()
    }
}

fn same_name(one: &Option<String>, other: &Option<String>) -> bool {
    one.is_none() || other.is_none() || one == other
}

/// Merges an object with a later version of it that adds fields or extends strings. Returns `None`
/// if the later one contradicts the earlier.
fn merged(before: &str, after: &str) -> Option<String> {
    let read = |text| serde_json::from_str::<serde_json::Map<String, Value>>(text).ok();
    let (mut all, after) = (read(before)?, read(after)?);
    for (key, value) in after {
        let goes_on = match (all.get(&key), &value) {
            (None, _) => true,
            (Some(Value::String(before)), Value::String(now)) => now.starts_with(before.as_str()),
            (Some(before), now) => before == now,
        };
        if !goes_on {
            return None;
        }
        all.insert(key, value);
    }
    Some(Value::Object(all).to_string())
}

/// Returns whether a text is a complete JSON object.
fn is_object(text: &str) -> bool {
    // Most fragments are not, which the first and last characters show without parsing.
    let text = text.trim();
    text.starts_with('{')
        && text.ends_with('}')
        && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

fn is_same(one: &str, other: &str) -> bool {
    let read = |text: &str| serde_json::from_str::<Value>(text).ok();
    one.trim() == other.trim() || read(one).is_some_and(|one| read(other) == Some(one))
}

/// Returns the tool's name without what models and servers put around it.
fn name(raw: &str, known: &BTreeSet<&str>) -> Result<String, BadName> {
    if known.contains(raw) && is_sound(raw) {
        return Ok(raw.to_owned());
    }
    let around = [' ', '\t', '\n', '\r', '"', '\'', '`'];
    // Cut off tokens of a chat template: `t__x<|channel|>commentary`.
    let cut = raw.split("<|").next().unwrap_or_default();
    let cut = cut.trim_matches(around);
    let bare = NAME_PREFIXES
        .iter()
        .find_map(|prefix| cut.strip_prefix(prefix));
    let bare = bare.unwrap_or(cut).trim_matches(around);
    // `functions.t__x:0`, `server.t__x`, `t__x()`: find the offered tool in it.
    let separated = bare.split(|char: char| !is_sound_char(char));
    let offered = separated
        .filter(|part| known.contains(part))
        .max_by_key(|part| part.len());
    match [cut, bare]
        .into_iter()
        .find(|name| known.contains(name))
        .or(offered)
    {
        Some(name) if is_sound(name) => Ok(name.to_owned()),
        _ if is_sound(bare) => Ok(bare.to_owned()),
        _ => Err(BadName(raw.to_owned())),
    }
}

fn is_sound_char(char: char) -> bool {
    char.is_ascii_alphanumeric() || matches!(char, '_' | '-')
}

fn is_sound(name: &str) -> bool {
    (1..=NAME_MAX_BYTES).contains(&name.len()) && name.chars().all(is_sound_char)
}

fn is_nothing(arguments: &str) -> bool {
    matches!(arguments.trim(), "" | "null" | "None" | "undefined")
}

/// Repairs the arguments if they can be read as JSON. Otherwise returns them as they arrived, for
/// the guest to report to its model.
fn arguments(raw: String, has_marks: bool) -> String {
    let raw = match has_marks {
        true => lossy::joined(&raw),
        false => raw,
    };
    // The arguments are JSON within JSON: a lone surrogate may be escaped on either level.
    let raw = lossy::mended(&raw).into_owned();
    match raw.trim() {
        text if is_nothing(text) => "{}".to_owned(),
        text if text.starts_with('"') => match serde_json::from_str::<String>(text) {
            // The object was JSON-encoded once too often.
            Ok(inner) if is_object(&inner) => inner,
            Ok(inner) if matches!(inner.trim(), "" | "null") => "{}".to_owned(),
            _ => raw,
        },
        _ => raw,
    }
}

#[cfg(test)]
#[path = "calls_object_tests.rs"]
mod object_tests;
#[cfg(test)]
#[path = "calls_tests.rs"]
mod tests;
