//! The full names of tools: a tool server's name and the tool's name on that server.

use std::fmt;

/// Separates a tool server's name from its tool's name. Models allow no dots in tool names.
const TOOL_SEPARATOR: &str = "__";

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

#[cfg(test)]
mod tests {
    use super::*;

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
