//! The OpenAPI document of the API, generated from the handlers and their types.

use axum::Json as Answer;
use utoipa::openapi::path::{Parameter, ParameterIn, PathItem};
use utoipa::openapi::schema::{SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{Modify, OpenApi};

use super::{
    approvals, audit, backups, daemon, dead, declared, events, messages, metrics, openai,
    plugin_trial, sessions, standing, tokens, turns, way_back,
};
use crate::documents::ProblemDocument;
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
        sessions::adopt,
        way_back::points,
        way_back::rewind,
        way_back::fork,
        way_back::export,
        way_back::import,
        turns::show,
        turns::replay,
        messages::send,
        messages::retry,
        dead::of_session,
        dead::of_all,
        events::follow,
        approvals::list,
        approvals::show,
        approvals::decide,
        standing::list,
        standing::revoke,
        openai::complete,
        openai::models,
        openai::model,
        daemon::status,
        daemon::restarts,
        daemon::restart_record,
        daemon::restart,
        daemon::plan,
        daemon::plan_of,
        plugin_trial::try_component,
        daemon::drain,
        backups::take,
        tokens::list,
        tokens::create,
        tokens::revoke,
        audit::list,
        daemon::healthz,
        daemon::readyz,
        metrics::render,
    ),
    components(schemas(Event, Delta, ProblemDocument, openai::ErrorBody)),
    security((), ("token" = [])),
    modifiers(&BearerToken, &LastPage, &Headers, &Problems)
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

/// On the last page of a list, `next` is null. Of a field whose type is a parameter, the derived schema
/// does not say so.
struct LastPage;

impl Modify for LastPage {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let schemas = document.components.iter_mut();
        for (name, schema) in schemas.flat_map(|components| &mut components.schemas) {
            if name.starts_with("Page_")
                && let RefOr::T(Schema::Object(page)) = schema
                && let Some(RefOr::T(Schema::Object(next))) = page.properties.get_mut("next")
                && let SchemaType::Type(of) = &next.schema_type
            {
                next.schema_type = SchemaType::from_iter([of.clone(), Type::Null]);
            }
        }
    }
}

/// A header is there or not, and never null, as the derived schema of one that is optional says.
struct Headers;

impl Modify for Headers {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let items = document.paths.paths.values_mut();
        let operations = items.flat_map(|item| {
            let PathItem {
                get,
                put,
                post,
                delete,
                ..
            } = item;
            [get, put, post, delete].into_iter().flatten()
        });
        let parameters = operations.flat_map(|operation| operation.parameters.iter_mut().flatten());
        for parameter in parameters {
            if let RefOr::T(Parameter {
                parameter_in: ParameterIn::Header,
                schema: Some(schema),
                ..
            }) = parameter
            {
                without_null(schema);
            }
        }
    }
}

fn without_null(schema: &mut RefOr<Schema>) {
    let RefOr::T(inner) = schema else { return };
    match inner {
        Schema::Object(object) => {
            if let SchemaType::Array(types) = &object.schema_type
                && let Some(of) = types.iter().find(|of| **of != Type::Null)
            {
                object.schema_type = SchemaType::Type(of.clone());
            }
        }
        Schema::OneOf(one_of) => {
            let reference = |of: &RefOr<Schema>| matches!(of, RefOr::Ref(_));
            if let Some(of) = one_of.items.iter().find(|of| reference(of)) {
                *schema = of.clone();
            }
        }
        _ => {}
    }
}

/// The problems that each operation may answer with.
struct Problems;

impl Modify for Problems {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        declared::add_problems(document);
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

    /// Generated clients name their functions after these.
    #[test]
    fn each_operation_has_an_id_of_its_own() {
        let document = serde_json::to_value(document()).expect("JSON");
        let paths = document["paths"].as_object().expect("paths").values();
        let operations = paths.flat_map(|path| path.as_object().expect("operations").values());
        let ids: Vec<&str> = operations
            .map(|operation| operation["operationId"].as_str().expect("an id"))
            .collect();
        let unique: BTreeSet<&str> = ids.iter().copied().collect();
        assert_eq!(ids.len(), unique.len(), "{ids:?}");
    }

    /// At the end of a list there is no next page: clients are to expect that.
    #[test]
    fn what_may_be_null_is_nullable() {
        let document = serde_json::to_value(document()).expect("JSON");
        let schemas = document["components"]["schemas"].as_object();
        let schemas = schemas.expect("schemas").iter();
        let pages: Vec<_> = schemas
            .filter(|(name, _)| name.starts_with("Page_"))
            .collect();
        assert!(pages.len() >= 4);
        for (name, page) in pages {
            let next = page["properties"]["next"].to_string();
            assert!(next.contains("\"null\""), "{name}: {next}");
        }
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
