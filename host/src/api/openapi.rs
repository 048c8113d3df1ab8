//! What the API is, for programs.

use axum::Json as Answer;
use serde_json::Value;

/// x
#[derive(utoipa::ToSchema)]
pub(super) struct SessionStateSchema;
/// x
#[derive(utoipa::ToSchema)]
pub(super) struct EventSchema;

/// `GET /openapi.json`
pub(super) async fn serve() -> Answer<Value> {
    Answer(document())
}

/// The document.
pub fn document() -> Value {
    Value::Null
}
