//! Restore points: the states that a session can go back to. A point is a snapshot that is kept beyond the
//! last two, with what belongs to it; it can be read for as long as it is listed, whatever else is trimmed.
//!
//! ```text
//!   created   turn 1   turn 2   turn 3 (new component)   turn 4   rewind to turn 2   turn 5
//!      0 -------- 1 ------- 2 -------- 3 ------------------- 4 ------- 2' --------------- 5     present
//!                           |                                |
//!                  kept: before a change            kept: before an operator's act
//!                  of the component                 and each of the last turns, for a while
//! ```

use serde::{Deserialize, Serialize};

use super::{Digest, LogPos, Owed, PointRules, Timer, UnixMillis};

/// How many points before a change of the component are kept.
const CHANGES_KEPT: usize = 3;
/// How many points before an operator's act are kept.
const ACTS_KEPT: usize = 3;
/// The last two snapshots are always kept: with its journal, the last turn leads from one to the other.
const ALWAYS_KEPT: usize = 2;

/// A state that a session can go back to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The position of the record that its snapshot is stored with.
    pub at: LogPos,
    /// The cursor of the last event of that record: how clients name the point.
    pub cursor: u64,
    /// The turn after which the session was so; 0 before its first one.
    pub turn: u64,
    /// The number of turns that had completed.
    pub turns: u64,
    /// The number of the last turn that had begun.
    pub last_turn: u64,
    /// The component that wrote the snapshot.
    pub component: Digest,
    /// The snapshot's schema.
    pub schema: u32,
    /// The size of the snapshot as it is stored, in bytes.
    pub bytes: u64,
    pub taken_at: UnixMillis,
    /// The timers that were set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub timers: Vec<Timer>,
    /// What its guest had yet to be told.
    #[serde(default, skip_serializing_if = "Owed::is_none")]
    pub owed: Owed,
    /// What turns did outside since the point before it that is kept, and what they were told: a session
    /// that goes back to before it must be told.
    #[serde(default, skip_serializing_if = "Owed::is_none")]
    pub since: Owed,
    /// Whether the session ran on another component after it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub before_change: bool,
    /// The last act of an operator or client on the session in this state, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_act: Option<PointAct>,
}

/// The acts before which the state is kept as a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PointAct {
    /// A turn was cancelled.
    Cancel,
    /// A dead letter was put back into the inbox.
    Retry,
    /// A fault, or the wait after a cut, was ended.
    Resume,
    /// The session was moved to its plugin's component.
    Adopt,
    /// The session was rewound.
    Rewind,
}

impl Point {
    /// Returns what the point takes on the disk, in bytes: its snapshot, and what stands beside it.
    pub fn weight(&self) -> u64 {
        let timers = self.timers.iter();
        let beside: usize = timers
            .map(|timer| timer.name.len() + timer.text.len())
            .sum();
        self.bytes.saturating_add(beside as u64)
    }
}

/// Removes the points that are no longer kept from a list, which begins with the oldest, and returns them.
/// The positions of those that changed are added to `changed`.
pub fn keep_points(
    points: &mut Vec<Point>,
    rules: PointRules,
    changed: &mut Vec<LogPos>,
) -> Vec<Point> {
    let (mut bytes, mut changes, mut acts, mut age) = (0_u64, 0, 0, 0_usize);
    let is_kept = |point: &Point| {
        bytes = bytes.saturating_add(point.weight());
        let is_recent = age as u64 <= u64::from(rules.turns) && bytes <= rules.bytes;
        // Each counts, or a point that is kept for two reasons would make room for a fourth.
        changes += usize::from(point.before_change);
        acts += usize::from(point.before_act.is_some());
        let is_marked = point.before_change && changes <= CHANGES_KEPT
            || point.before_act.is_some() && acts <= ACTS_KEPT;
        age += 1;
        age <= ALWAYS_KEPT || is_recent || is_marked
    };
    retain_points(points, changed, is_kept)
}

/// Removes points from a list, which begins with the oldest; `is_kept` is asked from the newest on. Returns
/// those that were removed. What turns did outside before one of them is noted with the point after it, whose
/// position is added to `changed`.
pub fn retain_points(
    points: &mut Vec<Point>,
    changed: &mut Vec<LogPos>,
    mut is_kept: impl FnMut(&Point) -> bool,
) -> Vec<Point> {
    let mut removed = Vec::new();
    // In place: this runs in every turn, and mostly removes the first one.
    for at in (0..points.len()).rev() {
        if is_kept(&points[at]) {
            continue;
        }
        let point = points.remove(at);
        if !point.since.is_none()
            && let Some(after) = points.get_mut(at)
        {
            after.since.add_earlier(point.since.clone());
            changed.push(after.at);
        }
        removed.push(point);
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{MadeCall, MadeCalls, StoppedTurn, StoppedTurns};

    fn point(turn: u64) -> Point {
        Point {
            at: LogPos {
                cursor: turn * 3,
                seq: turn,
            },
            cursor: turn * 3 + 3,
            turn,
            turns: turn,
            last_turn: turn,
            component: Digest::of(b"c"),
            schema: 1,
            bytes: 100,
            taken_at: UnixMillis(turn),
            timers: Vec::new(),
            owed: Owed::default(),
            since: Owed::default(),
            before_change: false,
            before_act: None,
        }
    }

    fn with_call(turn: u64) -> Point {
        let made = MadeCall {
            call: format!("mail {turn}"),
            result: Some("sent".into()),
            in_flight: None,
            repeatable: false,
        };
        let calls = MadeCalls {
            shown: vec![made],
            more: 0,
        };
        let undone = StoppedTurn {
            turn,
            reason: String::new(),
            about: String::new(),
            calls,
        };
        let mut point = point(turn);
        point.since.effects = StoppedTurns {
            turns: vec![undone],
            earlier_calls: 0,
        };
        point
    }

    fn turns(points: &[Point]) -> Vec<u64> {
        points.iter().map(|point| point.turn).collect()
    }

    #[test]
    fn the_last_turns_are_kept_and_those_before_changes_and_acts() {
        let rules = PointRules {
            turns: 4,
            bytes: 1000,
        };
        let mut points: Vec<_> = (0..20).map(point).collect();
        for at in [1, 2, 3, 5] {
            points[at].before_change = true;
        }
        for at in [2, 6, 7, 8] {
            points[at].before_act = Some(PointAct::Cancel);
        }
        let removed = keep_points(&mut points, rules, &mut Vec::new());
        assert_eq!(turns(&points), [2, 3, 5, 6, 7, 8, 15, 16, 17, 18, 19]);
        assert_eq!(removed.len(), 9);
    }

    #[test]
    fn large_states_are_kept_for_fewer_turns_but_two_always() {
        let rules = PointRules {
            turns: 16,
            bytes: 350,
        };
        let mut points: Vec<_> = (0..9).map(point).collect();
        keep_points(&mut points, rules, &mut Vec::new());
        assert_eq!(turns(&points), [6, 7, 8]);
        let none = PointRules { turns: 0, bytes: 0 };
        keep_points(&mut points, none, &mut Vec::new());
        assert_eq!(turns(&points), [7, 8]);
    }

    #[test]
    fn what_turns_did_outlives_their_points() {
        let rules = PointRules {
            turns: 2,
            bytes: 1000,
        };
        let mut points: Vec<_> = (0..4).map(with_call).collect();
        points[0].before_act = Some(PointAct::Rewind);
        let mut changed = Vec::new();
        points.push(point(4));
        points.push(point(5));
        keep_points(&mut points, rules, &mut changed);
        assert_eq!(turns(&points), [0, 3, 4, 5]);
        assert!(changed.contains(&points[1].at));
        let of = points[1].since.effects.turns.iter();
        assert!(of.map(|turn| turn.turn).eq([1, 2, 3]));
        assert!(
            points[1..]
                .iter()
                .skip(1)
                .all(|point| point.since.is_none())
        );
    }
}
