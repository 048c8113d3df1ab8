//! A session's events, as a stream or as a page.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json as Answer;
use axum::extract::State;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::{Stream, stream};
use http::{HeaderMap, header};
use rand::Rng as _;
use serde::Deserialize;
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::extract::{InPath, QueryOf, limit, number};
use super::problem::{Problem, ProblemKind};
use super::sessions::page_len;
use crate::documents::EventsPage;
use crate::domain::{EventId, Refusal, SessionId, TimelineName};
use crate::session::{StreamItem, Subscription};

/// The interval of comments on a stream without events, so that both sides notice a dead
/// connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The delay after which a client should reconnect after a restart, in milliseconds: random, so
/// that clients do not reconnect all at once.
const RETRY_MS: std::ops::Range<u64> = 20..250;

/// Where to begin.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// The cursor after which to begin; 0 by default. `Last-Event-ID` wins over it.
    #[serde(default, deserialize_with = "number")]
    after: Option<u64>,
    /// The timeline of `after`, as it stood beside the cursor; none for the session's first.
    #[param(value_type = Option<TimelineName>)]
    timeline: Option<TimelineName>,
    /// The maximum number of events of a JSON page: 100 by default, at most 1000. A stream ignores
    /// it.
    #[serde(default, deserialize_with = "limit")]
    limit: Option<usize>,
}

/// An event of the stream, as it is sent.
#[derive(ToSchema)]
#[allow(dead_code, reason = "the document alone needs it")]
pub(super) struct SentEvent {
    /// The event, as JSON: an `Event`, a `Delta`, or what `event` says.
    #[schema(content_media_type = "application/json")]
    data: String,
    /// Its kind.
    event: Option<String>,
    /// Its position, to be sent as `Last-Event-ID`; absent where there is none.
    id: Option<String>,
    /// The milliseconds after which to connect again.
    retry: Option<u64>,
}

/// Follows a session's events, each exactly once.
#[utoipa::path(
    get,
    path = "/v1/sessions/{id}/events",
    operation_id = "follow_events",
    tag = "events",
    params(("id" = SessionId, Path, description = "The session's id, percent-encoded; it may hold `/` as `%2F`"), EventsQuery, ("Last-Event-ID" = Option<String>, Header, pattern = "^([a-hjkmnp-tv-z][a-hjkmnp-tv-z0-9]{7}\\.)?[0-9]{1,18}$", description = "The `id` of the last event that was seen; wins over `after`")),
    responses(
        (status = 200, description = "Server-sent events: `id` is the cursor (`TIMELINE.CURSOR` if the session's history was cut), `event` the kind (also `delta`, `restart` and `discarded`, messages that were cancelled before they had a turn, which have no cursor), `data` the event. Who accepts `application/json` alone gets a page.", content(
            (SentEvent = "text/event-stream"),
            (EventsPage = "application/json"),
        )),
        (status = 410, description = "Closed; or trimmed: `oldest` is then the smallest cursor to follow from; or the session's log does not reach the position (`cursor-ahead`), since its history was cut: `last` is then the cursor to follow from, on `timeline`"),
    ),
)]
pub(super) async fn follow(
    State(api): State<Api>,
    InPath(id): InPath,
    QueryOf(query): QueryOf<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let after = match last_event_id(&headers)? {
        Some(id) => id,
        None => EventId {
            timeline: query.timeline,
            cursor: query.after.unwrap_or(0),
        },
    };
    if wants_page(&headers) {
        let page = api
            .sessions
            .events(&id, &after, page_len(query.limit))
            .await?;
        let reached = page.items.last().map(|event| event.cursor);
        return Ok(Answer(EventsPage {
            next: reached.filter(|reached| *reached < page.last),
            items: page.items,
            oldest: page.oldest,
            last: page.last,
            timeline: page.timeline,
        })
        .into_response());
    }
    let subscription = api.sessions.subscribe(&id, &after).await?;
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(sent(subscription))
        .keep_alive(keep_alive)
        .into_response())
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<EventId>, Problem> {
    let Some(value) = headers.get("last-event-id") else {
        return Ok(None);
    };
    let id = value.to_str().ok().and_then(EventId::parse);
    id.map(Some).ok_or_else(|| {
        let detail = "the header `last-event-id` must be the `id` of an earlier event: a cursor, or \
                      a timeline's name, a dot and a cursor";
        Problem::new(ProblemKind::BAD_REQUEST, detail)
    })
}

/// Whether the client accepts JSON, and not (also) a stream.
fn wants_page(headers: &HeaderMap) -> bool {
    let accepts = |kind: &str| {
        headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|range| range.split(';').next())
            .any(|range| range.trim().eq_ignore_ascii_case(kind))
    };
    accepts("application/json") && !accepts("text/event-stream")
}

/// Converts a subscription to server-sent events. The stream ends with the subscription, also when
/// that fails: the client then reconnects and gets the reason.
fn sent(subscription: Subscription) -> impl Stream<Item = Result<Sent, Infallible>> {
    stream::unfold(subscription, async |mut subscription| {
        loop {
            let item = match subscription.next().await? {
                Ok(item) => item,
                Err(Refusal::Closed { .. } | Refusal::Gone) => return None,
                Err(error) => {
                    tracing::warn!(%error, "an event stream ends early");
                    return None;
                }
            };
            match encode(&item) {
                // The item has no content to send.
                Ok(None) => {}
                Ok(Some(event)) => return Some((Ok(event), subscription)),
                Err(error) => tracing::error!(%error, "an event cannot be written as JSON"),
            }
        }
    })
}

fn encode(item: &StreamItem) -> Result<Option<Sent>, axum::Error> {
    let sent = match item {
        StreamItem::Event(event) => Sent::default()
            .id(event.id().to_string())
            .event(event.body.kind())
            .json_data(event),
        StreamItem::Delta(delta) => Sent::default().event("delta").json_data(delta),
        StreamItem::Discarded(letters) if letters.is_empty() => return Ok(None),
        StreamItem::Discarded(letters) => {
            let letters = letters
                .iter()
                .map(|letter| json!({ "message": letter.message, "reason": letter.failure.text }));
            let letters: Vec<_> = letters.collect();
            let sent = Sent::default().event("discarded");
            sent.json_data(json!({ "messages": letters }))
        }
        StreamItem::Restart { generation } => {
            let retry = Duration::from_millis(rand::rng().random_range(RETRY_MS));
            Sent::default()
                .event("restart")
                .retry(retry)
                .json_data(json!({ "generation": generation }))
        }
    };
    sent.map(Some)
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use http::HeaderValue;
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::domain::Event;
    use crate::domain::{
        Delta, Discarded, EventBody, FailureCode, Generation, MessageId, Role, TurnFailure,
        UnixMillis,
    };

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        let name = http::HeaderName::from_static(name);
        [(name, HeaderValue::from_static(value))]
            .into_iter()
            .collect()
    }

    #[test]
    fn a_page_is_for_who_asks_for_json_alone() {
        for (accept, page) in [
            ("application/json", true),
            ("application/json;q=0.9, text/plain", true),
            ("text/event-stream, application/json", false),
            ("text/event-stream", false),
            ("*/*", false),
        ] {
            assert_eq!(wants_page(&headers("accept", accept)), page, "{accept}");
        }
        assert!(!wants_page(&HeaderMap::new()));
    }

    #[test]
    fn a_last_event_id_is_a_position() {
        for id in ["7", "t4kq90xd.7"] {
            let read = last_event_id(&headers("last-event-id", id)).expect("an id");
            assert_eq!(read.map(|read| read.to_string()).as_deref(), Some(id));
        }
        assert_eq!(last_event_id(&HeaderMap::new()).expect("none"), None);
        for bad in [
            "x",
            "+7",
            "",
            ".7",
            "t4kq90xd.",
            "t4kq90xd",
            "T4KQ90XD.7",
            "4tkq90xd.7",
        ] {
            assert!(
                last_event_id(&headers("last-event-id", bad)).is_err(),
                "{bad}"
            );
        }
    }

    #[tokio::test]
    async fn items_look_on_the_wire_as_documented() {
        let event = Event {
            cursor: 3,
            timeline: None,
            turn: None,
            at: UnixMillis(0),
            body: EventBody::Message {
                message: MessageId::on(None, 3),
                from: Role::User,
                name: None,
                text: "two\nlines".to_owned(),
                due: None,
                sender: None,
            },
        };
        let delta = Delta {
            text: "x".to_owned(),
            turn: 1,
            attempt: 1,
            step: 2,
            request: 1,
        };
        let discarded = Discarded {
            message: MessageId::on(None, 4),
            failure: TurnFailure {
                code: FailureCode::Cancelled,
                text: "no".to_owned(),
            },
            at: UnixMillis(0),
        };
        let items = [
            StreamItem::Event(event),
            StreamItem::Delta(delta.into()),
            StreamItem::Discarded([].into()),
            StreamItem::Discarded([discarded].into()),
            StreamItem::Restart {
                generation: Generation(9),
            },
        ];
        let sent = items
            .iter()
            .filter_map(|item| encode(item).expect("JSON"))
            .map(Ok::<_, Infallible>);
        let sent: Vec<_> = sent.collect();
        let body = Sse::new(stream::iter(sent).boxed())
            .into_response()
            .into_body();
        let bytes = body.collect().await.expect("a body").to_bytes();
        let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let blocks: Vec<&str> = text.split("\n\n").collect();
        assert!(blocks[0].contains("id: 3\n") && blocks[0].contains("event: message\n"));
        assert!(blocks[0].contains("\"text\":\"two\\nlines\""), "{text}");
        assert!(blocks[1].contains("event: delta\n") && !blocks[1].contains("id:"));
        // An item without content is not sent.
        let letters = "data: {\"messages\":[{\"message\":\"m4\",\"reason\":\"no\"}]}";
        assert!(blocks[2].contains("event: discarded\n") && blocks[2].contains(letters));
        assert!(blocks[3].contains("event: restart\n") && blocks[3].contains("retry: "));
        assert!(blocks[3].contains("data: {\"generation\":9}"), "{text}");
    }
}
