//! The imports of the contract: the host's in a component, a mock in native tests.

#[cfg(target_family = "wasm")]
pub(crate) use crate::bindings::abide::session::{http, inbox, llm, log, output, timer, tools};

#[cfg(not(target_family = "wasm"))]
pub(crate) use crate::testing::imports::{http, inbox, llm, log, output, timer, tools};
