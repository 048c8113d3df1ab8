//! Patterns for names, as operators write them in grants.

/// Names, or patterns with `*` for any run of characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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

    /// Returns the first one that is a plain name, not a pattern.
    pub fn first_name(&self) -> Option<&str> {
        self.0
            .iter()
            .map(String::as_str)
            .find(|name| !name.contains('*'))
    }
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
}
