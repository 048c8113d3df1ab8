//! Questions that the store answers; no driver is disturbed for them.

use crate::domain::{
    DeadLetter, Event, MessageId, Refusal, Session, SessionId, SessionState, SessionView,
};
use crate::store::{Store, StoreError};

/// Sessions that one listing looks at before it returns what it has found so far.
const LIST_SCAN_MAX: usize = 10_000;
const LIST_PAGE: usize = 256;

/// Which sessions to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListFilter {
    /// Of this plugin only.
    pub plugin: Option<String>,
    /// In this state only; closed sessions are listed when asked for by name alone.
    pub state: Option<SessionState>,
    /// Behind this id.
    pub after: Option<SessionId>,
    /// At most so many.
    pub limit: usize,
}

/// A page of sessions, by id.
#[derive(Clone, Debug, PartialEq)]
pub struct ListPage {
    /// The sessions.
    pub items: Vec<SessionView>,
    /// Where to go on, if there may be more. A page can be short, or empty, and still have one.
    pub next: Option<SessionId>,
}

/// A page of events.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionEvents {
    /// The events.
    pub items: Vec<Event>,
    /// The smallest cursor that can still be followed from.
    pub oldest: u64,
    /// The session's last cursor.
    pub last: u64,
}

/// A store's error as the client's refusal.
pub(super) fn refusal(error: StoreError) -> Refusal {
    match error {
        StoreError::Trimmed { oldest } => Refusal::Trimmed { oldest },
        error @ (StoreError::Read { .. }
        | StoreError::Corrupt { .. }
        | StoreError::NewerRecord { .. }) => Refusal::Unreadable(error.to_string()),
        StoreError::Overloaded { bytes } => Refusal::Overloaded {
            limit: bytes as u64,
        },
        // It is closed at the worker's end, and then only.
        StoreError::Closed => Refusal::Restarting,
        error => Refusal::StoreFailed(error.to_string()),
    }
}

/// A session that exists and is not closed.
pub(super) fn alive(store: &Store, id: &SessionId) -> Result<Session, Refusal> {
    let session = store.load(id).map_err(refusal)?;
    let session = session.ok_or_else(|| Refusal::UnknownSession(id.to_string()))?;
    match session.progress.closed {
        Some(at) => Err(Refusal::Closed { at }),
        None => Ok(session),
    }
}

pub(super) fn view(store: &Store, id: &SessionId) -> Result<SessionView, Refusal> {
    Ok(alive(store, id)?.view(id))
}

pub(super) fn list(store: &Store, filter: &ListFilter) -> Result<ListPage, Refusal> {
    let mut items = Vec::new();
    let mut after = filter.after.clone();
    for _ in 0..LIST_SCAN_MAX / LIST_PAGE {
        let page = store.list(after.as_ref(), LIST_PAGE).map_err(refusal)?;
        let full = page.len() == LIST_PAGE;
        for listed in page {
            after = Some(listed.id.clone());
            let view = listed.view();
            let wanted = match filter.state {
                Some(state) => view.state == state,
                None => view.state != SessionState::Closed,
            };
            if wanted
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

/// Open sessions of a plugin.
pub(super) fn count_of(store: &Store, plugin: &str) -> Result<u64, Refusal> {
    let (mut count, mut after) = (0, None);
    loop {
        let page = store.list(after.as_ref(), LIST_PAGE).map_err(refusal)?;
        let Some(last) = page.last() else {
            return Ok(count);
        };
        after = Some(last.id.clone());
        let open = page
            .iter()
            .filter(|listed| listed.identity.plugin == plugin && listed.progress.closed.is_none());
        count += open.count() as u64;
    }
}

pub(super) fn events(
    store: &Store,
    id: &SessionId,
    after: u64,
    limit: usize,
) -> Result<SessionEvents, Refusal> {
    view(store, id)?;
    let page = store.events(id, after, limit).map_err(refusal)?;
    Ok(SessionEvents {
        items: page.items,
        oldest: page.oldest,
        last: page.last,
    })
}

pub(super) fn dead(
    store: &Store,
    id: &SessionId,
    after: Option<&MessageId>,
    limit: usize,
) -> Result<Vec<DeadLetter>, Refusal> {
    view(store, id)?;
    store.dead(id, after, limit).map_err(refusal)
}
