//! The component that a session runs on.

use std::sync::Arc;

use crate::domain::{Digest, OpenTurn, Refusal, Session, SessionProgress};

use super::Driver;
use crate::session::plugins::Plugin;
use crate::session::rollouts::Place;

impl Driver {
    /// Returns the component that the session's guest runs on next.
    pub(super) fn next_component(&self, session: &Session) -> Digest {
        match self.configured(session) {
            Ok(configured) => session.next_component(configured),
            // Whoever tries it faults the session: its plugin is gone.
            Err(_) => session.progress.snapshot.component,
        }
    }

    /// Returns the component that the session is to run on: that of its plugin, or while that has yet to prove
    /// itself, perhaps the one before it.
    pub(super) fn configured(&self, session: &Session) -> Result<Digest, Refusal> {
        let (name, progress) = (&session.identity.plugin, Some(&session.progress));
        let of = (name.as_str(), self.plugin(name)?.component.digest());
        let rollouts = &self.shared.rollouts;
        Ok(rollouts.component_of(of, &self.id, progress, Place::Look))
    }

    /// Returns the component that a session of the plugin runs on from now on; and the plugin with it, if it
    /// can be loaded. `progress` is none if the session is about to be created.
    pub(super) async fn next_plugin(
        &self,
        name: &str,
        present: &Arc<Plugin>,
        progress: Option<&SessionProgress>,
    ) -> (Digest, Option<Arc<Plugin>>) {
        let configured = present.component.digest();
        // What a component has begun, it alone can end.
        let is_bound = |open: &OpenTurn| !open.anew;
        let place = match progress
            .and_then(|it| it.open.as_ref())
            .is_some_and(is_bound)
        {
            true => Place::Look,
            false => Place::Take,
        };
        let rollouts = &self.shared.rollouts;
        let component = rollouts.component_of((name, configured), &self.id, progress, place);
        let runs_on = match progress {
            Some(progress) => progress.next_component(component),
            None => component,
        };
        match self.shared.plugin_on(name, present, runs_on).await {
            Ok(plugin) => (component, Some(plugin)),
            Err(error)
                if runs_on == component
                    && component != configured
                    && rollouts.cannot_go_back(name, &error) =>
            {
                (configured, Some(present.clone()))
            }
            Err(_) => (component, None),
        }
    }

    /// Returns a plugin as it is configured.
    pub(super) fn plugin(&self, name: &str) -> Result<Arc<Plugin>, Refusal> {
        self.shared.live_config().plugins.named(name)
    }
}
