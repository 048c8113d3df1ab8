//! Rebuilding an unreadable snapshot from the previous snapshot and the journal of the turn between
//! the two.

use std::sync::Arc;

use crate::domain::{LogPos, Record, Session, Snapshot, TurnEnd};

use super::Driver;
use crate::session::plugins::Plugin;
use crate::session::replay::{Offline, Replayed, Subject};

impl Driver {
    /// Returns the state that the session was last rewound to, from its point: none if a turn has
    /// committed since, or it was not rewound.
    fn of_rewind(&self, session: &Session) -> Result<Option<Snapshot>, String> {
        let (store, at) = (&self.shared.store, session.progress.snapshot.at);
        let records = store.records(
            &self.id,
            at,
            Some(LogPos {
                seq: at.seq + 1,
                ..at
            }),
        );
        let record = records
            .map_err(|error| error.to_string())?
            .into_iter()
            .next();
        let Some(Record::Rewound(rewound)) = record else {
            return Ok(None);
        };
        let stored = store.snapshot(&self.id, rewound.to);
        let stored = stored.map_err(|error| error.to_string())?;
        let read = |bytes: Vec<u8>| Snapshot::decode_any(&bytes).ok();
        let snapshot = stored.and_then(read);
        let why = "the point that the session was rewound to cannot be read either";
        let snapshot = snapshot.ok_or_else(|| why.to_owned())?;
        tracing::warn!(
            session = %self.id,
            "the snapshot was damaged; it was read from the point that the session was rewound to"
        );
        metrics::counter!("abide_snapshots_mended_total").increment(1);
        Ok(Some(snapshot))
    }

    /// Rebuilds the current snapshot, or returns why that is impossible. The result is not written
    /// back: the session's next commit replaces it, and until then it can be rebuilt again.
    pub(super) async fn mend(
        &self,
        session: &Session,
        plugin: &Arc<Plugin>,
    ) -> Result<Snapshot, String> {
        let unmended = |why: &dyn std::fmt::Display| format!("it cannot be made again: {why}");
        if let Some(snapshot) = self.of_rewind(session)? {
            return Ok(snapshot);
        }
        let Some(subject) = Subject::last(&session.progress) else {
            return Err(unmended(&"no turn has made it"));
        };
        let (shared, identity) = (&self.shared, &session.identity);
        let offline = Offline::gather(shared, plugin, &self.id, identity, &subject).await;
        let offline = offline.map_err(|error| unmended(&error))?;
        let product = match offline.run(&shared.engine).await {
            Replayed::Ended(ended) => ended.map_err(|failure| unmended(&failure))?,
            Replayed::Diverged(diverged) => return Err(unmended(&diverged)),
            Replayed::Reached { step, .. } => {
                let why = format!("its turn's journal has no result of step {step}");
                return Err(unmended(&why));
            }
        };
        let at = session.progress.snapshot.at;
        let ended = shared.store.records(&self.id, at, None);
        let ended = ended.map_err(|error| unmended(&error))?.into_iter().next();
        if let Some(Record::Ended(ended)) = ended
            && let TurnEnd::Completed { crc: Some(crc), .. } = ended.end
            && crc != crc32fast::hash(&product.data)
        {
            return Err(unmended(&"run again, its turn gives another state"));
        }
        tracing::warn!(
            session = %self.id, turn = subject.turn,
            "the snapshot was damaged; it was made again from the one before it and the journal"
        );
        metrics::counter!("abide_snapshots_mended_total").increment(1);
        Ok(Snapshot {
            plugin: session.identity.plugin.clone(),
            component: subject.component,
            schema: product.schema,
            data: product.data,
        })
    }
}
