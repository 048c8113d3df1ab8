//! The capabilities that an operator grants to a plugin. Nothing is granted by default.

use std::fmt;

use super::HttpGrants;

/// Separates a tool server's name from its tool's name. Models allow no dots in tool names.
const TOOL_SEPARATOR: &str = "__";

/// Names, or patterns with `*` for any run of characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patterns(pub Vec<String>);

impl Patterns {
    /// Whether any of them matches `name`.
    pub fn allow(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| fits(pattern, name))
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
        self.0
            .iter()
            .any(|pattern| fits(pattern, full_name) || Some(pattern.as_str()) == server)
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

    /// Returns the first one that is a plain name, not a pattern.
    pub fn first_name(&self) -> Option<&str> {
        self.0
            .iter()
            .map(String::as_str)
            .find(|name| !name.contains('*'))
    }
}

/// A tool's full name, as guests, models and grants use it: `SERVER__TOOL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToolName<'a> {
    /// The name of its server's `[mcp.NAME]`.
    pub server: &'a str,
    /// The tool's name on that server.
    pub tool: &'a str,
}

impl<'a> ToolName<'a> {
    /// Splits a full name.
    pub fn parse(full: &'a str) -> Option<Self> {
        let (server, tool) = full.split_once(TOOL_SEPARATOR)?;
        Some(Self { server, tool })
    }

    /// The placeholder for the tools of a server that is down and whose tools are unknown. No tool
    /// has this name: a call of it returns why the server is down.
    pub const UNAVAILABLE: &'static str = "unavailable";

    /// Whether it is the placeholder of its server ([`ToolName::UNAVAILABLE`]).
    pub fn stands_for_server(&self) -> bool {
        self.tool == Self::UNAVAILABLE
    }

    /// Whether a server may have this name: any other name would make full names ambiguous.
    pub fn can_name_server(name: &str) -> bool {
        !name.contains(TOOL_SEPARATOR) && !name.ends_with('_')
    }
}

impl fmt::Display for ToolName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{TOOL_SEPARATOR}{}", self.server, self.tool)
    }
}

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

    #[test]
    fn full_names_are_read_in_one_way() {
        let name = ToolName::parse("a_b__c__d").expect("a full name");
        assert_eq!((name.server, name.tool), ("a_b", "c__d"));
        assert_eq!(name.to_string(), "a_b__c__d");
        assert_eq!(ToolName::parse("read"), None);
        assert!(ToolName::can_name_server("my_files"));
        assert!(!ToolName::can_name_server("my__files"));
        assert!(!ToolName::can_name_server("files_"));
    }
}
