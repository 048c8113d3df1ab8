//! The tools of a server: their names for guests, and which of them may be called again.

use std::collections::BTreeMap;

use super::ToolServer;
use super::listing::{ListedTool, ToolList, UnofferedTool, UnofferedTools};
use crate::domain::{Digest, Tool, ToolLeftOut, ToolName};

/// A tool that is offered to guests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offered {
    /// The tool's name on the server.
    pub(super) own: String,
    /// The tool as guests see it.
    pub(super) tool: Tool,
    /// Whether calling the tool again does no harm.
    pub(super) repeatable: bool,
}

/// All tools of a server, by full name.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    tools: BTreeMap<String, Offered>,
    left_out: Vec<ToolLeftOut>,
}

impl Catalog {
    /// Builds the catalog from a server's list, including the tools that were already rejected.
    pub(super) fn new(server: &str, settings: &ToolServer, list: ToolList) -> Self {
        let mut catalog: BTreeMap<String, Offered> = BTreeMap::new();
        let mut left_out = list.left_out;
        for tool in list.tools {
            let mut offered = offered(server, settings, tool);
            let taken = catalog.get(&offered.tool.name);
            if taken.is_some_and(|first| first.own != offered.own) {
                let tool = &marked(&offered.own);
                offered.tool.name = ToolName { server, tool }.to_string();
            }
            let name = &offered.tool.name;
            if let Some(Offered { own: first, .. }) = catalog.get(name) {
                let reason = match *first == offered.own {
                    true => "another one has the same name".to_owned(),
                    false => format!("it would be named `{name}`, as `{first}` is"),
                };
                left_out.push(offered.own, reason);
                continue;
            }
            catalog.insert(name.clone(), offered);
        }
        let UnofferedTools { named, more } = left_out;
        let named = named.into_iter().map(|UnofferedTool { tool, reason }| {
            let (tool, reason) = (settings.redact(&tool), settings.redact(&reason));
            ToolLeftOut { tool, reason }
        });
        let mut left_out: Vec<_> = named.collect();
        if more > 0 {
            left_out.push(ToolLeftOut {
                tool: format!("{more} more"),
                reason: "they cannot be used either, for reasons such as these".to_owned(),
            });
        }
        Self {
            tools: catalog,
            left_out,
        }
    }

    /// Logs the tools that are left out now and were not left out `before`.
    pub(super) fn log_news(&self, server: &str, before: &[ToolLeftOut]) {
        let news = self.left_out.iter().filter(|tool| !before.contains(tool));
        for ToolLeftOut { tool, reason } in news {
            tracing::warn!(server, tool, reason, "a tool is left out");
        }
    }

    pub(super) fn get(&self, full_name: &str) -> Option<&Offered> {
        self.tools.get(full_name)
    }

    pub(super) fn len(&self) -> usize {
        self.tools.len()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Offered> {
        self.tools.values()
    }

    /// Returns the tools that cannot be used: the first ones by name, the rest as a count.
    pub(super) fn left_out(&self) -> &[ToolLeftOut] {
        &self.left_out
    }
}

fn offered(server: &str, settings: &ToolServer, tool: ListedTool) -> Offered {
    let own = tool.name;
    let repeatable = if settings.once.allow(&own) {
        false
    } else {
        settings.repeatable.allow(&own) || tool.read_only || tool.idempotent
    };
    let name = ToolName {
        server,
        tool: &shown(&own),
    };
    Offered {
        tool: Tool {
            name: name.to_string(),
            description: tool.description,
            parameters: serde_json::Value::Object(tool.schema).to_string(),
            read_only: tool.read_only,
            idempotent: repeatable,
        },
        own,
        repeatable,
    }
}

/// Replaces the characters of a tool's name that models do not accept in function names.
fn shown(own: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    let mut name: String = own.chars().map(|c| if fits(c) { c } else { '_' }).collect();
    if !name.contains(|c: char| c.is_ascii_alphanumeric()) {
        return marked(own);
    }
    if name == ToolName::UNAVAILABLE {
        // The placeholder of a server may be called by any guest that is granted one of its tools,
        // so no real tool may have the placeholder's name.
        name.push('_');
    }
    name
}

/// Makes a name unique with a digest, for names that differ only in characters that models do not
/// accept.
fn marked(own: &str) -> String {
    let digest = Digest::of(own.as_bytes()).to_string();
    let kept = own.chars().filter(char::is_ascii_alphanumeric);
    let kept: String = kept.take(NAME_KEPT_CHARS).collect();
    let kept = if kept.is_empty() { "tool" } else { &kept };
    format!("{kept}_{}", &digest[..DIGEST_CHARS])
}

/// How much of a name and of its digest makes up a unique name, in characters.
const NAME_KEPT_CHARS: usize = 24;
const DIGEST_CHARS: usize = 8;
/// How much of a reason is prepended to each tool's description, in characters: models read all of
/// it.
const REASON_MAX_CHARS: usize = 200;

/// Returns what a guest sees in place of the tools of a server that is down: the tools that it had
/// last, or one placeholder for all of them.
pub(super) fn missing(server: &str, last: Option<&Catalog>, reason: &str) -> Vec<Tool> {
    match last {
        Some(last) => {
            let mut short: String = reason.chars().take(REASON_MAX_CHARS).collect();
            if short.len() < reason.len() {
                short.push('…');
            }
            let tools = last.all().map(|offered| &offered.tool);
            tools
                .map(|tool| Tool {
                    description: format!("[unavailable now: {short}] {}", tool.description),
                    ..tool.clone()
                })
                .collect()
        }
        None => vec![Tool {
            name: ToolName {
                server,
                tool: ToolName::UNAVAILABLE,
            }
            .to_string(),
            description: format!(
                "Tool server `{server}` cannot be reached now, so its tools are missing here: \
                 {reason}. They are back as soon as it is; calling this only says why it is not."
            ),
            parameters: "{\"type\":\"object\",\"properties\":{}}".to_owned(),
            read_only: true,
            idempotent: true,
        }],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::Patterns;

    fn catalog(settings: &ToolServer, tools: serde_json::Value) -> Catalog {
        let mut list = ToolList::default();
        list.take(json!({"tools": tools}));
        Catalog::new("files", settings, list)
    }

    #[test]
    fn what_may_be_called_again_is_said_by_the_operator_then_by_the_server() {
        let patterns = |names: &[&str]| Patterns(names.iter().map(|n| (*n).to_owned()).collect());
        let settings = ToolServer {
            repeatable: patterns(&["put", "a*"]),
            once: patterns(&["append", "stat"]),
            ..super::super::tests::settings()
        };
        let tool = |name: &str, hints: serde_json::Value| json!({"name": name, "inputSchema": {"type": "object"}, "annotations": hints});
        let catalog = catalog(
            &settings,
            json!([
                tool("write", json!({})),
                tool("read", json!({"readOnlyHint": true})),
                tool("set", json!({"idempotentHint": true, "readOnlyHint": false})),
                tool("unset", json!({"idempotentHint": false})),
                tool("put", json!({})),
                tool("append", json!({})),
                tool("add", json!({})),
                tool("stat", json!({"readOnlyHint": true})),
                {"name": "bare", "inputSchema": {}},
            ]),
        );
        for (name, expected) in [
            ("write", false),
            ("read", true),
            ("set", true),
            ("unset", false),
            ("put", true),
            ("append", false),
            ("add", true),
            ("stat", false),
            ("bare", false),
        ] {
            let offered = catalog.get(&format!("files__{name}")).expect(name);
            assert_eq!(offered.repeatable, expected, "{name}");
            assert_eq!(offered.tool.idempotent, expected, "{name}");
        }
    }

    #[test]
    fn names_are_made_fit_for_models() {
        let catalog = catalog(
            &super::super::tests::settings(),
            json!([
                {"name": "fs.read/all", "description": "Reads.", "inputSchema": {"type": "object"}},
                {"name": "fs/read.all", "inputSchema": {}},
                {"name": "unavailable", "inputSchema": {}},
                {"name": "unavailable", "inputSchema": {}},
                {"name": ""},
            ]),
        );
        let left_out = catalog.left_out();
        let reasons: Vec<_> = left_out
            .iter()
            .map(|out| (&*out.tool, &*out.reason))
            .collect();
        assert_eq!(
            reasons,
            [
                ("tool 5", "its name is empty"),
                ("unavailable", "another one has the same name"),
            ]
        );
        let all: Vec<_> = catalog.all().collect();
        assert_eq!(all.len(), 3);
        assert_eq!(all[0].own, "fs.read/all");
        // Names that differ only in characters that no model accepts stay distinct.
        let names: Vec<&str> = all.iter().map(|tool| &*tool.tool.name).collect();
        assert!(names[1].starts_with("files__fsreadall_"), "{names:?}");
        assert_eq!(names[2], "files__unavailable_");
        assert_eq!(all[0].tool.name, "files__fs_read_all");
        assert_eq!(all[0].tool.description, "Reads.");
        assert_eq!(all[0].tool.parameters, "{\"type\":\"object\"}");
    }

    #[test]
    fn names_in_other_scripts_are_told_apart() {
        let named = |name: &str| json!({"name": name, "inputSchema": {}});
        let own = ["天气查询", "路线规划", "发送邮件", "поиск"];
        let tools = own.map(named);
        let catalog = catalog(&super::super::tests::settings(), json!(tools));
        assert_eq!((catalog.len(), catalog.left_out().len()), (4, 0));
        // The name is the same in each listing.
        assert_eq!(shown("天气查询"), shown("天气查询"));
        let first = catalog.get(&format!("files__{}", shown("天气查询")));
        assert_eq!(first.map(|tool| tool.own.as_str()), Some("天气查询"));
    }

    #[test]
    fn tools_of_a_server_that_is_down_say_so() {
        let tools = json!([{"name": "read", "description": "Reads.", "inputSchema": {}}]);
        let last = catalog(&super::super::tests::settings(), tools);
        let known = missing("files", Some(&last), "it exited");
        assert_eq!(known.len(), 1);
        assert_eq!(known[0].name, "files__read");
        assert_eq!(known[0].description, "[unavailable now: it exited] Reads.");
        let unknown = missing("files", None, "it exited");
        assert_eq!(unknown.len(), 1);
        assert_eq!(unknown[0].name, "files__unavailable");
        assert!(unknown[0].description.contains("missing here: it exited."));
    }
}
