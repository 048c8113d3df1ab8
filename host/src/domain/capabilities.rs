//! The capabilities that an operator grants to a plugin. Nothing is granted by default.

use serde::{Deserialize, Serialize};

use super::{HttpGrants, Patterns, ToolName};

/// The grants of one plugin.
///
/// Its form is stored, with the components that sessions may have to go back to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// Model providers, by the name of their `[llm.NAME]`.
    pub llm: Patterns,
    /// Tools, by full name (see [`Patterns::allow_tool`]).
    pub tools: Patterns,
    /// Hosts for outgoing HTTP requests.
    pub http: HttpGrants,
}

impl Capabilities {
    /// Returns these grants without what `present` does not grant. Where the two overlap in part,
    /// nothing is granted.
    #[must_use]
    pub fn within(&self, present: &Self) -> Self {
        Self {
            llm: self.llm.common(&present.llm),
            tools: self.tools.by_tool().common(&present.tools.by_tool()),
            http: self.http.within(&present.http),
        }
    }
}

impl Patterns {
    /// Returns the same grants of tools, with a pattern in the place of each server's name.
    fn by_tool(&self) -> Self {
        let patterns = self.0.iter().map(|grant| {
            let is_server = !grant.contains('*') && ToolName::parse(grant).is_none();
            let of_server = ToolName {
                server: grant,
                tool: "*",
            };
            match is_server {
                true => of_server.to_string(),
                false => grant.clone(),
            }
        });
        Self(patterns.collect())
    }

    /// Whether any of them grants a tool by its full name ([`ToolName`]). A server's name alone
    /// grants all of its tools; a grant of any of its tools also grants the placeholder of a server
    /// that is down ([`ToolName::UNAVAILABLE`]). This rule is implemented only here.
    pub fn allow_tool(&self, full_name: &str) -> bool {
        let name = ToolName::parse(full_name);
        if let Some(name) = name
            && name.stands_for_server()
        {
            return self.allow_tool_server(name.server);
        }
        let server = name.map(|name| name.server);
        self.allow(full_name)
            || self
                .0
                .iter()
                .any(|pattern| Some(pattern.as_str()) == server)
    }

    /// Whether [`Patterns::allow_tool`] can hold for any tool of a server.
    pub fn allow_tool_server(&self, server: &str) -> bool {
        let start = ToolName { server, tool: "" }.to_string();
        self.0.iter().any(|pattern| match pattern.split_once('*') {
            // Some tool name matches whatever follows the first `*`.
            Some((head, _)) => start.starts_with(head) || head.starts_with(&start),
            None => pattern == server || pattern.starts_with(&start),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_operator_took_away_is_granted_to_nobody() {
        let tools = |all: &[&str]| Capabilities {
            tools: Patterns(all.iter().map(|&tool| tool.to_owned()).collect()),
            ..Capabilities::default()
        };
        for (before, present, expected) in [
            (&["files", "mail"][..], &["files"][..], &["files__*"][..]),
            (&["files"], &["files__read"], &["files__read"]),
            (&["files__read"], &["files"], &["files__read"]),
            (&["files__r*"], &["files"], &["files__r*"]),
            (&["file"], &["files"], &[]),
            (
                &["*"],
                &["files", "mail__send"],
                &["files__*", "mail__send"],
            ),
            (&["files"], &["files", "mail"], &["files__*"]),
            // Of tools whose names end so, not of the server.
            (&["search"], &["*search"], &[]),
            (&["*search"], &["search"], &[]),
        ] {
            let within = tools(before).within(&tools(present));
            assert_eq!(within, tools(expected), "{before:?} within {present:?}");
        }
    }

    #[test]
    fn tools_are_granted_by_name_by_pattern_and_by_server() {
        for (pattern, name, expected) in [
            ("files", "files__read", true),
            ("files", "files2__read", false),
            ("file", "files__read", false),
            ("files__read", "files__read", true),
            ("files__read", "files__write", false),
            ("files__r*", "files__read", true),
            ("*__read", "files__read", true),
            ("f*", "files__read", true),
            ("*", "files__read", true),
            ("read", "files__read", false),
            ("files", "files", true),
            ("files__read", "files__unavailable", true),
            ("*__read", "files__unavailable", true),
            ("mail", "files__unavailable", false),
        ] {
            let granted = Patterns(vec![pattern.to_owned()]);
            assert_eq!(granted.allow_tool(name), expected, "{pattern} on {name}");
            if expected && name.contains("__") {
                assert!(granted.allow_tool_server("files"), "{pattern}");
            }
        }
        for pattern in ["", "mail", "mail__*", "files2*", "filesystem", "x*"] {
            let granted = Patterns(vec![pattern.to_owned()]);
            assert!(!granted.allow_tool_server("files"), "{pattern}");
        }
        assert!(!Patterns::default().allow_tool("files__read"));
    }
}
