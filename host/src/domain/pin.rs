//! The component that a session runs on, where that is not its plugin's.
//!
//! A new component that cannot carry a session on must not end it: the session is *pinned* to the
//! component that it last ran on, and goes on there. It is tried again when its plugin has another
//! component, or when an operator has it adopt the plugin's.

use super::shorten::{REASON_BYTES, one_line};
use super::{Digest, FailureCode, Moved, Pin, Session, SessionProgress, UnixMillis};

impl SessionProgress {
    /// Returns the component of the session's next turn, of which its plugin has `configured`.
    pub fn component(&self, configured: Digest) -> Digest {
        match &self.pin {
            Some(pin) if pin.refused == configured => pin.component,
            Some(_) | None => configured,
        }
    }

    /// See [`Session::next_component`].
    pub fn next_component(&self, configured: Digest) -> Digest {
        match &self.open {
            Some(open) if !open.anew => open.begun.component,
            Some(_) | None => self.component(configured),
        }
    }

    /// Whether the state was written by another component than this one, so that this one must be tried
    /// on it before it runs.
    pub fn is_untried_on(&self, component: Digest) -> bool {
        self.snapshot.component != component && self.adopted != Some(component)
    }

    /// Moves the session to another component, as the record does.
    pub(super) fn move_to(&mut self, moved: &Moved) {
        let since = self
            .pin
            .take()
            .filter(|pin| pin.component == moved.component);
        let at = since.map_or(moved.at, |pin| pin.at);
        let is_adopted = moved.refused.is_none() && self.snapshot.component != moved.component;
        self.adopted = is_adopted.then_some(moved.component);
        self.pin = moved.refused.map(|refused| Pin {
            component: moved.component,
            refused,
            reason: moved.reason.clone(),
            at,
            took_over: moved.takes_over,
            provisional: false,
        });
        if let Some(open) = &mut self.open {
            match open.resumes() {
                false => open.anew |= Some(open.begun.component) == moved.refused,
                // A turn that is bound to its journal is also bound to the component that wrote it, unless
                // another one is to answer from that.
                true if moved.takes_over == Some(open.begun.turn) => {
                    open.begun.component = moved.component;
                }
                true => {}
            }
        }
    }

    /// Notes that a turn has failed. Where a component took it over, and has failed on it, too, the other one
    /// is not to blame: the session runs on that again.
    pub(super) fn failed_after_all(&mut self, turn: u64, code: FailureCode) {
        self.pin
            .take_if(|pin| pin.took_over == Some(turn) && code.is_of_guest());
    }
}

impl Session {
    /// Moves the session to another component without a record.
    pub fn move_for_now(&mut self, moved: &Moved) {
        self.progress.move_to(moved);
        if let Some(pin) = &mut self.progress.pin {
            pin.provisional = true;
        }
    }

    /// Returns the component that its guest runs on next, where its plugin has `configured`.
    pub fn next_component(&self, configured: Digest) -> Digest {
        self.progress.next_component(configured)
    }

    /// Whether its open turn can only go on with this component, which its journal is bound to.
    pub fn is_bound_to(&self, component: Digest) -> bool {
        let open = self.progress.open.as_ref();
        open.is_some_and(|open| open.resumes() && open.begun.component == component)
    }

    /// Returns the move that pins the session to the component that it last ran on, after `failed`
    /// could not be instantiated, or not be restored from its snapshot. None if that is the very
    /// component, or if the open turn can only go on with `failed`.
    pub fn fall_back(&self, failed: Digest, reason: &str, at: UnixMillis) -> Option<Moved> {
        let progress = &self.progress;
        let last = progress.snapshot.component;
        if last == failed || self.is_bound_to(failed) || progress.closed.is_some() {
            return None;
        }
        Some(Moved {
            component: last,
            refused: Some(failed),
            reason: one_line(reason, REASON_BYTES),
            takes_over: None,
            at,
        })
    }

    /// Returns the move by which the session goes on with the component `to`, after a turn has failed on
    /// `failed`, or its guest could not be restored there. The open turn is then answered by `to`, from its
    /// journal or its beginning; none if it made a call that must not be made again, or may have.
    pub fn go_back(
        &self,
        failed: Digest,
        to: Digest,
        reason: &str,
        at: UnixMillis,
    ) -> Option<Moved> {
        let open = self.progress.open.as_ref();
        if open.is_some_and(|open| open.journal.effects > 0) || self.progress.closed.is_some() {
            return None;
        }
        Some(Moved {
            component: to,
            refused: Some(failed),
            reason: one_line(reason, REASON_BYTES),
            takes_over: open.map(|open| open.begun.turn),
            at,
        })
    }

    /// Returns the move that ends a pin: the session runs on its plugin's component, `configured`, from its
    /// next turn on. None if it is not pinned.
    pub fn unpin(&self, configured: Digest, at: UnixMillis) -> Option<Moved> {
        self.progress.pin.as_ref()?;
        Some(Self::adopt(configured, at))
    }

    /// Returns the move to its plugin's component, `configured`, whatever of its state that loses.
    pub fn adopt(configured: Digest, at: UnixMillis) -> Moved {
        Moved {
            component: configured,
            refused: None,
            reason: String::new(),
            takes_over: None,
            at,
        }
    }
}
