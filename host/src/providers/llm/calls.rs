//! The tool calls of an answer, put together from what servers make of them: one call runs once, two
//! calls both run. Pure.
//!
//! A server's ids and indexes say which parts belong together, and nothing else:
//!
//! | part | belongs to |
//! |---|---|
//! | with an index | the last call under it |
//! | with an id alone | the call with that id |
//! | with neither | the call that was added to last |
//!
//! It begins another call where it names a tool and brings what can only be one: another id, or
//! arguments behind a complete object. At the end, calls of one id and one name whose arguments are
//! equal, or where those of one are the beginning of the other's, were one that came twice. So were
//! two equal ones that neither an id nor an index tells apart: to run one twice does harm.

use std::cell::Cell;
use std::collections::{BTreeSet, HashSet};

use serde_json::Value;

use super::call_id::call_id;
use super::chunk::Fragment;
use crate::domain::ModelToolCall;
use crate::providers::lossy;

/// What a call weighs besides its texts, so that empty ones are bounded too.
const CALL_BYTES: usize = 64;
/// The longest name that servers take back, in bytes.
const NAME_MAX_BYTES: usize = 64;
/// What models put before a tool's name.
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
    /// The last part, where it was all of the call once more.
    whole: Option<String>,
    /// The last part, while each begins with the one before it.
    grown: Option<String>,
    /// All parts of the name.
    names: String,
    /// Whether the arguments are an object, once that was asked.
    is_object: Cell<Option<bool>>,
    has_marks: bool,
}

/// How far the arguments' outermost object has come. Known without reading them anew with each part.
#[derive(Clone, Debug, Default)]
struct ArgumentScan {
    depth: usize,
    in_text: bool,
    escaped: bool,
    is_closed: bool,
    /// Something stands behind the object.
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

    /// Whether nothing but another call can begin with this part, which would else be added here.
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
        // What comes once more without an id of its own is the same call, not a second one.
        // An empty object may stand where the arguments are about to come.
        (is_other || !part.arguments.trim().is_empty())
            && self.is_complete()
            && (is_other || !(is_same(&self.arguments, &part.arguments) || self.is_placeholder()))
    }

    fn add(&mut self, part: Fragment, has_marks: bool) {
        self.id = self.id.take().or(part.id);
        // Names come whole; some servers repeat them.
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

    /// No more will come.
    fn end(&mut self) {
        let grown = self.grown.take().filter(|grown| is_object(grown));
        if let Some(whole) = self.whole.take().or(grown)
            && !self.is_complete()
        {
            self.replace(whole);
        }
    }

    /// The calls that it is: one, but where servers put the arguments of several behind each other.
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
        // Some begin with an empty object, and then say what is in it.
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

    /// Takes another one into itself, if the two were one.
    fn absorb(&mut self, other: &PartialCall) -> bool {
        if self.id != other.id || !same_name(&self.name, &other.name) {
            return false;
        }
        if self.id.is_none() {
            // Places of their own tell them apart.
            return self.index == other.index && is_same(&self.arguments, &other.arguments);
        }
        let (own, others) = (self.arguments.trim(), other.arguments.trim());
        if is_same(own, others) || own.starts_with(others) {
            self.has_marks |= other.has_marks;
        } else if others.starts_with(own) {
            self.replace(other.arguments.clone());
            self.has_marks |= other.has_marks;
        } else if !self.is_complete() && is_object(&format!("{own}{others}")) {
            // Its parts came under indexes of their own.
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

/// What has arrived so far.
#[derive(Debug, Default)]
pub(super) struct Calls {
    calls: Vec<PartialCall>,
    /// The place of the call that was added to last.
    last: Option<usize>,
    /// The call in the old place.
    old: Option<PartialCall>,
}

/// A name that no server takes back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadName(pub(super) String);

impl Calls {
    /// Adds a part; gives what it weighs in bytes. `known` are the tools that were offered.
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

    /// The same for a part of the one call in the old place.
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
            // What is no beginning goes on with what was begun, also under an index of its own.
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

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.old.is_none()
    }

    /// Whether the last call names a tool, and nothing of its arguments has come.
    pub(super) fn ends_before_arguments(&self) -> bool {
        let last = self.calls.last();
        last.is_some_and(|call| call.name.is_some() && call.arguments.trim().is_empty())
    }

    /// The calls; of an answer that was cut (`is_cut`), the last may have no arguments at all. `known`
    /// are the tools that were offered; `seed` and `taken` make the
    /// [ids](call_id).
    pub(super) fn complete(
        self,
        known: &BTreeSet<&str>,
        seed: &str,
        taken: &mut HashSet<String>,
        is_cut: bool,
    ) -> Result<Vec<ModelToolCall>, BadName> {
        let mut whole: Vec<PartialCall> = Vec::new();
        // Some servers put a call in both places.
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
            // A place that was never filled.
            if is_blank(&call) && (has_others || call.id.is_none()) {
                continue;
            }
            if !whole.iter_mut().any(|before| before.absorb(&call)) {
                whole.push(call);
            }
        }
        let count = whole.len();
        let calls = whole.into_iter().enumerate().map(|(place, call)| {
            // Where the answer was cut, arguments that have not begun are none.
            let may_be_cut = is_cut && place + 1 == count;
            let has_begun = !call.is_placeholder() && !is_nothing(&call.arguments);
            Ok(ModelToolCall {
                name: match known.contains(call.names.as_str()) {
                    // It came in pieces.
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

/// One object, of one that has come and of one that goes on with it: by further fields, or by texts
/// that have grown.
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

/// Whether a text is a complete object.
fn is_object(text: &str) -> bool {
    // Most parts are none, and need not be read to see it.
    let text = text.trim();
    text.starts_with('{')
        && text.ends_with('}')
        && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

fn is_same(one: &str, other: &str) -> bool {
    let read = |text: &str| serde_json::from_str::<Value>(text).ok();
    one.trim() == other.trim() || read(one).is_some_and(|one| read(other) == Some(one))
}

/// The tool's name without what models and servers put around it.
fn name(said: &str, known: &BTreeSet<&str>) -> Result<String, BadName> {
    if known.contains(said) && is_sound(said) {
        return Ok(said.to_owned());
    }
    let around = [' ', '\t', '\n', '\r', '"', '\'', '`'];
    // Tokens of a chat template: `t__x<|channel|>commentary`.
    let cut = said.split("<|").next().unwrap_or_default();
    let cut = cut.trim_matches(around);
    let bare = NAME_PREFIXES
        .iter()
        .find_map(|prefix| cut.strip_prefix(prefix));
    let bare = bare.unwrap_or(cut).trim_matches(around);
    // `functions.t__x:0`, `server.t__x`, `t__x()`: where a tool of that name was offered.
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
        _ => Err(BadName(said.to_owned())),
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

/// The arguments as JSON, where they can be read as that; else as they came, for the guest to tell
/// its model.
fn arguments(said: String, has_marks: bool) -> String {
    let said = match has_marks {
        true => lossy::joined(&said),
        false => said,
    };
    // The arguments are JSON within JSON: a lone surrogate may be escaped on either level.
    let said = lossy::mended(&said).into_owned();
    match said.trim() {
        text if is_nothing(text) => "{}".to_owned(),
        text if text.starts_with('"') => match serde_json::from_str::<String>(text) {
            // Encoded once too often.
            Ok(inner) if is_object(&inner) => inner,
            Ok(inner) if matches!(inner.trim(), "" | "null") => "{}".to_owned(),
            _ => said,
        },
        _ => said,
    }
}

#[cfg(test)]
#[path = "calls_object_tests.rs"]
mod object_tests;
#[cfg(test)]
#[path = "calls_tests.rs"]
mod tests;
