//! The capabilities that an operator grants to a plugin. Nothing is granted by default.

use super::{HttpGrants, Patterns, ToolName};

/// The grants of one plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Model providers, by the name of their `[llm.NAME]`.
    pub llm: Patterns,
    /// Tools, by full name (see [`Patterns::allow_tool`]).
    pub tools: Patterns,
    /// Hosts for outgoing HTTP requests.
    pub http: HttpGrants,
}

impl Patterns {
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
