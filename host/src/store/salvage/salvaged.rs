//! What becomes of a session whose store was damaged.

use crate::domain::{
    Created, Digest, Identity, LogPos, Record, Session, SessionProgress, SnapshotRef,
};

use super::facts::SessionFacts;

/// Which families can be relied on: what is not there was never written, and what is there is the
/// newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SoundFamilies {
    pub(super) log: bool,
    pub(super) sessions: bool,
    pub(super) index: bool,
}

impl SoundFamilies {
    /// Whether the entries of the index that follow from the sessions' states can stay.
    pub(super) fn is_index_kept(self) -> bool {
        self.index && self.sessions
    }
}

/// What becomes of a session.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum SessionVerdict {
    /// It is closed, and stays so.
    Closed,
    /// Nothing but its name can be read.
    Gone,
    GoesOn(Box<Salvaged>),
}

/// A session that goes on, as it is written back.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Salvaged {
    pub(super) session: Session,
    /// The first record that counts.
    pub(super) oldest: LogPos,
    /// Records that do not belong to it any more.
    pub(super) surplus: Vec<LogPos>,
    /// What is missing, so that its history is cut; none if nothing that counts is.
    pub(super) cut: Option<String>,
    /// What else is lost.
    pub(super) lost: Vec<String>,
}

/// Goes on from another snapshot, without one before it.
pub(super) fn fall_back(progress: &mut SessionProgress, to: SnapshotRef) {
    progress.snapshot = to;
    progress.previous = None;
    progress.last = None;
}

/// Returns the identity: as it is stored, or as the log or a snapshot shows it. Adds what is lost of it.
pub(super) fn identity_of(
    facts: &SessionFacts,
    sound: SoundFamilies,
    lost: &mut Vec<String>,
) -> Option<Identity> {
    if let Some(identity) = facts.identity.clone() {
        return Some(relabelled(identity, facts, sound));
    }
    let first = facts.log.first();
    let created = first.and_then(|(_, first)| Session::create(first));
    if let Some(created) = created {
        return Some(relabelled(created.identity, facts, sound));
    }
    let (_, plugin) = facts.snapshots.last()?;
    lost.push("its arguments and its labels".to_owned());
    Some(relabelled(Identity::nameless(plugin), facts, sound))
}

/// Returns the identity with the labels of the last record that changed them.
fn relabelled(mut identity: Identity, facts: &SessionFacts, sound: SoundFamilies) -> Identity {
    let last = facts
        .own_log()
        .iter()
        .rev()
        .find_map(|(_, record)| match record {
            Record::Relabelled(relabelled) => Some(&relabelled.labels),
            Record::Origin(origin) => Some(&origin.labels),
            _ => None,
        });
    if let Some(labels) = last.filter(|_| !sound.sessions) {
        identity.labels.clone_from(labels);
    }
    identity
}

/// Returns a first record in the place of one that is not there.
pub(super) fn stand_in(identity: &Identity) -> Record {
    Record::Created(Created {
        plugin: identity.plugin.clone(),
        args: identity.args.clone(),
        labels: identity.labels.clone(),
        generation: identity.created_in,
        component: Digest::of(&[]),
        schema: 0,
        outputs: Vec::new(),
        timers: Vec::new(),
        at: identity.created_at,
    })
}
