//! The OpenAPI document of the API, generated from the handlers and their types.

use axum::Json as Answer;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{approvals, backups, daemon, events, messages, metrics, openai, sessions, turns};
use crate::domain::{Delta, Event};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Abide",
        description = "Durable sessions over HTTP. Errors are problem documents (RFC 9457).",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        sessions::list,
        sessions::create,
        sessions::show,
        sessions::close,
        sessions::cancel,
        sessions::resume,
        turns::show,
        turns::replay,
        messages::send,
        messages::retry,
        messages::dead,
        events::follow,
        approvals::list,
        approvals::decide,
        openai::complete,
        openai::models,
        openai::model,
        daemon::status,
        daemon::restarts,
        daemon::restart_record,
        daemon::restart,
        daemon::plan,
        daemon::drain,
        backups::take,
        daemon::healthz,
        daemon::readyz,
        metrics::render,
    ),
    components(schemas(Event, Delta)),
    security((), ("token" = [])),
    modifiers(&BearerToken)
)]
struct OpenApiDocument;

/// The bearer token, which only some daemons require.
struct BearerToken;

impl Modify for BearerToken {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        if let Some(components) = &mut document.components {
            components.add_security_scheme("token", SecurityScheme::Http(scheme));
        }
    }
}

/// `GET /openapi.json`
pub(super) async fn serve() -> Answer<utoipa::openapi::OpenApi> {
    Answer(document())
}

/// Returns the document that `GET /openapi.json` serves.
pub fn document() -> utoipa::openapi::OpenApi {
    OpenApiDocument::openapi()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every route is described, and nothing else is.
    #[test]
    fn the_document_has_every_route() {
        let source = include_str!("router.rs");
        let routes: BTreeSet<&str> = source
            .split('"')
            .filter(|text| {
                text.starts_with('/') && !text.starts_with("//") && *text != "/openapi.json"
            })
            .collect();
        let document = serde_json::to_value(document()).expect("JSON");
        let paths = document["paths"].as_object().expect("paths");
        let described: BTreeSet<&str> = paths.keys().map(String::as_str).collect();
        assert_eq!(described, routes);
    }

    /// Every reference resolves within the document.
    #[test]
    fn no_reference_dangles() {
        let document = serde_json::to_value(document()).expect("JSON");
        let text = document.to_string();
        let mut references = text.split("\"#").skip(1).peekable();
        assert!(references.peek().is_some());
        for reference in references {
            let pointer = reference.split('"').next().unwrap_or_default();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }
}
