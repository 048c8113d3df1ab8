//! Dead letters: of one session, and of all.

use crate::domain::{DeadFilter, DeadLetter, DeadPage, DeadPlace, Identity, MessageId, SessionId};

use super::{
    Store, StoreError, codec,
    db::{Db, Keyspace},
    keys::{self, kind},
};

/// How much one page of the dead letters of all sessions reads: in letters, and in bytes as stored, which
/// the last letter may exceed.
const READ_MAX: usize = 10_000;
const READ_MAX_BYTES: usize = 1 << 20;

impl Store {
    /// Returns how many dead letters of a session are kept at most.
    pub fn dead_letters_kept(&self) -> u64 {
        self.core().options.retention.dead_letters
    }

    /// Returns at most `limit` dead letters in the order in which their messages were received,
    /// starting after the message `after`.
    pub fn dead(
        &self,
        id: &SessionId,
        after: Option<&MessageId>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let (mut first, bound) = keys::all_of_in(kind::DEAD, id);
        if let Some(after) = after {
            first = keys::message(kind::DEAD, id, after)?;
            first.push(0);
        }
        let mut letters = Vec::new();
        self.core().read(|db| {
            db.scan(Keyspace::Index, &first, &bound, |_, value| {
                if letters.len() == limit {
                    return Ok(false);
                }
                letters.push(codec::decode("a dead letter", value)?);
                Ok(true)
            })
        })?;
        Ok(letters)
    }

    pub fn dead_letter(
        &self,
        id: &SessionId,
        message: &MessageId,
    ) -> Result<Option<DeadLetter>, StoreError> {
        // A client may pass any text as the id; one that is not a message id has no dead letter.
        let Ok(key) = keys::message(kind::DEAD, id, message) else {
            return Ok(None);
        };
        let found = self.core().read(|db| db.get(Keyspace::Index, &key))?;
        let found: Option<DeadLetter> = found
            .map(|bytes| codec::decode("a dead letter", &bytes))
            .transpose()?;
        // The key is the message's number only, which a message of lost history may have had too.
        Ok(found.filter(|letter| letter.message.id == *message))
    }

    /// Returns at most `limit` dead letters of all sessions, starting after `after`. A letter that cannot be
    /// read is left out.
    pub fn all_dead(
        &self,
        after: Option<&DeadPlace>,
        limit: usize,
        filter: &DeadFilter<'_>,
    ) -> Result<DeadPage, StoreError> {
        let (mut first, bound) = keys::all_of_kind(kind::DEAD);
        if let Some((id, message)) = after {
            first = keys::message(kind::DEAD, id, message)?;
            first.push(0);
        }
        self.core().read(|db| {
            let mut page = Filling::default();
            while let Some(unwanted) = page.fill(db, &first, &bound, limit, filter)? {
                // Behind all letters of a session that is none of the caller's business.
                first = keys::all_of_in(kind::DEAD, &unwanted).1;
            }
            Ok(DeadPage {
                items: page.found,
                next: page.last.filter(|_| page.is_full),
            })
        })
    }
}

/// A page of dead letters, as it is read.
#[derive(Default)]
struct Filling {
    found: Vec<(SessionId, DeadLetter)>,
    /// The last letter that was read of a session that is wanted.
    last: Option<DeadPlace>,
    /// The session of that letter.
    wanted: Option<SessionId>,
    read: usize,
    read_bytes: usize,
    is_full: bool,
}

impl Filling {
    /// Reads letters from `first` on. Returns the session at which it stopped, if its letters are not
    /// wanted; none once the page is full, or nothing is left.
    fn fill(
        &mut self,
        db: &Db,
        first: &[u8],
        bound: &[u8],
        limit: usize,
        filter: &DeadFilter<'_>,
    ) -> Result<Option<SessionId>, StoreError> {
        let what = "a dead letter";
        let mut unwanted = None;
        db.scan(Keyspace::Index, first, bound, |key, value| {
            let id = keys::session_of(&key[1..]);
            let id = id.ok_or_else(|| codec::corrupt(what, "its key holds no id"))?;
            if self.wanted.as_ref() != Some(&id) {
                if !wants(db, filter, &id)? {
                    unwanted = Some(id);
                    return Ok(false);
                }
                self.wanted = Some(id.clone());
            }
            self.is_full = self.found.len() == limit
                || self.read >= READ_MAX
                || self.read_bytes >= READ_MAX_BYTES;
            if self.is_full {
                return Ok(false);
            }
            self.read += 1;
            self.read_bytes += value.len();
            match codec::decode::<DeadLetter>(what, value) {
                Ok(letter) => {
                    self.last = Some((id.clone(), letter.message.id.clone()));
                    if filter.since.is_none_or(|since| letter.at >= since) {
                        self.found.push((id, letter));
                    }
                }
                Err(error) => tracing::error!(session = %id, %error, "a dead letter is left out"),
            }
            Ok(true)
        })?;
        Ok(unwanted)
    }
}

/// Returns whether a session's are wanted.
fn wants(db: &Db, filter: &DeadFilter<'_>, id: &SessionId) -> Result<bool, StoreError> {
    if !filter.ids.allow(id.as_str()) {
        return Ok(false);
    }
    let Some(plugin) = filter.plugin else {
        return Ok(true);
    };
    let identity = db.get(Keyspace::Sessions, &keys::identity(id))?;
    let identity = identity.map(|bytes| codec::decode::<Identity>("an identity", &bytes));
    Ok(identity.transpose()?.is_some_and(|it| it.plugin == plugin))
}
