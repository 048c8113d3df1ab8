//! Turns a failed MCP handshake into an error that names the remedy, above all when the server
//! speaks a protocol version that this version of Abide does not.

use rmcp::model::{ErrorCode, ErrorData};
use rmcp::service::{ClientInitializeError, ServiceError};

use super::brief::brief;
use super::jsonrpc::{TOO_LONG, UNREADABLE};

/// The first MCP version without an `initialize` handshake.
const LATER: &str = "2026-07-28";
/// The latest MCP version that Abide speaks.
const LATEST: &str = "2025-11-25";

/// Why opening a connection failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OpenFailure {
    /// The connection broke; the state of the server itself (such as its exit status) says more.
    Broken(String),
    /// The server or Abide refused, for this reason.
    Because(String),
}

impl OpenFailure {
    /// Converts the SDK's error from the `initialize` handshake.
    pub(super) fn of_opening(error: &ClientInitializeError) -> Self {
        match error {
            ClientInitializeError::ConnectionClosed(_) => {
                Self::Broken("it closed its output".to_owned())
            }
            ClientInitializeError::TransportError { error, .. } => {
                Self::Broken(format!("it takes no input: {}", error.error))
            }
            ClientInitializeError::JsonRpcError(error) => Self::Because(refused(error)),
            ClientInitializeError::UncorrelatedErrorResponse { .. }
            | ClientInitializeError::ConflictInitResponseId(..) => Self::Because(
                "it answered another request than `initialize`, which was the only one".to_owned(),
            ),
            _ => Self::Because("what it answered to `initialize` is not MCP".to_owned()),
        }
    }

    /// Converts the SDK's error from listing the tools.
    pub(super) fn of_list(error: &ServiceError) -> Self {
        match error {
            ServiceError::McpError(error) => {
                let message = brief(&error.message);
                Self::Because(format!("it did not list its tools: {message}"))
            }
            ServiceError::TransportClosed | ServiceError::TransportSend(_) => {
                Self::Broken("it closed the connection before it listed its tools".to_owned())
            }
            other => Self::Because(format!("it did not list its tools: {other}")),
        }
    }
}

/// Explains the error with which a server refused `initialize`.
fn refused(error: &ErrorData) -> String {
    let message = brief(&error.message);
    if matches!(error.code.0, UNREADABLE | TOO_LONG) {
        return format!("what it answered to `initialize` cannot be read: {message}");
    }
    let versions = versions(error);
    let is_version = error.code == ErrorCode::UNSUPPORTED_PROTOCOL_VERSION
        || message.to_lowercase().contains("protocol version")
        || !versions.is_empty();
    if is_version || error.code == ErrorCode::METHOD_NOT_FOUND {
        let speaks = match versions.is_empty() {
            true => format!("MCP {LATER} or another without `initialize`"),
            false => format!("MCP {}", versions.join(", ")),
        };
        return format!(
            "it speaks {speaks} only, and this version of Abide up to {LATEST} ({message}); run a \
             version of the server that speaks that, or put a proxy in front that does"
        );
    }
    format!("it refused to initialize: {message}")
}

/// Returns the protocol versions that the error data lists as supported, five at most.
fn versions(error: &ErrorData) -> Vec<String> {
    let Some(data) = &error.data else {
        return Vec::new();
    };
    let keys = [
        "supported",
        "supportedVersions",
        "supportedProtocolVersions",
    ];
    let lists = keys.iter().filter_map(|key| data[*key].as_array());
    let versions = lists.flatten().filter_map(|version| version.as_str());
    versions.take(5).map(brief).collect()
}

/// The error text for a server that speaks MCP's first HTTP transport (HTTP+SSE).
pub(super) fn speaks_old_http(server: &str, url: &str) -> String {
    format!(
        "it speaks MCP over HTTP+SSE as of 2024-11-05, which Abide does not; where it has a \
         streamable HTTP endpoint too, write that in `mcp.{server}.url`, else put a proxy in front: \
         `command = [\"npx\", \"-y\", \"mcp-remote\", \"{url}\", \"--transport\", \"sse-only\"]` in \
         place of `url`"
    )
}

/// The error text for a server that requires an OAuth login by a human.
pub(super) fn wants_oauth(server: &str, url: &str) -> String {
    format!(
        "it wants OAuth (its 401 names where to log in), which Abide does not do; put a token that \
         it takes into `mcp.{server}.token_env`, `token_file` or `headers`, or a proxy in front that \
         logs in: `command = [\"npx\", \"-y\", \"mcp-remote\", \"{url}\"]` in place of `url`"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_server_of_another_version_is_named_as_that() {
        let unknown = ErrorData::new(ErrorCode::METHOD_NOT_FOUND, "Method not found", None);
        let data = json!({"supported": ["2026-07-28"], "requested": "2025-11-25"});
        let listed = ErrorData::new(ErrorCode(-32022), "no", Some(data.clone()));
        let params = ErrorData::new(ErrorCode::INVALID_PARAMS, "no", Some(data));
        let message = "Unsupported protocol version";
        let in_words = ErrorData::new(ErrorCode(-32000), message, None);
        for error in [unknown, listed, params, in_words] {
            let text = refused(&error);
            assert!(text.starts_with("it speaks MCP 2026-07-28"), "{text}");
            assert!(
                text.contains("up to 2025-11-25") && text.contains("proxy"),
                "{text}"
            );
        }
        let other = ErrorData::new(ErrorCode::INTERNAL_ERROR, "the database is gone", None);
        assert_eq!(
            refused(&other),
            "it refused to initialize: the database is gone"
        );
    }
}
