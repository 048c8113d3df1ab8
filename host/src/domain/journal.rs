//! The journal of a turn: which steps it took, their results, and how a later attempt is answered
//! from them. This code is pure: the turn asks it, and acts on its answers.
//!
//! ```text
//!   guest calls step n ----> is n in the journal?
//!                             | no                | yes
//!                             v                   v
//!                           Live            the same call? -- no --> Diverged: the turn fails
//!                                                 | yes
//!                                                 v  for each part of it
//!                                   done?            -> Done:    its result, as recorded
//!                                   else repeatable? -> Again:   the effect is executed once more
//!                                   else             -> Unknown: never executed again
//! ```

use serde::{Deserialize, Serialize};

use super::{
    Effect, FailureCode, Generation, MessageId, Planned, Record, StepCallName, StepDone, StepError,
    StepResult, TurnFailure,
};

/// The progress of an open turn's journal, as far as the fold over the log needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progressed {
    /// The number of steps that began.
    pub steps: u32,
    /// Parts of steps that are done and reached something outside.
    pub done: u32,
    /// The approximate size of its results, in bytes.
    pub bytes: u64,
    /// Parts that began and must not be executed twice; a retry of the turn's message would do so.
    pub effects: u32,
    /// Parts of the last step that are not done.
    pub pending: Vec<Pending>,
    /// Unrepeatable parts that were in flight when the turn was interrupted, and that no notice has
    /// reported yet.
    pub unknown: Vec<String>,
    /// Those of them that `inbox.receive` has reported.
    #[serde(default)]
    pub notified_unknown: Vec<String>,
    /// The newest generation that `inbox.receive` has reported in a notice.
    pub notified: Option<Generation>,
    /// Messages that the turn received through `inbox.receive`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub received: Vec<MessageId>,
}

/// A part of a step that began and is not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The index of the part in its step, from 0.
    pub part: u32,
    /// The effect, as `kind name`.
    pub what: String,
    /// Whether the effect may be executed again.
    pub repeatable: bool,
    /// Whether it reaches anything outside.
    pub outside: bool,
    /// Whether the turn was interrupted while it was pending, so that its outcome is unknown.
    #[serde(default)]
    pub lost: bool,
}

impl Progressed {
    /// Whether a further attempt must be answered from the journal, because something outside was
    /// done or may have been. What the host answers itself (a list of tools, the content of the
    /// inbox) does not count: the host can answer it again.
    pub fn binds(&self) -> bool {
        self.done > 0 || self.pending.iter().any(|pending| !pending.repeatable)
    }

    pub(super) fn plan(&mut self, planned: &Planned) {
        self.steps += 1;
        self.effects += planned.effects.iter().filter(|e| !e.repeatable()).count() as u32;
        let parts = (0..).zip(&planned.effects);
        self.pending = parts
            .map(|(part, effect)| Pending {
                part,
                what: planned.call.what(effect),
                repeatable: effect.repeatable(),
                outside: *effect != Effect::Local,
                lost: false,
            })
            .collect();
    }

    /// Takes the result of a part of a step. Returns whether this is progress: something outside
    /// was done, and the turn need not do it again.
    pub(super) fn done(&mut self, done: &StepDone) -> bool {
        let part = self.pending.iter().position(|p| p.part == done.part);
        let part = part.map(|at| self.pending.remove(at));
        let (outside, repeatable) = part.map_or((false, true), |p| (p.outside, p.repeatable));
        self.done += u32::from(outside);
        self.bytes += done.bytes();
        // It certainly did not happen, so a retry could not do it twice.
        if !repeatable && let Err(StepError::Unavailable(_) | StepError::Denied(_)) = &done.result {
            self.effects = self.effects.saturating_sub(1);
        }
        if let Ok(StepResult::Receive(received)) = &done.result {
            let ids = received.messages.iter().map(|message| message.id.clone());
            self.received.extend(ids);
            if let Some(notice) = &received.notice {
                self.notified = self.notified.max(Some(notice.generation));
                self.notified_unknown.append(&mut self.unknown);
            }
        }
        outside && !matches!(done.result, Err(StepError::UnknownOutcome(_)))
    }

    /// Marks the turn as interrupted: unrepeatable parts that are not done become unknown.
    pub(super) fn interrupt(&mut self) {
        for pending in &mut self.pending {
            if !pending.repeatable && !pending.lost {
                pending.lost = true;
                self.unknown.push(pending.what.clone());
            }
        }
    }
}

/// A turn's steps, as recorded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Journal {
    steps: Vec<Step>,
}

/// One step of a journal.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub planned: Planned,
    /// The result of each part, where it is known.
    pub done: Vec<Option<StepDone>>,
}

impl Journal {
    /// Builds the journal of a turn from the records after the `Begun` with which it last began
    /// anew.
    pub fn of(turn: u64, records: impl IntoIterator<Item = Record>) -> Self {
        let mut steps: Vec<Step> = Vec::new();
        for record in records {
            match record {
                Record::Planned(planned) if planned.turn == turn => steps.push(Step {
                    done: vec![None; planned.effects.len()],
                    planned,
                }),
                Record::Done(done) if done.turn == turn => {
                    let step = steps.iter_mut().rfind(|s| s.planned.step == done.step);
                    let slot = step.and_then(|step| step.done.get_mut(done.part as usize));
                    if let Some(slot) = slot {
                        slot.get_or_insert(done);
                    }
                }
                _ => {}
            }
        }
        Self { steps }
    }

    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}

/// A journal that answers the steps of a further attempt.
#[derive(Clone, Debug)]
pub struct Replay {
    journal: Journal,
    answered: usize,
}

/// How a step that a guest asks for is handled.
#[derive(Clone, Debug, PartialEq)]
pub enum StepPath {
    /// The journal has no step in its place: it is executed.
    Live,
    /// The journal has this step; here is the state of each part.
    Recorded(Vec<Recorded>),
    /// The journal has another step in its place.
    Diverged(Divergence),
}

/// What the journal has of one part of a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Recorded {
    /// The part is done; this is its result.
    Done(Box<StepDone>),
    /// It began and is not done, but may be executed again.
    Again(Effect),
    /// It began, may not be repeated, and its outcome is unknown.
    Unknown(Effect),
}

impl Replay {
    pub fn new(journal: Journal) -> Self {
        Self {
            journal,
            answered: 0,
        }
    }

    /// Returns how the guest's next step is handled.
    pub fn next(&mut self, call: &StepCallName) -> StepPath {
        let Some(step) = self.journal.steps.get(self.answered) else {
            return StepPath::Live;
        };
        let planned = &step.planned;
        if planned.call.kind != call.kind || planned.call.digest != call.digest {
            return StepPath::Diverged(Divergence {
                step: planned.step,
                before: planned.call.clone(),
                now: Some(call.clone()),
            });
        }
        self.answered += 1;
        let parts = planned.effects.iter().zip(&step.done);
        StepPath::Recorded(
            parts
                .map(|(effect, done)| match done {
                    Some(done) => Recorded::Done(Box::new(done.clone())),
                    None if effect.repeatable() => Recorded::Again(effect.clone()),
                    None => Recorded::Unknown(effect.clone()),
                })
                .collect(),
        )
    }

    /// Called when the guest has ended its turn. Returns a divergence if the guest left out a step
    /// that it took before.
    pub fn left_out(&self) -> Option<Divergence> {
        let step = self.journal.steps.get(self.answered)?;
        Some(Divergence {
            step: step.planned.step,
            before: step.planned.call.clone(),
            now: None,
        })
    }
}

/// A guest that did something else although its inputs were the same.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "the guest is not deterministic: step {step} was `{before}` when the turn first ran, and is \
     {} now that it runs again; nothing is guessed",
    match .now { Some(call) => format!("`{call}`"), None => "the turn's end".to_owned() }
)]
pub struct Divergence {
    /// The number of the step in the turn, from 1.
    pub step: u32,
    /// The call in the journal.
    pub before: StepCallName,
    /// The call that the guest made; none if it ended the turn instead.
    pub now: Option<StepCallName>,
}

impl From<Divergence> for TurnFailure {
    fn from(divergence: Divergence) -> Self {
        Self {
            code: FailureCode::Divergence,
            text: divergence.to_string(),
        }
    }
}

/// Returns the error that a guest receives for a step whose outcome is unknown. The text is the
/// same each time, so that a replay is deterministic.
pub fn unknown_outcome(what: &str) -> StepError {
    StepError::UnknownOutcome(format!(
        "{what} had begun when the turn was interrupted, and nobody knows whether it took effect; \
         find out before doing it again"
    ))
}
