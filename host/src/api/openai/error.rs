//! Errors in the form of OpenAI's API.

use axum::Json as Answer;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::problem::Problem;
use crate::domain::Refusal;

/// A problem that is sent in the form of OpenAI's errors.
pub(in crate::api) struct OpenAiError(Problem);

/// An error, as OpenAI's clients read it.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct ErrorBody {
    error: ErrorDetail,
}

#[derive(Serialize, ToSchema)]
pub(super) struct ErrorDetail {
    /// What happened, to what, and what to do.
    message: String,
    /// `invalid_request_error`, or `server_error` from status 500 on.
    r#type: &'static str,
    /// Always null: the message names what it is about.
    param: Option<String>,
    /// The problem's name, as in the `type` of the rest of the API, such as `inbox-full`.
    code: String,
}

impl OpenAiError {
    /// Returns the error as the data of a stream that has begun, where the status can no longer
    /// change.
    pub(super) fn into_body(self) -> ErrorBody {
        body(self.0).1
    }
}

fn body(problem: Problem) -> ((StatusCode, HeaderMap), ErrorBody) {
    let (status, code, message, headers) = problem.into_parts();
    let r#type = if status.is_server_error() {
        "server_error"
    } else {
        "invalid_request_error"
    };
    let error = ErrorDetail {
        message,
        r#type,
        param: None,
        code,
    };
    let headers: HeaderMap = headers.into_iter().collect();
    ((status, headers), ErrorBody { error })
}

impl From<Problem> for OpenAiError {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<Refusal> for OpenAiError {
    fn from(refusal: Refusal) -> Self {
        Self(refusal.into())
    }
}

impl IntoResponse for OpenAiError {
    fn into_response(self) -> Response {
        let ((status, headers), body) = body(self.0);
        (status, headers, Answer(body)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_its_status_and_when_to_retry() {
        let response = OpenAiError::from(Refusal::Restarting).into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()[http::header::RETRY_AFTER], "1");
        let body = OpenAiError::from(Refusal::KeyReused).into_body();
        let json = serde_json::to_value(body).expect("JSON");
        assert_eq!(json["error"]["code"], "idempotency-key-reused");
        assert_eq!(json["error"]["type"], "invalid_request_error");
    }
}
