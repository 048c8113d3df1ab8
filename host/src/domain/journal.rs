//! The journal of a turn: which steps it took, what they gave, and what a later attempt is told of
//! them. Pure: the turn asks, and acts on what it is told.
//!
//! ```text
//!   guest calls step n ----> is n in the journal?
//!                             | no                | yes
//!                             v                   v
//!                           Live            the same call? -- no --> Diverged: the turn fails
//!                                                 | yes
//!                                                 v  for each part of it
//!                                   done?            -> Done:    its result, as it was
//!                                   else repeatable? -> Again:   the effect is caused once more
//!                                   else             -> Unknown: nobody knows; never again
//! ```

use serde::{Deserialize, Serialize};

use super::{
    Effect, FailureCode, Generation, MessageId, Planned, Record, StepCallName, StepDone, StepError,
    StepResult, TurnFailure,
};

/// How far an open turn's journal is: what a fold needs to know of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progressed {
    /// Steps that began.
    pub steps: u32,
    /// Parts of steps that were done and reached something outside.
    pub done: u32,
    /// About what its results weigh, in bytes.
    pub bytes: u64,
    /// Parts that began and must not begin again: a retry of the turn's message would.
    pub effects: u32,
    /// What the last step has under way.
    pub pending: Vec<Pending>,
    /// What was under way, and cannot be repeated, when the turn was interrupted, and has not been
    /// told yet.
    pub unknown: Vec<String>,
    /// The same, told by `inbox.receive`.
    #[serde(default)]
    pub told_unknown: Vec<String>,
    /// The last generation of whose coming `inbox.receive` has told.
    pub told: Option<Generation>,
    /// Messages that it took from the inbox.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub received: Vec<MessageId>,
}

/// A part of a step that began and is not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Which part of the step, from 0.
    pub part: u32,
    /// As `kind name`.
    pub what: String,
    /// Whether it may begin again.
    pub repeatable: bool,
    /// Whether it reaches anything outside.
    pub outside: bool,
    /// The turn was interrupted meanwhile: it is told as unknown.
    #[serde(default)]
    pub lost: bool,
}

impl Progressed {
    /// Whether a further attempt must be answered from the journal: something outside was done, or
    /// may have been. What the host itself answered (a list of tools, a look into the inbox) can be
    /// asked of it again.
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

    /// A part of a step has its result. Whether that is progress: something outside was done, and
    /// the turn need not do it again.
    pub(super) fn done(&mut self, done: &StepDone) -> bool {
        let part = self.pending.iter().position(|p| p.part == done.part);
        let part = part.map(|at| self.pending.remove(at));
        let (outside, repeatable) = part.map_or((false, true), |p| (p.outside, p.repeatable));
        self.done += u32::from(outside);
        self.bytes += done.bytes();
        // It certainly did not happen: nobody could do it twice by another try.
        if !repeatable && let Err(StepError::Unavailable(_) | StepError::Denied(_)) = &done.result {
            self.effects = self.effects.saturating_sub(1);
        }
        if let Ok(StepResult::Receive(received)) = &done.result {
            let ids = received.messages.iter().map(|message| message.id.clone());
            self.received.extend(ids);
            if let Some(notice) = &received.notice {
                self.told = self.told.max(Some(notice.generation));
                self.told_unknown.append(&mut self.unknown);
            }
        }
        outside && !matches!(done.result, Err(StepError::UnknownOutcome(_)))
    }

    /// The turn is interrupted: what cannot be repeated and is not done is unknown.
    pub(super) fn interrupt(&mut self) {
        for pending in &mut self.pending {
            if !pending.repeatable && !pending.lost {
                pending.lost = true;
                self.unknown.push(pending.what.clone());
            }
        }
    }
}

/// A turn's steps as they were recorded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Journal {
    steps: Vec<Step>,
}

/// One step of a journal.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// How it began.
    pub planned: Planned,
    /// What each part gave, as far as it is known.
    pub done: Vec<Option<StepDone>>,
}

impl Journal {
    /// The journal of a turn, from the records behind the `Begun` that it was begun anew with.
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

    /// Its steps, in order.
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

/// What becomes of a step that a guest asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum StepPath {
    /// The journal does not know it: it is taken.
    Live,
    /// The journal knows it, part by part.
    Recorded(Vec<Recorded>),
    /// The journal has another step in its place.
    Diverged(Divergence),
}

/// What the journal knows of a part of a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Recorded {
    /// What it gave.
    Done(Box<StepDone>),
    /// It began; it may begin again.
    Again(Effect),
    /// It began, and nobody knows whether it happened.
    Unknown(Effect),
}

impl Replay {
    /// Answers from this journal.
    pub fn new(journal: Journal) -> Self {
        Self {
            journal,
            answered: 0,
        }
    }

    /// What becomes of the guest's next step.
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

    /// The guest has ended its turn: what is wrong if it has left out a step that it took before.
    pub fn left_out(&self) -> Option<Divergence> {
        let step = self.journal.steps.get(self.answered)?;
        Some(Divergence {
            step: step.planned.step,
            before: step.planned.call.clone(),
            now: None,
        })
    }
}

/// A guest that, told the same, did something else.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "the guest is not deterministic: step {step} was `{before}` when the turn first ran, and is \
     {} now that it runs again; nothing is guessed",
    match .now { Some(call) => format!("`{call}`"), None => "the turn's end".to_owned() }
)]
pub struct Divergence {
    /// The step's number in the turn, from 1.
    pub step: u32,
    /// What the journal has.
    pub before: StepCallName,
    /// What the guest asked for; none if it ended the turn instead.
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

/// What a guest is told of a step that nobody knows the outcome of. The same whenever it is asked,
/// so that a replay is one.
pub fn unknown_outcome(what: &str) -> StepError {
    StepError::UnknownOutcome(format!(
        "{what} had begun when the turn was interrupted, and nobody knows whether it took effect; \
         find out before doing it again"
    ))
}
