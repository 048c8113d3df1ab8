//! The parts of a step: requests that the host answers itself, and effects with the requests that
//! they execute.

use crate::domain::{ChatRequest, Effect, HttpRequest, StepRequest, ToolCall};

/// One part of a step's request. Only a call of several tools has more than one.
#[derive(Clone, Copy)]
pub(super) enum PartRequest<'r> {
    Local(LocalRequest),
    Outside(OutsideRequest<'r>),
}

/// A request that the host answers itself.
#[derive(Clone, Copy)]
pub(super) enum LocalRequest {
    ToolsList,
    Receive,
}

/// A request that has an effect outside of the session.
#[derive(Clone, Copy)]
pub(super) enum OutsideRequest<'r> {
    Model(&'r ChatRequest),
    Tool(&'r ToolCall),
    Http(&'r HttpRequest),
}

/// An effect that is due, as the journal records it, with the request that it executes.
#[derive(Clone)]
pub(super) struct Due<'r> {
    pub(super) request: OutsideRequest<'r>,
    pub(super) effect: Effect,
}

impl<'r> PartRequest<'r> {
    pub(super) fn all(request: &'r StepRequest) -> Vec<Self> {
        let one = match request {
            StepRequest::Llm(request) => Self::Outside(OutsideRequest::Model(request)),
            StepRequest::ToolsList => Self::Local(LocalRequest::ToolsList),
            StepRequest::ToolCall(call) => Self::Outside(OutsideRequest::Tool(call)),
            StepRequest::ToolCallAll(calls) => {
                let calls = calls.iter().map(OutsideRequest::Tool);
                return calls.map(Self::Outside).collect();
            }
            StepRequest::Http(request) => Self::Outside(OutsideRequest::Http(request)),
            StepRequest::Receive => Self::Local(LocalRequest::Receive),
        };
        vec![one]
    }
}
