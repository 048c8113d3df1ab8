//! Inspection of a session's open or last committed turn: a report step by step, or an offline
//! replay.

use crate::domain::{
    Journal, Record, Refusal, ReplayReport, ReplayVerdict, Session, SessionId, TurnEnd, TurnReport,
};
use crate::engine::Product;
use crate::store::Store;

use super::queries::{alive, refusal};
use super::replay::{Offline, Replayed, Subject};
use super::shared::Shared;

/// Returns the open turn, or else the last committed one.
fn subject(session: &Session) -> Result<Subject, Refusal> {
    let progress = &session.progress;
    Subject::open(progress)
        .or_else(|| Subject::last(progress))
        .ok_or(Refusal::NoTurn)
}

/// Reports that turn step by step.
pub(super) fn turn(store: &Store, id: &SessionId) -> Result<TurnReport, Refusal> {
    let session = alive(store, id)?;
    let subject = subject(&session)?;
    let mut records = subject.records(store, id).map_err(refusal)?.into_iter();
    let Some(Record::Begun(begun)) = records.next() else {
        return Err(Refusal::NoTurn);
    };
    let mut attempt = begun.attempt;
    let records = records.inspect(|record| {
        if let Record::Begun(again) = record {
            attempt = attempt.max(again.attempt);
        }
    });
    let journal = Journal::of(subject.turn, records);
    let open = session.progress.open.is_some();
    Ok(TurnReport::of(&begun, attempt, open, &journal))
}

/// Replays that turn, without external effects and without storing anything.
pub(super) async fn replay(shared: &Shared, id: &SessionId) -> Result<ReplayReport, Refusal> {
    let session = alive(&shared.store, id)?;
    let subject = subject(&session)?;
    let identity = &session.identity;
    let parts = shared.live_config();
    let plugin = parts.plugins.get(&identity.plugin);
    let plugin = plugin.ok_or_else(|| Refusal::UnknownPlugin {
        name: identity.plugin.clone(),
        known: parts.plugins.names(),
    })?;
    let offline = Offline::gather(shared, plugin, id, identity, &subject).await;
    let offline = offline.map_err(|error| Refusal::Unreplayable(error.to_string()))?;
    let open = session.progress.open.is_some();
    let (verdict, text) = match offline.run(&shared.engine).await {
        Replayed::Diverged(diverged) => (ReplayVerdict::Diverged, diverged.to_string()),
        Replayed::Reached { step, call } if open => {
            let began = offline.journal().steps().len() >= step as usize;
            let next = if began { "under way is" } else { "its next is" };
            let call = call.line();
            (
                ReplayVerdict::Deterministic,
                format!("as far as it is recorded; {next} step {step}, `{call}`"),
            )
        }
        Replayed::Reached { step, call } => (
            ReplayVerdict::Diverged,
            format!(
                "it takes a step {step}, `{}`, that it did not take before",
                call.line()
            ),
        ),
        Replayed::Ended(ended) => match *ended {
            Ok(_) if open => (
                ReplayVerdict::Deterministic,
                "as far as it is recorded; no step is left, it ends".to_owned(),
            ),
            Err(failure) if open => (
                ReplayVerdict::Deterministic,
                format!("as far as it is recorded; then it fails: {failure}"),
            ),
            Ok(product) => compare(&shared.store, id, &session, &product)?,
            Err(failure) => (ReplayVerdict::Different, format!("it fails now: {failure}")),
        },
    };
    Ok(ReplayReport {
        turn: subject.turn,
        open,
        component: offline.begun.component,
        steps: offline.step_count(),
        verdict,
        text,
    })
}

/// Compares the replayed result of a committed turn with its result in the log.
fn compare(
    store: &Store,
    id: &SessionId,
    session: &Session,
    product: &Product,
) -> Result<(ReplayVerdict, String), Refusal> {
    let at = session.progress.snapshot.at;
    let records = store.records(id, at, None).map_err(refusal)?;
    let Some(Record::Ended(ended)) = records.into_iter().next() else {
        let gone = "its end is no longer in the store; its session has gone on, ask again";
        return Err(Refusal::Unreplayable(gone.to_owned()));
    };
    let TurnEnd::Completed {
        schema,
        outputs,
        timers,
        crc,
        ..
    } = ended.end
    else {
        return Err(Refusal::NoTurn);
    };
    let same = [
        ("outputs", outputs == product.outputs),
        ("timers", timers == product.timers),
        ("schema", schema == product.schema),
        (
            "snapshot",
            crc.is_none_or(|crc| crc == crc32fast::hash(&product.data)),
        ),
    ];
    let other: Vec<_> = same.iter().filter(|s| !s.1).map(|s| s.0).collect();
    Ok(match other.is_empty() {
        true => (
            ReplayVerdict::Deterministic,
            "its steps, outputs, timers and snapshot are the same".to_owned(),
        ),
        false => (
            ReplayVerdict::Different,
            format!("other than before: its {}", other.join(", ")),
        ),
    })
}
