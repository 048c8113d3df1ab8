//! The plugins, in the form of OpenAI's models.

use axum::Json as Answer;
use axum::extract::{Path, State};
use serde::Serialize;
use utoipa::ToSchema;

use super::error::OpenAiError;
use crate::api::Api;
use crate::api::problem::{Problem, ProblemKind};

/// A plugin, in the form of a model.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct Model {
    /// The plugin's name.
    id: String,
    object: &'static str,
    /// Always 0, as a plugin has no date.
    created: u64,
    owned_by: &'static str,
}

/// All plugins, in the form of models.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct Models {
    object: &'static str,
    data: Vec<Model>,
}

fn as_model(name: &str) -> Model {
    Model {
        id: name.to_owned(),
        object: "model",
        created: 0,
        owned_by: "abide",
    }
}

/// Lists the plugins, as OpenAI lists models.
#[utoipa::path(
    get,
    path = "/v1/models",
    operation_id = "list_models",
    tag = "openai",
    responses((status = 200, description = "The plugins", body = Models)),
)]
pub(in crate::api) async fn models(State(api): State<Api>) -> Answer<Models> {
    let parts = api.sessions.live_config();
    let data = parts.plugins.0.keys().map(|name| as_model(name)).collect();
    Answer(Models {
        object: "list",
        data,
    })
}

/// Shows a plugin, as OpenAI shows a model.
#[utoipa::path(
    get,
    path = "/v1/models/{id}",
    operation_id = "show_model",
    tag = "openai",
    params(("id" = String, Path, description = "The plugin's name")),
    responses(
        (status = 200, description = "The plugin", body = Model),
    ),
)]
pub(in crate::api) async fn model(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Answer<Model>, OpenAiError> {
    let parts = api.sessions.live_config();
    if parts.plugins.get(&id).is_none() {
        let known = parts.plugins.names();
        let detail = format!("there is no plugin `{id}`; the configuration has {known}");
        return Err(Problem::new(ProblemKind::NOT_FOUND, detail).into());
    }
    Ok(Answer(as_model(&id)))
}
