//! Serializes state into a snapshot and back: MessagePack with named fields, so that later versions
//! can read it.

use std::cell::RefCell;

use serde::Serialize;
use serde::de::{DeserializeOwned, Error as _};

use crate::{Context, Error, Message, Plugin, RestoreError, State};

/// Decodes a state that an older version of the plugin wrote, as the type that it had then. For
/// [`Plugin::migrate`].
///
/// # Errors
/// If the bytes do not decode as that type, or if bytes are left over.
pub fn decode<T: DeserializeOwned>(data: &[u8]) -> Result<T, Error> {
    read(data).map_err(Error::new)
}

fn read<T: DeserializeOwned>(mut data: &[u8]) -> Result<T, rmp_serde::decode::Error> {
    let value = T::deserialize(&mut rmp_serde::Deserializer::new(&mut data))?;
    if data.is_empty() {
        Ok(value)
    } else {
        Err(rmp_serde::decode::Error::custom(format_args!(
            "{} bytes are left over",
            data.len()
        )))
    }
}

fn write<T: Serialize>(state: &T) -> Vec<u8> {
    rmp_serde::to_vec_named(state)
        .expect("writing to memory fails only if a Serialize implementation refuses its own value")
}

/// A component's single instance of its plugin, behind the functions of the contract.
#[doc(hidden)]
#[derive(Debug)]
pub struct Instance<P>(RefCell<Option<P>>);

impl<P> Instance<P> {
    /// Creates an instance that is neither opened nor restored.
    pub const fn new() -> Self {
        Self(RefCell::new(None))
    }
}

impl<P> Default for Instance<P> {
    fn default() -> Self {
        Self::new()
    }
}

const ORDER: &str = "the host opens or restores an instance before it calls anything else";

impl<P: Plugin> Instance<P> {
    /// Implements the contract's `open`.
    pub fn open(&self, context: &Context) -> Result<(), String> {
        let mut state = P::default();
        state.open(context)?;
        *self.0.borrow_mut() = Some(state);
        Ok(())
    }

    /// Implements the contract's `turn`.
    pub fn turn(&self, input: &[Message]) -> Result<(), String> {
        let mut state = self.0.borrow_mut();
        Ok(state.as_mut().expect(ORDER).turn(input)?)
    }

    /// Implements the contract's `snapshot`.
    pub fn snapshot(&self) -> State {
        State {
            schema: P::SCHEMA,
            data: write(self.0.borrow().as_ref().expect(ORDER)),
        }
    }

    /// Implements the contract's `restore`.
    pub fn restore(&self, snapshot: &State) -> Result<(), RestoreError> {
        let state = if snapshot.schema > P::SCHEMA {
            return Err(RestoreError::NewerSchema(snapshot.schema));
        } else if snapshot.schema < P::SCHEMA {
            P::migrate(snapshot.schema, &snapshot.data)
                .map_err(|error| RestoreError::Invalid(error.into()))?
        } else {
            read(&snapshot.data).map_err(|error| RestoreError::Invalid(error.to_string()))?
        };
        *self.0.borrow_mut() = Some(state);
        Ok(())
    }
}
