//! Where the imports come from: the host's in a component, a mock of it in native tests.

#[cfg(target_family = "wasm")]
pub(crate) use crate::bindings::abide::session::{http, inbox, llm, log, output, timer, tools};

#[cfg(not(target_family = "wasm"))]
pub(crate) use crate::testing::imports::{http, inbox, llm, log, output, timer, tools};
