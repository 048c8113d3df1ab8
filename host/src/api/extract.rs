//! Requests as typed values; a request that does not fit is refused with a problem that states the
//! place and the reason.

use axum::body::HttpBody as _;
use axum::extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request};
use axum::http::request::Parts;
use http::{HeaderMap, HeaderName, header};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;

use super::Api;
use super::body;
use super::problem::{Problem, ProblemKind};
use crate::documents::FromObject;
use crate::domain::{ApprovalId, Refusal, SessionId};

/// The limit of a body that carries a whole conversation, unless a single message may be larger.
const CONVERSATION_BYTES: usize = 16 << 20;

/// The session that `{id}` of the path names: percent-decoded once, `/` included.
pub(super) struct InPath(pub(super) SessionId);

impl FromRequestParts<Api> for InPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Api) -> Result<Self, Problem> {
        let id = path_param(parts, state, "id").await?;
        let id = SessionId::new(id).map_err(crate::domain::Refusal::from)?;
        Ok(Self(id))
    }
}

/// The approval that `{id}` of the path names.
pub(super) struct ApprovalInPath(pub(super) ApprovalId);

impl FromRequestParts<Api> for ApprovalInPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Api) -> Result<Self, Problem> {
        let text = path_param(parts, state, "id").await?;
        let id = ApprovalId::parse(&text).ok_or(Refusal::UnknownApproval(text));
        Ok(Self(id?))
    }
}

/// The name of what `{name}` of the path names: an access token, or a plugin.
pub(super) struct NameInPath(pub(super) String);

impl FromRequestParts<Api> for NameInPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Api) -> Result<Self, Problem> {
        path_param(parts, state, "name").await.map(Self)
    }
}

/// The restart that `{generation}` of the path names.
pub(super) struct GenerationInPath(pub(super) u64);

impl FromRequestParts<Api> for GenerationInPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Api) -> Result<Self, Problem> {
        let text = path_param(parts, state, "generation").await?;
        text.parse().map(Self).map_err(|_| {
            let detail = format!("`{text}` is not the number of a generation");
            Problem::new(ProblemKind::BAD_REQUEST, detail)
        })
    }
}

async fn path_param(parts: &mut Parts, state: &Api, name: &str) -> Result<String, Problem> {
    let params = RawPathParams::from_request_parts(parts, state)
        .await
        .map_err(|rejection| Problem::new(ProblemKind::BAD_REQUEST, rejection.body_text()))?;
    let value = params.iter().find(|(key, _)| *key == name);
    let (_, value) =
        value.ok_or_else(|| Problem::new(ProblemKind::NOT_FOUND, "the path is incomplete"))?;
    Ok(value.to_owned())
}

/// The query parameters; their types refuse unknown keys.
pub(super) struct QueryOf<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Api> for QueryOf<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Api) -> Result<Self, Problem> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(query)) => Ok(Self(query)),
            Err(rejection) => Err(Problem::new(
                ProblemKind::BAD_REQUEST,
                rejection.body_text(),
            )),
        }
    }
}

/// Reads a number that the API has given out, such as a cursor. Those of the document have 63 bits, as
/// many languages have no others.
pub(super) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let number = u64::deserialize(deserializer)?;
    if i64::try_from(number).is_err() {
        let detail = format!("{number} is larger than any number that was given out");
        return Err(D::Error::custom(detail));
    }
    Ok(Some(number))
}

/// Reads the number of items that a client asks for. However large, it is reduced to the most that a page
/// may have.
pub(super) fn limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(limit) => Ok(Some(limit)),
        Err(_) if is_number => Ok(Some(usize::MAX)),
        Err(error) => Err(D::Error::custom(error)),
    }
}

/// A JSON body, up to the limit of a single message.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Api> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &Api) -> Result<Self, Problem> {
        let FromObject(body) = json(request, state, state.body_bytes()).await?;
        Ok(Self(body))
    }
}

/// A JSON body that may be longer than a message, such as a conversation of which only the last
/// message is new.
pub(super) struct LongJson<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Api> for LongJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &Api) -> Result<Self, Problem> {
        let limit = state.body_bytes().max(CONVERSATION_BYTES);
        let FromObject(body) = json(request, state, limit).await?;
        Ok(Self(body))
    }
}

async fn json<T: DeserializeOwned>(
    request: Request,
    state: &Api,
    limit: usize,
) -> Result<T, Problem> {
    let is_json = is_json(request.headers());
    let mut room = state.sessions.room(0)?;
    let bytes = body::read(request.into_body(), limit, body::PATIENCE, |bytes| {
        room.grow(bytes)
    })
    .await?;
    if !is_json {
        let detail = "send the header `content-type: application/json`";
        return Err(Problem::new(ProblemKind::MEDIA_TYPE, detail));
    }
    let parsed = body::parsed_bytes(&bytes);
    let most = body::most_parsed_bytes(limit);
    if parsed > most {
        let detail = format!(
            "the body's structure would take {parsed} bytes of memory; at most {most} are allowed"
        );
        return Err(Problem::new(ProblemKind::TOO_LARGE, detail).fact("limit", most));
    }
    room.grow(parsed)?;
    parse(&bytes)
}

/// An optional JSON body; `null` is as good as none.
pub(super) struct JsonOrNothing<T>(pub(super) T);

impl<T: DeserializeOwned + Default> FromRequest<Api> for JsonOrNothing<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &Api) -> Result<Self, Problem> {
        if request.body().is_end_stream() {
            return Ok(Self(T::default()));
        }
        let body: Option<FromObject<T>> = json(request, state, state.body_bytes()).await?;
        Ok(Self(body.map_or_else(T::default, |FromObject(body)| body)))
    }
}

/// A body without fields.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Empty {}

/// Returns the value of a header that may occur only once.
pub(super) fn header_once<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'h str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next() else {
        return Ok(None);
    };
    match first.to_str() {
        Ok(text) if values.next().is_none() => Ok(Some(text)),
        _ => {
            let detail = format!("the header `{name}` must come once, as plain text");
            Err(Problem::new(ProblemKind::BAD_REQUEST, detail))
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else {
        return false;
    };
    let kind = kind.to_str().unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| {
        let kind = match error.classify() {
            Category::Data => ProblemKind::INVALID,
            Category::Syntax | Category::Eof | Category::Io => ProblemKind::MALFORMED,
        };
        // The text contains the field, and the line and column.
        Problem::new(kind, error.to_string())
            .fact("line", error.line())
            .fact("column", error.column())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Said {
        #[allow(dead_code)]
        text: String,
    }

    #[test]
    fn numbers_have_the_range_of_the_document() {
        #[derive(Debug, Deserialize)]
        struct Asked {
            #[serde(default, deserialize_with = "number")]
            after: Option<u64>,
            #[serde(default, deserialize_with = "limit")]
            limit: Option<usize>,
        }
        let read = |query: &str| {
            let uri = format!("/?{query}").parse().expect("a path");
            let read = Query::<Asked>::try_from_uri(&uri).ok();
            read.map(|Query(asked)| (asked.after, asked.limit))
        };
        assert_eq!(read(""), Some((None, None)));
        assert_eq!(read("after=7&limit=0"), Some((Some(7), Some(0))));
        let most = i64::MAX as u64;
        assert_eq!(read(&format!("after={most}")), Some((Some(most), None)));
        assert_eq!(read("after=9223372036854775808"), None);
        let large = read("limit=99999999999999999999999");
        assert_eq!(large, Some((None, Some(usize::MAX))));
        assert_eq!(
            [read("limit=-1"), read("limit="), read("limit=x")],
            [None; 3]
        );
    }

    #[test]
    fn bodies_are_refused_by_name_and_place() {
        for (body, status, reason) in [
            ("{\"text\": ", 400, "line 1 column 9"),
            ("not JSON", 400, "line 1"),
            ("{\"text\":\"a\",\n\"txet\":\"b\"}", 422, "`txet`"),
            ("{}", 422, "`text`"),
            ("{\"text\": 7}", 422, "line 1 column 10"),
            ("{\"text\":\"a\"} b", 400, "trailing"),
            // Not its fields by their order either.
            ("[\"a\"]", 422, "expected an object"),
        ] {
            let problem = parse::<FromObject<Said>>(body.as_bytes())
                .err()
                .expect(body);
            assert_eq!(problem.status(), status, "{body}");
            assert!(problem.detail().contains(reason), "{}", problem.detail());
        }
    }
}
