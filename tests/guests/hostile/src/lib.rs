//! A guest that misbehaves on request, for tests of the host.
//!
//! It implements the contract directly instead of through `Plugin`, because some of its snapshots
//! must be invalid. A message's first word selects the act (see `acts`); any other text is
//! answered with `ok <text>`. The session's args (`Args`) make the other exports fail or trap.

#![cfg(target_family = "wasm")]

mod acts;
mod probe;

use std::cell::RefCell;

use abide_plugin::bindings::exports::abide::session::guest::Guest;
use abide_plugin::{Context, Message, RestoreError, State, bindings};
use serde::{Deserialize, Serialize};

/// The newest schema that this guest reads.
const SCHEMA: u32 = 1;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Args {
    /// `open` returns this error.
    fail: Option<String>,
    /// This export traps: `open`, `turn`, `snapshot` or `restore`.
    trap_in: Option<String>,
    /// Snapshots carry this schema.
    schema: Option<u32>,
    /// `restore` rejects every snapshot with this reason.
    refuse: Option<String>,
}

#[derive(Default, Serialize, Deserialize)]
struct Hostile {
    /// Number of completed turns.
    turns: u64,
    /// The snapshot is padded to this many bytes.
    fill_bytes: usize,
    /// Each snapshot differs from the one before.
    unfaithful: bool,
}

#[derive(Default)]
struct Instance {
    args: Args,
    state: Hostile,
}

thread_local! {
    static INSTANCE: RefCell<Instance> = RefCell::default();
}

fn with<T>(act: impl FnOnce(&mut Instance) -> T) -> T {
    INSTANCE.with_borrow_mut(act)
}

impl Instance {
    fn read_args(&mut self, context: &Context) -> Result<(), String> {
        self.args = context.read_args()?;
        Ok(())
    }

    fn trap_in(&self, export: &str) {
        if self.args.trap_in.as_deref() == Some(export) {
            core::arch::wasm32::unreachable();
        }
    }
}

struct Component;

impl Guest for Component {
    fn open(context: Context) -> Result<(), String> {
        with(|this| {
            this.read_args(&context)?;
            this.trap_in("open");
            this.args.fail.clone().map_or(Ok(()), Err)
        })
    }

    fn turn(input: Vec<Message>) -> Result<(), String> {
        with(|this| {
            this.trap_in("turn");
            for message in &input {
                acts::act(&mut this.state, message)?;
            }
            this.state.turns += 1;
            Ok(())
        })
    }

    fn snapshot() -> State {
        with(|this| {
            this.trap_in("snapshot");
            this.state.turns += u64::from(this.state.unfaithful);
            let mut data = serde_json::to_vec(&this.state).expect("a plain struct is JSON");
            // JSON permits trailing white space.
            data.resize(data.len().max(this.state.fill_bytes), b' ');
            State {
                schema: this.args.schema.unwrap_or(SCHEMA),
                data,
            }
        })
    }

    fn restore(context: Context, snapshot: State) -> Result<(), RestoreError> {
        with(|this| {
            this.read_args(&context).map_err(RestoreError::Invalid)?;
            this.trap_in("restore");
            if let Some(reason) = &this.args.refuse {
                return Err(RestoreError::Invalid(reason.clone()));
            }
            if snapshot.schema > SCHEMA {
                return Err(RestoreError::NewerSchema(snapshot.schema));
            }
            this.state = serde_json::from_slice(&snapshot.data)
                .map_err(|error| RestoreError::Invalid(error.to_string()))?;
            Ok(())
        })
    }
}

bindings::export!(Component with_types_in bindings);
