//! The events of a record: each durable event is derived from the one record that holds it.

use super::{
    ApprovalStatus, Effect, Event, EventBody, MessageId, ModelUsage, Output, Planned,
    PreviousTimeline, Received, Record, Role, StepDone, StepError, StepResult, TimelineName, Timer,
    ToolStatus, TurnEnd, TurnEnded, TurnStatus,
};

impl Record {
    /// Returns how many durable events the record holds.
    pub fn event_count(&self) -> u64 {
        match self {
            Self::Created(created) => created.outputs.len() as u64,
            Self::Received(_)
            | Self::Asked(_)
            | Self::Decided(_)
            | Self::Cut(_)
            | Self::Rewound(_)
            | Self::Origin(_) => 1,
            Self::Begun(begun) => u64::from(begun.attempt == 1),
            Self::Planned(planned) => planned.tools().count() as u64,
            Self::Done(done) => u64::from(done.tool.is_some()),
            Self::Ended(TurnEnded {
                end:
                    TurnEnd::Completed {
                        notice,
                        further_notices,
                        outputs,
                        ..
                    },
                ..
            }) => {
                let notices = notice.as_deref().into_iter().chain(further_notices).count();
                notices as u64 + outputs.len() as u64 + 1
            }
            Self::Ended(TurnEnded {
                end: TurnEnd::Failed(_),
                ..
            }) => 1,
            Self::Relabelled(_)
            | Self::Faulted(_)
            | Self::Resumed(_)
            | Self::Discarded(_)
            | Self::Requeued(_)
            | Self::Moved(_)
            | Self::Closed(_) => 0,
        }
    }

    /// Returns the events of the record; `before` is the cursor of the last event before it, and
    /// `timeline` the timeline that they are on, if it is not the first.
    pub fn events(&self, before: u64, timeline: Option<&TimelineName>) -> Vec<Event> {
        let (turn, at, bodies) = match self {
            Self::Created(created) => {
                let bodies = output_events(&created.outputs, before, timeline);
                (None, created.at, bodies)
            }
            Self::Received(Received {
                message, sender, ..
            }) => {
                let body = EventBody::Message {
                    message: message.id.clone(),
                    from: message.from,
                    name: message.name.clone(),
                    text: message.text.clone(),
                    due: message.due,
                    sender: sender.clone(),
                };
                (None, message.at, vec![body])
            }
            Self::Begun(begun) if begun.attempt == 1 => {
                let body = EventBody::Turn {
                    status: TurnStatus::Started,
                    message: begun.message.clone(),
                    received: Vec::new(),
                    reason: None,
                    usage: ModelUsage::default(),
                };
                (Some(begun.turn), begun.now, vec![body])
            }
            Self::Planned(planned) => {
                let bodies = planned.tools().map(|name| EventBody::Tool {
                    name: name.to_owned(),
                    step: planned.step,
                    status: ToolStatus::Started,
                });
                (Some(planned.turn), planned.at, bodies.collect())
            }
            Self::Done(done) => {
                let body = done.tool.as_ref().map(|name| EventBody::Tool {
                    name: name.clone(),
                    step: done.step,
                    status: done.status(),
                });
                (Some(done.turn), done.at, body.into_iter().collect())
            }
            Self::Asked(asked) => {
                let body = EventBody::Approval {
                    approval: asked.id.clone(),
                    name: asked.tool.clone(),
                    step: asked.step,
                    status: ApprovalStatus::Asked,
                    arguments: Some(asked.arguments.clone()),
                    expires_at: Some(asked.expires_at),
                    by: None,
                    reason: None,
                };
                (Some(asked.turn), asked.at, vec![body])
            }
            Self::Decided(decided) => {
                let body = EventBody::Approval {
                    approval: decided.id.clone(),
                    name: decided.tool.clone(),
                    step: decided.step,
                    status: decided.status,
                    arguments: None,
                    expires_at: None,
                    by: decided.by.clone(),
                    reason: decided.reason.clone(),
                };
                (Some(decided.turn), decided.at, vec![body])
            }
            Self::Ended(ended) => (Some(ended.turn), ended.at, ended.bodies(before, timeline)),
            Self::Cut(cut) => {
                let body = EventBody::Timeline {
                    previous: PreviousTimeline {
                        timeline: cut.previous.clone(),
                        last: before,
                    },
                    cause: cut.cause,
                    text: cut.cause.sentence(&cut.detail),
                };
                (None, cut.at, vec![body])
            }
            Self::Rewound(rewound) => {
                let body = EventBody::Rewound {
                    to_cursor: rewound.cursor,
                    to_turn: rewound.turn,
                    dropped_timers: names(&rewound.dropped),
                    fired_timers: names(&rewound.fired),
                    text: rewound.replacement().text(),
                    by: rewound.by.clone(),
                };
                (None, rewound.at, vec![body])
            }
            Self::Origin(origin) => {
                let previous = origin.timeline.is_some().then(|| PreviousTimeline {
                    timeline: origin.previous.clone(),
                    last: before,
                });
                let body = EventBody::Origin {
                    how: origin.how,
                    session: origin.session.clone(),
                    previous,
                    text: origin.replacement().text(),
                    by: origin.by.clone(),
                };
                (None, origin.at, vec![body])
            }
            Self::Begun(_)
            | Self::Relabelled(_)
            | Self::Faulted(_)
            | Self::Resumed(_)
            | Self::Discarded(_)
            | Self::Requeued(_)
            | Self::Moved(_)
            | Self::Closed(_) => return Vec::new(),
        };
        (before + 1..)
            .zip(bodies)
            .map(|(cursor, body)| Event {
                cursor,
                timeline: timeline.cloned(),
                turn,
                at,
                body,
            })
            .collect()
    }
}

fn names(timers: &[Timer]) -> Vec<String> {
    timers.iter().map(|timer| timer.name.clone()).collect()
}

impl Planned {
    /// The names of the tools that it calls.
    fn tools(&self) -> impl Iterator<Item = &str> {
        self.effects.iter().filter_map(|effect| match effect {
            Effect::Tool { name, .. } => Some(name.as_str()),
            Effect::Local | Effect::Model { .. } | Effect::Http { .. } => None,
        })
    }
}

impl TurnEnded {
    fn bodies(&self, before: u64, timeline: Option<&TimelineName>) -> Vec<EventBody> {
        let mut bodies = Vec::new();
        let (status, received, reason) = match &self.end {
            TurnEnd::Completed {
                notice,
                further_notices,
                outputs,
                received,
                ..
            } => {
                let notices = notice.as_deref().into_iter().chain(further_notices);
                bodies.extend(notices.map(|notice| EventBody::Notice {
                    cause: notice.notice_cause(),
                    generation: notice.generation,
                    text: notice.text(),
                }));
                let before = before + bodies.len() as u64;
                bodies.extend(output_events(outputs, before, timeline));
                (TurnStatus::Completed, received.clone(), None)
            }
            TurnEnd::Failed(failure) => {
                (TurnStatus::Failed, Vec::new(), Some(failure.text.clone()))
            }
        };
        bodies.push(EventBody::Turn {
            status,
            message: self.message.clone(),
            received,
            reason,
            usage: self.usage,
        });
        bodies
    }
}

/// Converts outputs to events; `before` is the cursor of the last event before them.
fn output_events(
    outputs: &[Output],
    before: u64,
    timeline: Option<&TimelineName>,
) -> Vec<EventBody> {
    (before + 1..)
        .zip(outputs)
        .map(|(cursor, output)| match output {
            Output::Text(text) => EventBody::Message {
                message: MessageId::on(timeline, cursor),
                from: Role::Assistant,
                name: None,
                text: text.clone(),
                due: None,
                sender: None,
            },
            Output::Event { name, data } => EventBody::Custom {
                name: name.clone(),
                // The guest's data was checked to be JSON when it was emitted; should parsing fail,
                // keep it as text.
                data: serde_json::from_str(data)
                    .unwrap_or_else(|_| serde_json::Value::String(data.clone())),
            },
        })
        .collect()
}

impl StepDone {
    /// Returns the status of the call, as its event reports it.
    pub(super) fn status(&self) -> ToolStatus {
        match &self.result {
            Ok(StepResult::ToolCall(outcome)) if outcome.is_error => ToolStatus::Failed,
            Ok(_) => ToolStatus::Done,
            Err(StepError::UnknownOutcome(_)) => ToolStatus::Unknown,
            Err(_) => ToolStatus::Failed,
        }
    }
}
