//! Patterns for names, as operators write them in grants.

use serde::{Deserialize, Serialize};

/// Names, or patterns with `*` for any run of characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Patterns(pub Vec<String>);

impl Patterns {
    /// Returns the pattern that matches all names.
    pub fn all() -> Self {
        Self(vec!["*".to_owned()])
    }

    /// Whether any of them matches `name`.
    pub fn allow(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| fits(pattern, name))
    }

    /// Returns patterns that match only names which these and `others` match.
    pub(super) fn common(&self, others: &Self) -> Self {
        Self(common(&self.0, &others.0, |one, other| covers(one, other)))
    }

    /// Returns the first one that is a plain name, not a pattern.
    pub fn first_name(&self) -> Option<&str> {
        self.0
            .iter()
            .map(String::as_str)
            .find(|name| !name.contains('*'))
    }
}

/// Returns the entries of both lists that the other list covers, in the order of `these`: what both allow.
/// Of two that overlap in part, nothing is left.
pub(super) fn common<T: Clone + PartialEq>(
    these: &[T],
    others: &[T],
    covers: impl Fn(&T, &T) -> bool,
) -> Vec<T> {
    let mut common: Vec<T> = Vec::new();
    for this in these {
        for other in others {
            let narrower = match (covers(other, this), covers(this, other)) {
                (true, _) => this,
                (false, true) => other,
                (false, false) => continue,
            };
            if !common.contains(narrower) {
                common.push(narrower.clone());
            }
        }
    }
    common
}

/// Whether a pattern matches all that another one does: then it matches that one's text, for only a `*`
/// matches a `*`.
pub(super) fn covers(pattern: &str, other: &str) -> bool {
    fits(pattern, other)
}

/// Whether `name` matches `pattern`, in which `*` stands for any run of characters.
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(first) = parts.next() else {
        return false;
    };
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        if let Some(middle) = last.replace(part) {
            match rest.find(middle) {
                Some(at) => rest = &rest[at + middle.len()..],
                None => return false,
            }
        }
    }
    match last {
        Some(end) => rest.ends_with(end),
        None => rest.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_whole_names() {
        for (pattern, name, expected) in [
            ("files", "files", true),
            ("files", "files2", false),
            ("fi*", "files", true),
            ("*les", "files", true),
            ("f*l*s", "files", true),
            ("f*x*s", "files", false),
            ("*", "", true),
            ("a*a", "a", false),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn what_two_lists_allow_is_what_each_allows() {
        let patterns = |all: &str| Patterns(all.split_whitespace().map(str::to_owned).collect());
        for (these, others, expected) in [
            ("a b", "b c", "b"),
            ("*", "a b", "a b"),
            ("a b", "*", "a b"),
            ("f*", "files f*x fx*", "files f*x fx*"),
            // They overlap in part.
            ("f*", "*x", ""),
            ("a", "", ""),
            ("b a", "a* b*", "b a"),
        ] {
            let common = patterns(these).common(&patterns(others));
            assert_eq!(common, patterns(expected), "{these} and {others}");
        }
    }
}
