//! Deliberate bugs that a chaos run switches on, one at a time, to prove that its checker catches
//! each. The environment variable `ABIDE_BUG` names the bug. Each function is called where its bug
//! takes effect; in a build without the feature `faults` all of them do nothing.
//!
//! | bug | what it does |
//! |---|---|
//! | `restart-anyway` | the worker exits when a changed configuration is refused |
//! | `cursor-gap` | a loaded session skips a cursor |
//! | `consume-twice` | a turn that was run again leaves its message in the queue |
//! | `ack-before-sync` | replies are sent before the records are synced |
//! | `publish-before-commit` | events are published before the records are synced |
//! | `silent-loss` | sessions that damage has touched go on as if they were whole |
//! | `trial-skipped` | a new component carries on whatever it reads |
//! | `rewind-forgets` | the guest of a rewound session is not told what the undone turns did |
//! | `plan-late` | a step's plan is not synced before the step runs |

#[cfg(not(feature = "faults"))]
pub(crate) use off::*;
#[cfg(feature = "faults")]
pub(crate) use on::*;

#[cfg(not(feature = "faults"))]
mod off {
    use crate::domain::{OpenTurn, Queued, Record, Refusal, Session, TrialReport};

    /// Called when a changed configuration is refused.
    pub(crate) fn refused() {}

    /// Called when a session has been loaded.
    pub(crate) fn loaded(_: &mut Option<Session>) {}

    /// Returns the message that a completing turn must leave in the queue.
    pub(crate) fn consumed_again(_: Option<&OpenTurn>, _: u32) -> Option<Queued> {
        None
    }

    /// Called when the turn's end has been staged.
    pub(crate) fn ended(_: &mut Option<Session>, _: Option<Queued>) {}

    /// Called when a batch is about to be synced.
    pub(crate) fn before_sync<D, R: FnOnce(Result<(), Refusal>)>(
        _: &mut D,
        _: D,
        _: &mut Vec<R>,
        _: impl FnOnce(),
    ) {
    }

    /// Called when it is decided what becomes of a session that damage has touched.
    pub(crate) fn salvaged(_: &mut Option<String>, _: &mut Vec<String>) {}

    /// Called with the writes that a store which is salvaged lacks, if it lacks some.
    pub(crate) fn lacking<M>(_: &mut Option<M>) {}

    /// Called when a step's plan is about to be synced.
    pub(crate) fn planned<U>(_: &mut U, _: U) {}

    /// Called with the records by which a session is rewound.
    pub(crate) fn rewound(_: &mut [Record]) {}

    /// Called with what the trial of a component has found.
    pub(crate) fn tried(_: &mut TrialReport) {}
}

#[cfg(feature = "faults")]
mod on {
    use std::sync::LazyLock;

    use crate::domain::{
        OpenTurn, Queued, Record, Refusal, Session, StoppedTurns, TrialReport, TrialVerdict,
    };

    static BUG: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("ABIDE_BUG").ok());

    fn is_on(name: &str) -> bool {
        BUG.as_deref() == Some(name)
    }

    pub(crate) fn refused() {
        if is_on("restart-anyway") {
            std::process::exit(1);
        }
    }

    pub(crate) fn loaded(session: &mut Option<Session>) {
        if let Some(session) = session
            && is_on("cursor-gap")
        {
            session.progress.next.cursor += 1;
        }
    }

    pub(crate) fn consumed_again(open: Option<&OpenTurn>, attempt: u32) -> Option<Queued> {
        let open = open.filter(|_| attempt > 1 && is_on("consume-twice"));
        open.map(|open| open.queued.clone())
    }

    pub(crate) fn ended(session: &mut Option<Session>, again: Option<Queued>) {
        if let (Some(session), Some(queued)) = (session, again) {
            session.queue.push_back(queued);
        }
    }

    pub(crate) fn before_sync<D, R: FnOnce(Result<(), Refusal>)>(
        durability: &mut D,
        lazy: D,
        replies: &mut Vec<R>,
        publish: impl FnOnce(),
    ) {
        if is_on("ack-before-sync") {
            *durability = lazy;
            replies.drain(..).for_each(|reply| reply(Ok(())));
        }
        if is_on("publish-before-commit") {
            publish();
        }
    }

    pub(crate) fn salvaged(cut: &mut Option<String>, lost: &mut Vec<String>) {
        if is_on("silent-loss") {
            *cut = None;
            lost.clear();
        }
    }

    pub(crate) fn lacking<M>(missing: &mut Option<M>) {
        if is_on("silent-loss") {
            *missing = None;
        }
    }

    pub(crate) fn planned<U>(urgency: &mut U, late: U) {
        if is_on("plan-late") {
            *urgency = late;
        }
    }

    pub(crate) fn rewound(records: &mut [Record]) {
        if let Some(Record::Rewound(rewound)) = records.last_mut()
            && is_on("rewind-forgets")
        {
            rewound.owed.effects = StoppedTurns::default();
        }
    }

    pub(crate) fn tried(found: &mut TrialReport) {
        if found.verdict == TrialVerdict::Suspect && is_on("trial-skipped") {
            *found = TrialReport::passed();
        }
    }
}
