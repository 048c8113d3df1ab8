//! What a tool server is configured to be. Whatever is secret in it is never shown.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::domain::Patterns;

/// Shorter values of variables are no secrets, and may stand in any text.
const SECRET_MIN_BYTES: usize = 6;
/// Shorter beginnings of secrets say nothing of them.
const BEGINNING_MIN_BYTES: usize = 3;
/// What stands where a text was cut.
const CUT: char = '…';
/// Words in the values of headers that are no secrets.
const SCHEMES: [&str; 6] = ["basic", "bearer", "digest", "token", "apikey", "negotiate"];

/// One `[mcp.NAME]`. Patterns are on the server's own names of tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolServer {
    /// How it is reached.
    pub at: ToolServerAt,
    /// How long it may take from its start to the list of its tools.
    pub start_timeout: Duration,
    /// How long a call may take.
    pub call_timeout: Duration,
    /// Tools that may be called again where it is unknown whether a call happened.
    pub repeatable: Patterns,
    /// Tools that may not, whatever the server says of them. Wins over `repeatable`.
    pub once: Patterns,
    /// Tools that are called only once a human has approved: [`super::ToolServers::look`] says so,
    /// and its caller sees to it.
    pub ask: Patterns,
    /// How long such an approval waits for its answer.
    pub ask_timeout: Duration,
    /// The largest image that a model is shown, in bytes; of others it is told.
    pub image_bytes: u64,
}

/// How a tool server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolServerAt {
    /// As a child, over its standard input and output.
    Command(Program),
    /// Over HTTP.
    Url(Endpoint),
}

/// A program that is a tool server.
#[derive(Clone, PartialEq, Eq)]
pub struct Program {
    /// The program; with a `/` in it, relative to `cwd`.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// What it finds in its environment, besides the little that it inherits. `Debug` shows no
    /// values.
    pub env: Vec<(String, String)>,
    /// The folder that it runs in.
    pub cwd: PathBuf,
    /// Whose it is, the same for every worker on a data folder and for nobody else: so that a
    /// worker finds what one that was killed has left behind.
    pub owner: String,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variables: Vec<&String> = self.env.iter().map(|(name, _)| name).collect();
        // Arguments may hold a key as well.
        f.debug_struct("Program")
            .field("program", &self.program)
            .field("args", &self.args.len())
            .field("env", &variables)
            .field("cwd", &self.cwd)
            .finish_non_exhaustive()
    }
}

/// Where a tool server is on the network.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its URL.
    pub url: String,
    /// The bearer token that it is shown. `Debug` shows nothing of it.
    pub token: Option<String>,
    /// Further headers that it is sent. `Debug` shows no values.
    pub headers: Vec<(String, String)>,
}

impl Endpoint {
    /// The URL without its query, which may hold a key.
    pub(super) fn shown(&self) -> &str {
        self.url.split('?').next().unwrap_or_default()
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<&String> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Endpoint")
            .field("url", &self.shown())
            .field("has_token", &self.token.is_some())
            .field("headers", &headers)
            .finish()
    }
}

impl ToolServer {
    /// A server's text without the secrets that it was given: servers repeat what they know. Also
    /// without the beginnings of such that were left where the text was cut.
    pub(super) fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, secret) in self.secrets() {
            if text.contains(&*secret) {
                text = text.replace(&*secret, &format!("[{name}]"));
            }
            text = without_beginnings(text, name, &secret);
        }
        text
    }

    /// What is never shown, each with the name of what stands in its place; longer ones first, since
    /// others may be parts of them.
    fn secrets(&self) -> Vec<(&str, Cow<'_, str>)> {
        let mut secrets: Vec<(&str, Cow<'_, str>)> = Vec::new();
        match &self.at {
            ToolServerAt::Command(program) => {
                for (name, value) in &program.env {
                    secrets.push((name, value.into()));
                }
            }
            ToolServerAt::Url(endpoint) => {
                for (name, value) in &endpoint.headers {
                    secrets.push((name, value.into()));
                    secrets.extend(words(value).map(|word| (name.as_str(), word.into())));
                }
                let query = endpoint.url.split_once('?');
                for part in query.map_or("", |(_, query)| query).split(['&', '#']) {
                    let value = part.split_once('=').map_or(part, |(_, value)| value);
                    secrets.push(("query", value.into()));
                }
                // As the server has it.
                if let Ok(url) = reqwest::Url::parse(&endpoint.url) {
                    let values = url.query_pairs().map(|(_, value)| value.into_owned());
                    secrets.extend(values.map(|value| ("query", value.into())));
                }
            }
        }
        secrets.retain(|(_, secret)| secret.len() >= SECRET_MIN_BYTES);
        if let ToolServerAt::Url(Endpoint {
            token: Some(token), ..
        }) = &self.at
            && !token.is_empty()
        {
            // A token is a secret however short it is.
            secrets.push(("token", token.into()));
        }
        secrets.sort_by_key(|(_, secret)| Reverse(secret.len()));
        secrets
    }
}

/// The words of a header's value that may be secrets by themselves: what follows a scheme of
/// authorization, what a cookie holds.
fn words(value: &str) -> impl Iterator<Item = &str> {
    let pieces = value.split(|c: char| c.is_whitespace() || ";,".contains(c));
    let words = pieces.flat_map(|piece| {
        let named = piece.split_once('=').map(|(_, value)| value);
        // No more than the padding of base64.
        let named = named.filter(|value| !value.trim_matches('=').is_empty());
        [Some(piece), named.map(|value| value.trim_matches('"'))]
    });
    words.flatten().filter(|word| {
        !SCHEMES
            .iter()
            .any(|scheme| scheme.eq_ignore_ascii_case(word))
    })
}

/// A text without what is left of a secret in front of the mark of a cut.
fn without_beginnings(mut text: String, name: &str, secret: &str) -> String {
    let mut from = 0;
    while let Some(at) = text[from..].find(CUT).map(|at| from + at) {
        let left = secret.char_indices().map(|(length, _)| length).rev();
        let mut left = left.take_while(|length| *length >= BEGINNING_MIN_BYTES);
        let found = left.find(|length| text[..at].ends_with(&secret[..*length]));
        from = at + CUT.len_utf8();
        if let Some(length) = found {
            let place = format!("[{name}]");
            text.replace_range(at - length..at, &place);
            from = from - length + place.len();
        }
    }
    text
}
