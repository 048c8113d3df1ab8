//! Parses a server's list of tools entry by entry: a tool that cannot be used is left out, by name
//! and with the reason, and affects no other tool. An optional field of the wrong type counts as
//! absent.

use serde_json::{Map, Value};

use super::brief::brief;

/// The maximum number of entries read of one server's list.
const TOOLS_MAX: usize = 1000;
/// The maximum size of a tool's name, description and schema together, in bytes.
const TOOL_MAX_BYTES: usize = 64 << 10;
/// The maximum size of all tools together. Each listing in a turn is kept in the turn's record,
/// which has a bound.
const LIST_MAX_BYTES: usize = 2 << 20;
/// The number of left-out tools that are listed by name; further ones are only counted.
const LEFT_OUT_NAMED: usize = 50;

/// The part of a list that has been read.
#[derive(Debug, Default)]
pub(super) struct ToolList {
    pub(super) tools: Vec<ListedTool>,
    pub(super) left_out: UnofferedTools,
    /// The cursor of the next page; `None` at the end, or if the limits are reached.
    pub(super) next: Option<String>,
    /// The number of entries read, valid or not.
    pub(super) read: usize,
    bytes: usize,
}

/// The tools that are not offered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct UnofferedTools {
    pub(super) named: Vec<UnofferedTool>,
    /// How many there are besides the named ones.
    pub(super) more: usize,
}

impl UnofferedTools {
    pub(super) fn push(&mut self, tool: String, reason: String) {
        match self.named.len() < LEFT_OUT_NAMED {
            true => self.named.push(UnofferedTool { tool, reason }),
            false => self.more += 1,
        }
    }
}

/// A tool as its server lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ListedTool {
    /// The tool's name on the server.
    pub(super) name: String,
    pub(super) description: String,
    /// The JSON schema of its arguments, which are an object.
    pub(super) schema: Map<String, Value>,
    pub(super) read_only: bool,
    pub(super) idempotent: bool,
}

/// A tool that is not offered, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnofferedTool {
    /// Its name on the server, or its position in the list.
    pub(super) tool: String,
    pub(super) reason: String,
}

impl ToolList {
    /// Reads the next page.
    pub(super) fn take(&mut self, mut answer: Value) {
        self.next = match answer.get("nextCursor") {
            Some(Value::String(cursor)) if !cursor.is_empty() => Some(cursor.clone()),
            Some(Value::Number(cursor)) => Some(cursor.to_string()),
            _ => None,
        };
        let entries = match answer.get_mut("tools").map(Value::take) {
            Some(Value::Array(entries)) => entries,
            None | Some(Value::Null) => Vec::new(),
            Some(other) => {
                let reason = format!("the list of tools is {}, and no list", kind(&other));
                self.left_out.push("all tools".to_owned(), reason);
                Vec::new()
            }
        };
        let count = entries.len();
        for (n, entry) in entries.into_iter().enumerate() {
            if self.read >= TOOLS_MAX || !self.entry(entry) {
                return self.cut(count - n);
            }
            self.read += 1;
        }
        if self.read >= TOOLS_MAX && self.next.is_some() {
            self.cut(0);
        }
    }

    /// Reads one tool; returns whether there was room for it.
    fn entry(&mut self, entry: Value) -> bool {
        let read = tool(entry).and_then(|tool| match tool.bytes() {
            bytes if bytes <= TOOL_MAX_BYTES => Ok((tool, bytes)),
            bytes => Err((
                Some(tool.name),
                format!(
                    "its name, description and schema have {bytes} bytes, over {TOOL_MAX_BYTES}"
                ),
            )),
        });
        match read {
            Ok((_, bytes)) if self.bytes + bytes > LIST_MAX_BYTES => return false,
            Ok((tool, bytes)) => {
                self.bytes += bytes;
                self.tools.push(tool);
            }
            Err((name, reason)) => {
                let nth = || format!("tool {}", self.read + 1);
                let name = name.map_or_else(nth, |name| brief(&name));
                self.left_out.push(name, reason);
            }
        }
        true
    }

    /// Cuts the list off, with `unread` entries of this page left.
    fn cut(&mut self, unread: usize) {
        let tool = match (unread, self.next.take()) {
            (0, _) => "all further tools".to_owned(),
            (unread, None) => format!("{unread} further tools"),
            (unread, Some(_)) => format!("at least {unread} further tools"),
        };
        let reason = format!(
            "a list of up to {TOOLS_MAX} tools and {LIST_MAX_BYTES} bytes is taken of a server; have \
             it offer fewer"
        );
        // Inserted first: this entry must not end up among those that are only counted.
        self.left_out
            .named
            .insert(0, UnofferedTool { tool, reason });
    }
}

impl ListedTool {
    /// Returns roughly the size that the tool takes in a turn's record.
    fn bytes(&self) -> usize {
        let schema = serde_json::to_string(&self.schema).map_or(0, |schema| schema.len());
        self.name.len() + self.description.len() + schema
    }
}

/// Parses one tool. The error is its name, if it has one, and why it cannot be used.
fn tool(entry: Value) -> Result<ListedTool, (Option<String>, String)> {
    let Value::Object(mut fields) = entry else {
        let reason = format!("it is {}, and no object", kind(&entry));
        return Err((None, reason));
    };
    let name = match fields.remove("name") {
        Some(Value::String(name)) if !name.trim().is_empty() => name,
        Some(Value::String(_)) => return Err((None, "its name is empty".to_owned())),
        None | Some(Value::Null) => return Err((None, "it has no name".to_owned())),
        Some(other) => {
            let name = other.to_string();
            return Err((
                Some(name),
                format!("its name is {}, and no text", kind(&other)),
            ));
        }
    };
    if wants_task(&fields) {
        let reason = "it runs only as a task (`taskSupport`), which this version cannot follow";
        return Err((Some(name), reason.to_owned()));
    }
    let schema = fields.remove("inputSchema");
    let schema = match schema.or_else(|| fields.remove("input_schema")) {
        Some(Value::Object(schema)) => schema,
        // The server does not describe the arguments: there may be none, or any.
        None | Some(Value::Null | Value::Bool(true)) => empty_schema(),
        Some(other) => {
            let reason = format!("its `inputSchema` is {}, and no object", kind(&other));
            return Err((Some(name), reason));
        }
    };
    if let Some(kind) = other_type(&schema) {
        let reason = format!("its arguments are of type {}, and no object", brief(&kind));
        return Err((Some(name), reason));
    }
    let description = match fields.remove("description") {
        Some(Value::String(text)) => text,
        _ => String::new(),
    };
    let hints = fields.remove("annotations").unwrap_or_default();
    Ok(ListedTool {
        name,
        description,
        schema,
        read_only: hints["readOnlyHint"] == true,
        idempotent: hints["idempotentHint"] == true,
    })
}

fn empty_schema() -> Map<String, Value> {
    let mut schema = Map::new();
    schema.insert("type".to_owned(), "object".into());
    schema.insert("properties".to_owned(), Map::new().into());
    schema
}

/// Returns the type of a schema if no object can match it.
fn other_type(schema: &Map<String, Value>) -> Option<String> {
    match schema.get("type")? {
        Value::String(kind) if kind != "object" => Some(format!("`{kind}`")),
        Value::Array(kinds) if !kinds.is_empty() && !kinds.contains(&"object".into()) => {
            Some(Value::Array(kinds.clone()).to_string())
        }
        _ => None,
    }
}

/// Returns whether the tool can only be called as a task, in the terms of this protocol version or
/// of its drafts.
fn wants_task(fields: &Map<String, Value>) -> bool {
    let places = ["execution", "annotations"];
    let mut places = places.iter().filter_map(|place| fields.get(*place));
    places.any(|place| {
        let words = ["taskSupport", "task", "taskHint"];
        let mut words = words.iter().filter_map(|word| place.get(word)?.as_str());
        words.any(|word| matches!(word, "required" | "always"))
    })
}

/// Names the type of a JSON value, for messages.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn page(answer: Value, before: usize) -> ToolList {
        let mut list = ToolList {
            read: before,
            ..ToolList::default()
        };
        list.take(answer);
        list
    }

    #[test]
    fn a_list_of_any_size_fits_into_a_turn() {
        let tool = |n: usize, bytes: usize| json!({"name": format!("t{n}"), "description": "d".repeat(bytes)});
        let mut list = ToolList::default();
        for page in 0..3 {
            let tools: Vec<Value> = (0..200).map(|n| tool(page * 200 + n, 40_000)).collect();
            list.take(json!({"tools": tools, "nextCursor": "x"}));
            if list.next.is_none() {
                break;
            }
        }
        assert!(list.bytes <= LIST_MAX_BYTES && list.tools.len() > 50);
        let unread = 200 - list.tools.len();
        let expected = format!("at least {unread} further tools");
        assert_eq!(list.left_out.named[0].tool, expected);
        assert_eq!(list.next, None);
        // A tool that is too large by itself affects no other.
        let list = page(json!({"tools": [tool(1, 70_000), tool(2, 10)]}), 0);
        assert_eq!((list.tools.len(), list.left_out.named.len()), (1, 1));
        assert_eq!(list.left_out.named[0].tool, "t1");
        // Many small tools.
        let many: Vec<Value> = (0..TOOLS_MAX + 7).map(|n| tool(n, 1)).collect();
        let list = page(json!({"tools": many}), 0);
        assert_eq!(list.tools.len(), TOOLS_MAX);
        assert_eq!(list.left_out.named[0].tool, "7 further tools");
    }

    #[test]
    fn tools_that_are_left_out_are_counted_beyond_some() {
        let list = page(json!({"tools": vec![7; 5000], "nextCursor": "x"}), 0);
        assert_eq!(list.read, TOOLS_MAX);
        assert_eq!(list.left_out.named.len(), LEFT_OUT_NAMED + 1);
        assert_eq!(list.left_out.more, TOOLS_MAX - LEFT_OUT_NAMED);
        assert_eq!(list.next, None);
    }

    fn one(entry: Value) -> Result<ListedTool, (String, String)> {
        let good = json!({"name": "good", "inputSchema": {"type": "object"}});
        let mut page = page(json!({"tools": [good.clone(), entry, good]}), 0);
        // Whatever is wrong with one entry, the others are kept.
        let goods = page.tools.iter().filter(|tool| tool.name == "good").count();
        assert_eq!(goods, 2);
        page.tools.retain(|tool| tool.name != "good");
        match (page.tools.pop(), page.left_out.named.pop()) {
            (Some(tool), None) => Ok(tool),
            (None, Some(UnofferedTool { tool, reason })) => Err((tool, reason)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_field_that_is_not_needed_may_be_anything() {
        let object = json!({"type": "object"});
        for odd in [
            json!(null),
            json!(true),
            json!(7),
            json!("x"),
            json!([1]),
            json!({"a": [2]}),
        ] {
            for field in [
                "title",
                "description",
                "outputSchema",
                "annotations",
                "icons",
                "_meta",
                "execution",
                "unknown",
            ] {
                let mut entry = json!({"name": "t", "inputSchema": object});
                entry[field] = odd.clone();
                let listed = one(entry).unwrap_or_else(|why| panic!("{field} {odd}: {why:?}"));
                assert_eq!((listed.read_only, listed.idempotent), (false, false));
            }
            let annotations = json!({"readOnlyHint": odd, "idempotentHint": true, "title": odd});
            let listed = one(json!({"name": "t", "annotations": annotations})).expect("listed");
            assert_eq!(
                (listed.read_only, listed.idempotent),
                (odd == json!(true), true)
            );
        }
        for schema in [json!(null), json!(true)] {
            let listed = one(json!({"name": "t", "inputSchema": schema})).expect("listed");
            assert_eq!(listed.schema, empty_schema());
        }
        for kind in [
            json!("object"),
            json!(["object", "null"]),
            json!(null),
            json!([]),
            json!(7),
        ] {
            let schema = json!({"type": kind});
            assert!(
                one(json!({"name": "t", "inputSchema": schema})).is_ok(),
                "{schema}"
            );
        }
    }

    #[test]
    fn what_cannot_be_used_is_left_out_with_its_name() {
        for (entry, name, reason) in [
            (json!(7), "tool 2", "it is a number, and no object"),
            (json!(null), "tool 2", "it is null, and no object"),
            (json!({}), "tool 2", "it has no name"),
            (json!({"name": null}), "tool 2", "it has no name"),
            (json!({"name": " "}), "tool 2", "its name is empty"),
            (json!({"name": 7}), "7", "its name is a number, and no text"),
            (
                json!({"name": "t", "inputSchema": "{}"}),
                "t",
                "its `inputSchema` is a text",
            ),
            (
                json!({"name": "t", "inputSchema": false}),
                "t",
                "is true or false",
            ),
            (
                json!({"name": "t", "inputSchema": []}),
                "t",
                "its `inputSchema` is a list",
            ),
            (
                json!({"name": "t", "inputSchema": {"type": "string"}}),
                "t",
                "of type `string`",
            ),
            (
                json!({"name": "t", "inputSchema": {"type": ["null"]}}),
                "t",
                "of type [\"null\"]",
            ),
            (
                json!({"name": "t", "execution": {"taskSupport": "required"}}),
                "t",
                "as a task",
            ),
            (
                json!({"name": "t", "execution": {"task": "always"}}),
                "t",
                "as a task",
            ),
            (
                json!({"name": "t", "annotations": {"taskHint": "always"}}),
                "t",
                "as a task",
            ),
        ] {
            let (tool, why) = one(entry.clone()).expect_err("it is left out");
            assert_eq!(tool, name, "{entry}");
            assert!(why.contains(reason), "{entry}: {why}");
        }
        for support in ["optional", "forbidden", "never", "x"] {
            let entry = json!({"name": "t", "execution": {"taskSupport": support}});
            assert!(one(entry).is_ok(), "{support}");
        }
    }

    #[test]
    fn a_list_that_is_none_is_told_and_pages_end() {
        for answer in [
            json!(null),
            json!({}),
            json!({"tools": null}),
            json!([]),
            json!("x"),
        ] {
            let page = page(answer, 0);
            assert!(page.tools.is_empty() && page.left_out.named.is_empty() && page.next.is_none());
        }
        let odd = page(json!({"tools": {"a": {}}}), 0);
        assert_eq!(
            odd.left_out.named[0].reason,
            "the list of tools is an object, and no list"
        );
        for (cursor, expected) in [
            (json!("2"), Some("2")),
            (json!(2), Some("2")),
            (json!(""), None),
            (json!(null), None),
            (json!({}), None),
        ] {
            let page = page(json!({"tools": [], "nextCursor": cursor}), 0);
            assert_eq!(page.next.as_deref(), expected);
        }
        assert_eq!(
            page(json!({"tools": [7]}), 20).left_out.named[0].tool,
            "tool 21"
        );
    }
}
