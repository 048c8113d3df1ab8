//! The census: which components sessions run on. It is taken by looking at every session now and then.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Digest, Finding, FindingKind, Identity, SessionProgress, UnixMillis};

/// How long sessions may stay on an older component before that is a finding.
const OLD_AFTER: Duration = Duration::from_secs(30 * 24 * 3600);

/// What was counted. Closed sessions are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// By plugin, then by the component that sessions last ran on.
    pub plugins: BTreeMap<String, BTreeMap<Digest, ComponentCensus>>,
    /// The components that any session may have to run on: its last ones, that of its open turn, the one
    /// that it is pinned to, and those of its restore points.
    pub components: BTreeSet<Digest>,
    /// The dead letters of all sessions.
    pub dead_letters: u64,
}

/// The sessions that last ran on one component.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ComponentCensus {
    pub sessions: u64,
    /// Those that stay on it although their plugin has another one.
    pub pinned: u64,
    /// Since when the first of these does.
    pub pinned_since: Option<UnixMillis>,
}

impl Census {
    /// Counts a session, of which so many dead letters are kept at most. `stays`: whether one that stays on
    /// another component is to run still on the one that it could not run on.
    pub fn count(
        &mut self,
        identity: &Identity,
        progress: &SessionProgress,
        stays: impl Fn(Digest) -> bool,
        dead_letters_kept: u64,
    ) {
        if progress.closed.is_some() {
            return;
        }
        self.dead_letters += progress.dead_letters.min(dead_letters_kept);
        let needed = [
            Some(progress.snapshot.component),
            progress.previous.map(|previous| previous.component),
            progress.open.as_ref().map(|open| open.begun.component),
            progress.pin.as_ref().map(|pin| pin.component),
        ];
        self.components.extend(needed.into_iter().flatten());
        let plugin = match self.plugins.get_mut(&identity.plugin) {
            Some(plugin) => plugin,
            None => self.plugins.entry(identity.plugin.clone()).or_default(),
        };
        let component = plugin.entry(progress.snapshot.component).or_default();
        component.sessions += 1;
        // Another component has yet to be tried.
        let pin = progress.pin.as_ref();
        if let Some(pin) = pin.filter(|pin| stays(pin.refused)) {
            component.pinned += 1;
            let since = component.pinned_since.get_or_insert(pin.at);
            *since = pin.at.min(*since);
        }
    }

    /// Returns the number of a plugin's sessions.
    pub fn sessions_of(&self, plugin: &str) -> u64 {
        let components = self.plugins.get(plugin).into_iter().flatten();
        components.map(|(_, component)| component.sessions).sum()
    }

    /// Returns the older components on which sessions have stayed for long.
    pub(super) fn findings(&self, now: UnixMillis) -> impl Iterator<Item = Finding> {
        let all = self.plugins.iter().flat_map(|(plugin, components)| {
            components
                .iter()
                .map(move |(digest, component)| (plugin, digest, component))
        });
        all.filter_map(move |(plugin, digest, component)| {
            let since = component.pinned_since?;
            (u128::from(now.since(since)) > OLD_AFTER.as_millis()).then(|| Finding {
                kind: FindingKind::ComponentOld,
                subject: format!("plugins.{plugin}: {}", digest.short()),
                since,
                reason: format!(
                    "{} sessions stay on its older component {}, since later ones could not carry them on",
                    component.pinned,
                    digest.short()
                ),
                remedy: format!(
                    "abide sessions list --pinned --plugin {plugin} names them; `abide plugin adopt --all \
                     --plugin {plugin}` tries the present component again, `abide plugin retire {}` gives \
                     the old one up",
                    digest.short()
                ),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Created, Generation, Moved, Record, Session};

    fn session(component: Digest, pinned_at: Option<UnixMillis>) -> Session {
        let mut session = Session::create(&Record::Created(Created {
            plugin: "p".into(),
            args: "null".into(),
            labels: BTreeMap::new(),
            generation: Generation(1),
            component,
            schema: 1,
            outputs: Vec::new(),
            timers: Vec::new(),
            at: UnixMillis(0),
        }))
        .expect("a first record");
        if let Some(at) = pinned_at {
            session.apply(&Record::Moved(Moved {
                component,
                refused: Some(Digest::of(b"new")),
                reason: "it traps".into(),
                takes_over: None,
                at,
            }));
        }
        session
    }

    #[test]
    fn sessions_are_counted_by_component_and_long_pins_are_found() {
        let (old, new) = (Digest::of(b"old"), Digest::of(b"new"));
        let mut census = Census::default();
        let day = |days: u64| UnixMillis(days * 24 * 3600 * 1000);
        for session in [
            session(old, Some(day(7))),
            session(old, Some(day(5))),
            session(new, None),
        ] {
            census.count(&session.identity, &session.progress, |it| it == new, 10);
        }
        assert_eq!((census.sessions_of("p"), census.sessions_of("q")), (3, 0));
        let of_old = census.plugins["p"][&old];
        let since = Some(day(5));
        assert_eq!(
            (of_old.sessions, of_old.pinned, of_old.pinned_since),
            (2, 2, since)
        );
        assert_eq!(census.plugins["p"][&new].pinned, 0);
        assert_eq!(census.findings(day(34)).count(), 0);
        let found: Vec<_> = census.findings(day(36)).collect();
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].kind, found[0].since),
            (FindingKind::ComponentOld, day(5))
        );
        assert!(
            found[0].remedy.contains(&old.short()),
            "{}",
            found[0].remedy
        );
    }
}
