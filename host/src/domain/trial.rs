//! What the trial of a component on a session has found. It is run by `session/trial.rs`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::shorten::{REASON_BYTES, one_line};
use super::{Digest, SessionId, StateLoss};

/// What the trial of a component on copies of a session's state and its last turn has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TrialReport {
    pub verdict: TrialVerdict,
    /// Why, for humans; empty if there is nothing to say.
    pub text: String,
    /// How much of the session's last turn it takes as before; none if that was not run again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replayed: Option<ReplayedSteps>,
    /// Whether its guest was restored: then the session can run on it, if an operator so decides.
    #[serde(skip)]
    pub is_restored: bool,
    /// What of the state is gone with it.
    #[serde(default, skip_serializing_if = "StateLoss::is_none")]
    pub lost: StateLoss,
}

/// What becomes of a session with a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrialVerdict {
    /// It carries the session on.
    Passed,
    /// It takes the state and loses a part of it, although it says that it reads all of that encoding: the
    /// schema is not a higher one.
    Suspect,
    /// It cannot carry the session on.
    Failed,
    /// Nothing was found out.
    Untried,
}

/// The steps of a turn that was run again on its journal, up to the first one that was another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplayedSteps {
    /// Those that it takes as before.
    pub steps: u32,
    /// All that it took before.
    pub of: u32,
    /// Whether it goes on otherwise from there.
    pub differs: bool,
}

impl TrialVerdict {
    /// The name of the verdict in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Suspect => "suspect",
            Self::Failed => "failed",
            Self::Untried => "untried",
        }
    }

    /// Whether the session stays on the component that it runs on.
    pub fn stays(self) -> bool {
        match self {
            Self::Suspect | Self::Failed => true,
            Self::Passed | Self::Untried => false,
        }
    }
}

/// Names what is lost.
fn named(lost: &StateLoss) -> String {
    let paths: Vec<_> = lost.paths.iter().map(|path| format!("`{path}`")).collect();
    let mut text = paths.join(", ");
    if lost.more > 0 {
        text.push_str(&format!(" and {} more", lost.more));
    }
    text
}

impl TrialReport {
    pub fn passed() -> Self {
        Self {
            verdict: TrialVerdict::Passed,
            text: String::new(),
            replayed: None,
            is_restored: false,
            lost: StateLoss::default(),
        }
    }

    /// The state is carried on.
    pub fn restored(self) -> Self {
        Self {
            is_restored: true,
            ..self
        }
    }

    pub fn failed(text: String) -> Self {
        Self {
            verdict: TrialVerdict::Failed,
            text,
            ..Self::passed()
        }
    }

    pub fn untried(text: String) -> Self {
        Self {
            verdict: TrialVerdict::Untried,
            text,
            ..Self::passed()
        }
    }

    /// `schema` is the schema of the state, which the component's is not above.
    pub fn suspect(lost: StateLoss, schema: u32) -> Self {
        Self {
            verdict: TrialVerdict::Suspect,
            text: format!(
                "it would lose a part of the session's state: {}; have it read that, or raise its schema \
                 above {schema} if the loss is meant; `abide plugin adopt --force` takes it",
                named(&lost)
            ),
            lost,
            is_restored: true,
            ..Self::passed()
        }
    }

    /// The last turn was run again, up to the first step that was another.
    pub fn replayed(replayed: ReplayedSteps) -> Self {
        let ReplayedSteps { steps, of, differs } = replayed;
        let text = match differs {
            true => format!("of its last turn it takes {steps} of {of} steps as before"),
            false => String::new(),
        };
        Self {
            text,
            replayed: Some(replayed),
            ..Self::passed()
        }
    }
}

/// How many sessions a report of a plugin names that stay.
pub const STAYING_TOLD: usize = 20;

/// The trial of a plugin's new component on the sessions that use it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PluginTrial {
    pub plugin: String,
    /// The component that is tried.
    pub component: Digest,
    /// The open sessions of the plugin.
    pub sessions: u64,
    /// Those that it carries on.
    pub passed: u64,
    /// Those of them whose last turn it takes otherwise than before.
    pub differ: u64,
    /// Those that would lose a part of their state: they stay on the component that they run on.
    pub suspect: u64,
    /// Those that it cannot carry on: they stay, too.
    pub failed: u64,
    /// Those of which nothing was found out yet: they are tried before their next turn.
    pub untried: u64,
    /// Why nothing was found out of one of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untried_reason: Option<String>,
    /// Some of those that stay, at most 20.
    pub stay: Vec<StayingSession>,
}

/// A session that stays on the component that it runs on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StayingSession {
    pub id: SessionId,
    pub verdict: TrialVerdict,
    /// Why, for humans.
    pub text: String,
}

impl PluginTrial {
    /// Begins with no session tried.
    pub fn new(plugin: String, component: Digest, sessions: u64) -> Self {
        Self {
            plugin,
            component,
            sessions,
            passed: 0,
            differ: 0,
            suspect: 0,
            failed: 0,
            untried: sessions,
            untried_reason: None,
            stay: Vec::new(),
        }
    }

    pub fn add(&mut self, id: SessionId, report: TrialReport) {
        let TrialReport {
            verdict,
            text,
            replayed,
            is_restored: _,
            lost: _,
        } = report;
        let text = one_line(&text, REASON_BYTES);
        match verdict {
            TrialVerdict::Passed => self.passed += 1,
            TrialVerdict::Suspect => self.suspect += 1,
            TrialVerdict::Failed => self.failed += 1,
            TrialVerdict::Untried => {
                self.untried_reason.get_or_insert(text);
                return;
            }
        }
        // Sessions may have been made since they were counted.
        self.untried = self.untried.saturating_sub(1);
        self.differ += u64::from(replayed.is_some_and(|replayed| replayed.differs));
        if verdict.stays() && self.stay.len() < STAYING_TOLD {
            self.stay.push(StayingSession { id, verdict, text });
        }
    }

    /// Notes why no session can be tried.
    pub fn untried_for(&mut self, reason: &str) {
        self.untried_reason = Some(one_line(reason, REASON_BYTES));
    }

    /// Returns what was found, and of the first session that stays, why.
    pub fn told(&self) -> String {
        let summary = self.summary();
        match self.stay.first() {
            Some(first) => format!("{summary}; `{}`: {}", first.id, first.text),
            None => summary,
        }
    }

    /// Returns what was found, in one line: the words of the restart record, of `abide config plan` and of
    /// `abide plugin check`.
    pub fn summary(&self) -> String {
        let Self {
            plugin,
            component,
            sessions,
            passed,
            ..
        } = self;
        let mut line = format!(
            "plugin `{plugin}`, component {}: of {sessions} session{} it carries on {passed}",
            component.short(),
            if *sessions == 1 { "" } else { "s" },
        );
        let counts = [
            (self.differ, "of them with other steps than before"),
            (self.failed, "it cannot carry on: they stay"),
            (self.suspect, "would lose a part of their state: they stay"),
            (self.untried, "were not tried yet"),
        ];
        for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
            line.push_str(&format!(", {count} {what}"));
        }
        if let Some(reason) = &self.untried_reason {
            line.push_str(&format!(" ({reason})"));
        }
        line
    }

    /// How many sessions stay.
    pub fn staying(&self) -> u64 {
        self.suspect + self.failed
    }
}
