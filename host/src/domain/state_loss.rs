//! What another version of a plugin has lost of a session's state.
//!
//! A new version reads the state of the old one. A field that it calls by another name is then missing to it,
//! and where a default stands in for what is missing, nothing fails: the content is gone with the next
//! snapshot. Values change in any turn, so what is compared is what is there at all.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::state_path::{Part, shown};
use super::state_tree::StateTree;

/// How many paths are listed.
const PATHS_MAX: usize = 20;

/// The most keys that are gone from a map, or are new in it, if one that was renamed is to be found although
/// its content has grown. One with the same content is found among any number.
const GROWN_MAX: usize = 32;

/// What is gone from a state: parts that were not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StateLoss {
    /// Where the first of them were, such as `history`, `settings.voice` or `messages[17..]`: the topmost
    /// paths only.
    pub paths: Vec<String>,
    /// The number of the others.
    pub more: u64,
}

impl StateLoss {
    /// Returns what of the state `before` is gone from the state `after`.
    pub(crate) fn between(before: &StateTree, after: &StateTree) -> Self {
        let mut comparison = Comparison::default();
        // The top level has no path, so that its parts are named if all is gone.
        match (before, after) {
            (StateTree::Map(before), StateTree::Map(after)) => comparison.maps(before, after),
            (StateTree::Map(before), _) => comparison.maps(before, &[]),
            (StateTree::List(before), StateTree::List(after)) => comparison.lists(before, after),
            (StateTree::List(before), _) => comparison.lists(before, &[]),
            (StateTree::Empty | StateTree::Leaf(_), _) => {}
        }
        comparison.loss
    }

    /// Whether nothing is gone.
    pub fn is_none(&self) -> bool {
        self.paths.is_empty() && self.more == 0
    }
}

type Entry = (Box<str>, StateTree);

/// Two states, at the path at which they are compared.
#[derive(Default)]
struct Comparison<'a> {
    path: Vec<Part<'a>>,
    loss: StateLoss,
}

impl<'a> Comparison<'a> {
    fn maps(&mut self, before: &'a [Entry], after: &'a [Entry]) {
        let mut gone = only_in(before, after);
        drop_renamed(&mut gone, &only_in(after, before));
        for (key, _) in gone {
            self.lose(Part::Key(key));
        }
        for (key, before) in before {
            if let Some(after) = value_of(after, key).filter(|after| !after.is_empty()) {
                self.parts(Part::Key(key), before, after);
            }
        }
    }

    fn lists(&mut self, before: &'a [StateTree], after: &'a [StateTree]) {
        for (at, (before, after)) in before.iter().zip(after).enumerate() {
            self.parts(Part::Item(at), before, after);
        }
        let gone = before.get(after.len()..).unwrap_or_default();
        if !gone.iter().all(StateTree::is_empty) {
            self.lose(Part::ItemsFrom(after.len()));
        }
    }

    fn parts(&mut self, part: Part<'a>, before: &'a StateTree, after: &'a StateTree) {
        match (before, after) {
            // Another value is no loss.
            (StateTree::Empty, _) | (StateTree::Leaf(_), StateTree::Leaf(_)) => {}
            (StateTree::Map(before), StateTree::Map(after)) => {
                self.path.push(part);
                self.maps(before, after);
                self.path.pop();
            }
            (StateTree::List(before), StateTree::List(after)) => {
                self.path.push(part);
                self.lists(before, after);
                self.path.pop();
            }
            // It is empty, or of another kind, in which nothing can be found again.
            _ => self.lose(part),
        }
    }

    fn lose(&mut self, part: Part<'a>) {
        if self.loss.paths.len() < PATHS_MAX {
            self.path.push(part);
            self.loss.paths.push(shown(&self.path));
            self.path.pop();
        } else {
            self.loss.more += 1;
        }
    }
}

/// Returns what is in one map and is not, or is empty, in the other.
fn only_in<'a>(map: &'a [Entry], other: &[Entry]) -> Vec<(&'a str, &'a StateTree)> {
    let is_empty = |key| value_of(other, key).is_none_or(StateTree::is_empty);
    map.iter()
        .filter(|(key, tree)| !tree.is_empty() && is_empty(key))
        .map(|(key, tree)| (&**key, tree))
        .collect()
}

fn value_of<'a>(map: &'a [Entry], key: &str) -> Option<&'a StateTree> {
    let at = map.binary_search_by(|(other, _)| (**other).cmp(key)).ok()?;
    map.get(at).map(|(_, tree)| tree)
}

/// Drops what only has another key now. A new key stands for one old key: if three flags are gone and one is
/// new, two are lost, though all have the same value.
fn drop_renamed(gone: &mut Vec<(&str, &StateTree)>, new: &[(&str, &StateTree)]) {
    let mut contents: HashMap<u64, usize> = HashMap::new();
    for (_, tree) in new {
        *contents.entry(tree.fingerprint()).or_default() += 1;
    }
    let mut take = |tree: &StateTree| match contents.get_mut(&tree.fingerprint()) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        Some(_) | None => false,
    };
    gone.retain(|(_, tree)| !take(tree));
    let mut left: Vec<_> = new.iter().filter(|(_, tree)| take(tree)).collect();
    if gone.len() > GROWN_MAX || left.len() > GROWN_MAX {
        return;
    }
    gone.retain(|(_, old)| {
        let found = left.iter().position(|(_, new)| holds(new, old));
        found.map(|at| left.remove(at)).is_none()
    });
}

/// Whether all of `old` is in `new`, which may have more.
fn holds(new: &StateTree, old: &StateTree) -> bool {
    match (new, old) {
        (_, StateTree::Empty) => true,
        (StateTree::List(new), StateTree::List(old)) => {
            new.len() >= old.len() && new.iter().zip(old).all(|(new, old)| holds(new, old))
        }
        (StateTree::Map(new), StateTree::Map(old)) => old
            .iter()
            .all(|(key, old)| value_of(new, key).is_some_and(|new| holds(new, old))),
        _ => new == old,
    }
}

#[cfg(test)]
#[path = "state_loss_tests.rs"]
mod tests;
