//! Checks the capabilities granted to plugins, and the fallbacks of the model providers that they
//! are granted.

use std::collections::BTreeMap;

use super::diagnostics::nearest;
use super::value_checks::Notes;
use crate::domain::{HttpGrants, HttpRule, Patterns};

/// Checks that every provider granted by name, not by pattern, is configured.
pub(super) fn llm(notes: &mut Notes, plugin: &str, granted: &[String], providers: &[&str]) {
    for name in granted.iter().filter(|name| !name.contains('*')) {
        if providers.contains(&name.as_str()) {
            continue;
        }
        unknown(
            notes,
            &format!("plugins.{plugin}.capabilities.llm"),
            name,
            providers,
        );
    }
}

/// Checks that each provider's fallback is configured, and that fallbacks form no cycle.
pub(super) fn fallbacks(notes: &mut Notes, fallbacks: &BTreeMap<&str, &str>, providers: &[&str]) {
    for (name, fallback) in fallbacks {
        let key = format!("llm.{name}.fallback");
        if !providers.contains(fallback) {
            unknown(notes, &key, fallback, providers);
            continue;
        }
        let mut chain = vec![*name];
        let mut next = Some(fallback);
        while let Some(further) = next
            && !chain.contains(further)
        {
            chain.push(further);
            next = fallbacks.get(further);
        }
        // Reported once, for the cycle's first member by name, not for providers that lead into it.
        let circle = next.is_some_and(|next| next == name);
        if circle && chain.iter().min() == Some(name) {
            chain.push(name);
            notes.add(
                &key,
                format!("it goes in a circle: {}", chain.join(" -> ")),
                "leave `fallback` out of the last one",
            );
        }
    }
}

fn unknown(notes: &mut Notes, key: &str, name: &str, providers: &[&str]) {
    let remedy = match (
        nearest(name, providers.iter().copied()),
        providers.is_empty(),
    ) {
        (Some(meant), _) => format!("did you mean `{meant}`?"),
        (None, true) => format!("add [llm.{name}]; no model provider is configured"),
        (None, false) => format!("add [llm.{name}]; known are {}", providers.join(", ")),
    };
    notes.add(key, format!("there is no model provider `{name}`"), remedy);
}

/// Parses the granted hosts, and the names that may resolve to private addresses.
pub(super) fn http(
    notes: &mut Notes,
    plugin: &str,
    hosts: Vec<String>,
    private: Vec<String>,
) -> HttpGrants {
    let mut rules = Vec::new();
    for entry in &hosts {
        match HttpRule::parse(entry) {
            Ok(rule) => rules.push(rule),
            Err(error) => notes.add(
                &format!("plugins.{plugin}.capabilities.http"),
                error.to_string(),
                "write entries like \"api.example\", \"*.example:8443\" or \"http://localhost:8080\"",
            ),
        }
    }
    for name in &private {
        let is_name = !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "*.-_".contains(c));
        if !is_name {
            notes.add(
                &format!("plugins.{plugin}.capabilities.http_private"),
                format!("`{name}` is no host's name"),
                "write names or patterns alone, like \"*.internal\"; an address needs no entry here",
            );
        }
    }
    let private = private.iter().map(|name| name.to_ascii_lowercase());
    HttpGrants {
        hosts: rules,
        private: Patterns(private.collect()),
    }
}
