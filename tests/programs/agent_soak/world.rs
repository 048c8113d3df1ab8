//! A simulated world of tools for the script's tests: in-memory files, with the real servers'
//! texts.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Files by path, with their content; `None` for a directory.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct World {
    pub(crate) files: BTreeMap<String, Option<String>>,
}

impl World {
    /// Calls a tool; returns the text in which the assistant reports the result.
    pub(crate) fn call(&mut self, tool: &str, arguments: &Value) -> String {
        match self.try_call(tool, arguments) {
            Ok(text) => text,
            Err(text) => format!("The tool reports an error: {text}"),
        }
    }

    fn try_call(&mut self, tool: &str, arguments: &Value) -> Result<String, String> {
        let text = |key: &str| arguments[key].as_str().unwrap_or_default().to_owned();
        let path = text("path");
        match tool {
            "everything__echo" => Ok(format!("Echo: {}", text("message"))),
            "everything__get-sum" => {
                let (a, b) = (&arguments["a"], &arguments["b"]);
                let sum = a.as_u64().unwrap_or(0) + b.as_u64().unwrap_or(0);
                Ok(format!("The sum of {a} and {b} is {sum}."))
            }
            "everything__get-structured-content" => Ok(json!({"temperature": 33}).to_string()),
            "everything__trigger-long-running-operation" => Ok("completed".to_owned()),
            "files__list_directory" => Ok(self.list(&path)),
            "files__read_text_file" => self.read(&path),
            "files__read_multiple_files" => {
                let paths = arguments["paths"].as_array().into_iter().flatten();
                let texts = paths.map(|path| self.read(path.as_str().unwrap_or_default()));
                Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n---\n"))
            }
            "files__create_directory" => {
                self.files.insert(path.clone(), None);
                Ok(format!("Successfully created directory {path}"))
            }
            "files__write_file" => {
                self.files.insert(path.clone(), Some(text("content")));
                Ok(format!("Successfully wrote to {path}"))
            }
            "files__edit_file" => {
                let before = self.read(&path)?;
                let edit = &arguments["edits"][0];
                let old = edit["oldText"].as_str().unwrap_or_default();
                let new = edit["newText"].as_str().unwrap_or_default();
                if !before.contains(old) {
                    return Err("Could not find exact match for edit".to_owned());
                }
                let after = before.replacen(old, new, 1);
                self.files.insert(path, Some(after.clone()));
                Ok(format!("```diff\n{after}```"))
            }
            "files__move_file" => {
                let (source, destination) = (text("source"), text("destination"));
                if self.files.contains_key(&destination) {
                    return Err(format!("Destination already exists: {destination}"));
                }
                let file = self.files.remove(&source).ok_or("ENOENT")?;
                self.files.insert(destination.clone(), file);
                Ok(format!("Successfully moved {source} to {destination}"))
            }
            other => panic!("there is no tool {other}"),
        }
    }

    fn read(&self, path: &str) -> Result<String, String> {
        match self.files.get(path) {
            Some(Some(text)) => Ok(text.clone()),
            _ => Err(format!("ENOENT: no such file or directory, open '{path}'")),
        }
    }

    fn list(&self, path: &str) -> String {
        let parent = match path {
            "." => String::new(),
            path => format!("{path}/"),
        };
        let entries = self.files.iter().filter_map(|(path, content)| {
            let name = path.strip_prefix(&parent)?;
            let kind = if content.is_some() { "FILE" } else { "DIR" };
            (!name.contains('/')).then(|| format!("[{kind}] {name}"))
        });
        entries.collect::<Vec<_>>().join("\n")
    }
}
