//! The configuration of a tool server. Its secrets are never shown.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::domain::Patterns;

/// Shorter values are not treated as secrets, and may appear in any text.
const SECRET_MIN_BYTES: usize = 6;
/// Shorter prefixes of secrets reveal nothing, and are not redacted.
const BEGINNING_MIN_BYTES: usize = 3;
/// The mark where a text was cut.
const CUT: char = '…';
/// Words in header values that are not secrets.
const SCHEMES: [&str; 6] = ["basic", "bearer", "digest", "token", "apikey", "negotiate"];

/// One `[mcp.NAME]` section. Patterns match the tools' names on the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolServer {
    /// How the server is reached.
    pub at: ToolServerAt,
    /// How long the server may take from its start until its tools are listed.
    pub start_timeout: Duration,
    pub call_timeout: Duration,
    /// Tools that may be called again if it is unknown whether a call happened.
    pub repeatable: Patterns,
    /// Tools that may not be called again, whatever the server's hints claim. Wins over
    /// `repeatable`.
    pub once: Patterns,
    /// Tools that are called only after a human has approved. [`super::ToolServers::classify`]
    /// reports that, and its caller enforces it.
    pub ask: Patterns,
    /// How long such an approval waits for an answer.
    pub ask_timeout: Duration,
    /// The largest image that is shown to a model, in bytes; a larger one is only described.
    pub image_bytes: u64,
}

/// How a tool server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolServerAt {
    /// As a child process, over its standard input and output.
    Command(Program),
    /// Over HTTP.
    Url(Endpoint),
}

/// A program that runs as a tool server.
#[derive(Clone, PartialEq, Eq)]
pub struct Program {
    /// The program; with a `/` in it, relative to `cwd`.
    pub program: String,
    pub args: Vec<String>,
    /// Its environment variables, besides the few that it inherits. `Debug` shows no values.
    pub env: Vec<(String, String)>,
    /// The user that it runs as, if it is not the daemon's: a name, or `UID:GID`.
    pub user: Option<String>,
    /// What is hidden from it, absolute, if it runs in a sandbox.
    pub hidden: Option<Vec<PathBuf>>,
    /// Its working directory.
    pub cwd: PathBuf,
    /// The owner, which is the same for every worker on a data directory and unique to that
    /// directory, so that a worker finds the servers that a killed predecessor left behind.
    pub owner: String,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variables: Vec<&String> = self.env.iter().map(|(name, _)| name).collect();
        // Only their number: arguments may hold a key as well.
        f.debug_struct("Program")
            .field("program", &self.program)
            .field("args", &self.args.len())
            .field("env", &variables)
            .field("user", &self.user)
            .field("hidden", &self.hidden)
            .field("cwd", &self.cwd)
            .finish_non_exhaustive()
    }
}

/// The network address of a tool server, and its credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub url: String,
    /// The bearer token to send. `Debug` shows nothing of it.
    pub token: Option<String>,
    /// Additional headers to send. `Debug` shows no values.
    pub headers: Vec<(String, String)>,
}

impl Endpoint {
    /// Returns the URL without its query, which may hold a key.
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
    /// Redacts the configured secrets in a server's text, since servers repeat what they know. Also
    /// redacts a prefix of a secret that was left where the text was cut.
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

    /// Returns all secrets, each with the name that replaces it; longer ones first, since shorter
    /// ones may be parts of them.
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
                // Also in decoded form, as the server sees them.
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

/// Returns the words of a header value that may be secrets by themselves: what follows an
/// authorization scheme, and values of cookies.
fn words(value: &str) -> impl Iterator<Item = &str> {
    let pieces = value.split(|c: char| c.is_whitespace() || ";,".contains(c));
    let words = pieces.flat_map(|piece| {
        let named = piece.split_once('=').map(|(_, value)| value);
        // Not a value if it is only the padding of base64.
        let named = named.filter(|value| !value.trim_matches('=').is_empty());
        [Some(piece), named.map(|value| value.trim_matches('"'))]
    });
    words.flatten().filter(|word| {
        !SCHEMES
            .iter()
            .any(|scheme| scheme.eq_ignore_ascii_case(word))
    })
}

/// Redacts prefixes of a secret in front of the mark of a cut.
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
