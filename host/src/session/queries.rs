//! Queries that the store answers without involving a driver.

use crate::domain::{
    Approval, ApprovalId, CursorAhead, DeadLetter, Event, EventBody, EventId, MessageId, Patterns,
    Point, Refusal, Session, SessionId, SessionState, SessionTimeline, SessionView, TimelineName,
};
use crate::store::{Store, StoreError};

/// The number of sessions that one listing scans before it returns what it has found so far.
const LIST_SCAN_MAX: usize = 10_000;
const LIST_PAGE: usize = 256;
/// The number of events of an open turn that are read at once.
const EVENTS_PAGE: usize = 1000;

/// A filter for listing sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListFilter {
    /// Only sessions of this plugin.
    pub plugin: Option<String>,
    /// Only sessions in this state. Closed sessions are listed only when asked for explicitly.
    pub state: Option<SessionState>,
    /// Only sessions that stay on an older component than their plugin's.
    pub pinned: bool,
    /// Only sessions whose ids one of these matches.
    pub ids: Patterns,
    /// Only sessions after this id.
    pub after: Option<SessionId>,
    /// The maximum number of sessions in a page.
    pub limit: usize,
}

/// A page of sessions, by id.
#[derive(Clone, Debug, PartialEq)]
pub struct ListPage {
    pub items: Vec<SessionView>,
    /// The id to continue after, if there may be more. Even a short or empty page can have one.
    pub next: Option<SessionId>,
}

/// The restore points of a session.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionPoints {
    /// Oldest first; the last one is the present state.
    pub points: Vec<Point>,
    /// The timelines that their cursors are of.
    pub timeline: SessionTimeline,
}

/// A page of events.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionEvents {
    pub items: Vec<Event>,
    /// The oldest cursor from which the events can still be followed.
    pub oldest: u64,
    /// The session's last cursor.
    pub last: u64,
    /// The session's timeline, on which all these cursors can be followed from; none if it is the
    /// first.
    pub timeline: Option<TimelineName>,
}

/// Converts a store error into a refusal for the client.
pub(super) fn refusal(error: StoreError) -> Refusal {
    match error {
        StoreError::Trimmed { oldest } => Refusal::Trimmed {
            oldest,
            timeline: None,
        },
        error @ (StoreError::Read { .. }
        | StoreError::Corrupt { .. }
        | StoreError::NewerRecord { .. }) => Refusal::Unreadable(error.to_string()),
        StoreError::Overloaded { bytes } => Refusal::Overloaded {
            limit: bytes as u64,
        },
        error @ StoreError::LacksPart { .. } => Refusal::NotYet(error.to_string()),
        // The store is closed only when the worker ends.
        StoreError::Closed => Refusal::Restarting,
        error => Refusal::StoreFailed(error.to_string()),
    }
}

/// Loads a session; refuses if it does not exist or is closed.
pub(super) fn alive(store: &Store, id: &SessionId) -> Result<Session, Refusal> {
    let session = store.load(id).map_err(refusal)?;
    let session = session.ok_or_else(|| Refusal::UnknownSession(id.to_string()))?;
    match session.progress.closed {
        Some(at) => Err(Refusal::Closed { at }),
        None => Ok(session),
    }
}

/// Returns the view of a session. `as_of_now` leaves out of it what holds no longer.
pub(super) fn view(
    store: &Store,
    id: &SessionId,
    as_of_now: impl Fn(SessionView) -> SessionView,
) -> Result<SessionView, Refusal> {
    Ok(as_of_now(alive(store, id)?.view(id)))
}

pub(super) fn points(store: &Store, id: &SessionId) -> Result<SessionPoints, Refusal> {
    let session = alive(store, id)?;
    Ok(SessionPoints {
        points: store.points(id).map_err(refusal)?,
        timeline: session.progress.timeline,
    })
}

/// Lists sessions. `as_of_now` leaves out of a view what holds no longer.
pub(super) fn list(
    store: &Store,
    filter: &ListFilter,
    as_of_now: impl Fn(SessionView) -> SessionView,
) -> Result<ListPage, Refusal> {
    let mut items = Vec::new();
    let mut after = filter.after.clone();
    for _ in 0..LIST_SCAN_MAX / LIST_PAGE {
        let page = store.list(after.as_ref(), LIST_PAGE, &filter.ids);
        let page = page.map_err(refusal)?;
        let full = page.len() == LIST_PAGE;
        for listed in page {
            after = Some(listed.id.clone());
            let view = as_of_now(listed.view());
            let wanted = match filter.state {
                Some(state) => view.state == state,
                None => view.state != SessionState::Closed,
            };
            if wanted
                && (!filter.pinned || view.pinned.is_some())
                && filter
                    .plugin
                    .as_ref()
                    .is_none_or(|plugin| *plugin == view.plugin)
            {
                items.push(view);
                if items.len() == filter.limit {
                    return Ok(ListPage { items, next: after });
                }
            }
        }
        if !full {
            return Ok(ListPage { items, next: None });
        }
    }
    Ok(ListPage { items, next: after })
}

/// Counts the open sessions of a plugin.
pub(super) fn count_of(store: &Store, plugin: &str) -> Result<u64, Refusal> {
    let mut count = 0;
    let counted = store.each_session(|listed| {
        let is_open = listed.progress.closed.is_none();
        count += u64::from(is_open && listed.identity.plugin == plugin);
    });
    counted.map_err(refusal)?;
    Ok(count)
}

/// Returns the cursor of a client's position, and the present timeline; refuses a position that the
/// session's log does not reach.
pub(super) fn locate(
    store: &Store,
    id: &SessionId,
    position: &EventId,
) -> Result<(u64, Option<TimelineName>), Refusal> {
    let session = alive(store, id)?;
    let timeline = &session.progress.timeline;
    match timeline.locate(position, session.cursor()) {
        Ok(cursor) => Ok((cursor, timeline.name().cloned())),
        Err(CursorAhead { last, timeline }) => Err(Refusal::CursorAhead {
            position: position.clone(),
            last,
            timeline,
        }),
    }
}

pub(super) fn events(
    store: &Store,
    id: &SessionId,
    after: &EventId,
    limit: usize,
) -> Result<SessionEvents, Refusal> {
    let (after, timeline) = locate(store, id, after)?;
    match store.events(id, after, limit) {
        Ok(page) => Ok(SessionEvents {
            items: page.items,
            oldest: page.oldest,
            last: page.last,
            timeline,
        }),
        Err(StoreError::Trimmed { oldest }) => Err(Refusal::Trimmed { oldest, timeline }),
        Err(error) => Err(refusal(error)),
    }
}

/// Returns an approval, with the whole arguments of its call while its turn is open: then the log has
/// them.
pub(super) fn approval(store: &Store, id: &ApprovalId) -> Result<Approval, Refusal> {
    let unknown = || Refusal::UnknownApproval(id.to_string());
    let of = id.session().ok_or_else(unknown)?;
    let session = store.load(&of).map_err(refusal)?.ok_or_else(unknown)?;
    let mut approval = session.approval(id)?.clone();
    let open = session.progress.open.as_ref();
    if let Some(open) = open.filter(|open| open.begun.turn == approval.turn)
        && let Some(arguments) = asked_arguments(store, &of, open.since.cursor, id)?
    {
        approval.arguments = arguments;
        approval.arguments_cut = false;
    }
    Ok(approval)
}

/// Finds the arguments that were asked about, among the events after a cursor.
fn asked_arguments(
    store: &Store,
    session: &SessionId,
    mut after: u64,
    id: &ApprovalId,
) -> Result<Option<String>, Refusal> {
    loop {
        let page = match store.events(session, after, EVENTS_PAGE) {
            Ok(page) => page,
            Err(StoreError::Trimmed { .. }) => return Ok(None),
            Err(error) => return Err(refusal(error)),
        };
        let Some(last) = page.items.last().map(|event| event.cursor) else {
            return Ok(None);
        };
        let asked = page.items.into_iter().find_map(|event| match event.body {
            EventBody::Approval {
                approval,
                arguments,
                ..
            } if approval == *id => arguments,
            _ => None,
        });
        if asked.is_some() {
            return Ok(asked);
        }
        after = last;
    }
}

pub(super) fn dead(
    store: &Store,
    id: &SessionId,
    after: Option<&MessageId>,
    limit: usize,
) -> Result<Vec<DeadLetter>, Refusal> {
    alive(store, id)?;
    store.dead(id, after, limit).map_err(refusal)
}
