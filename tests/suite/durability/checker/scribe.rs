//! A history without violations, as a daemon, its clients and its tools would produce it.

use abide_tests::Event;
use abide_tests::checker::{
    Acknowledged, Act, Execution, Facts, Probe, Script, ScriptedCall, SessionFacts, Tool,
};
use serde_json::{Value, json};

/// The time from which events are counted, in milliseconds since the Unix epoch.
pub(super) const EPOCH_MS: u64 = 1_700_000_000_000;

/// Writes the events that a correct daemon would write.
#[derive(Clone, Default)]
pub(super) struct Scribe {
    pub(super) events: Vec<Event>,
    pub(super) executions: Vec<Execution>,
    /// The number of the last turn.
    turns: u64,
    /// The turns that the guest has counted.
    pub(super) count: u64,
    /// What the next turn is told of its state: the cause and the text.
    owed: Option<(String, String)>,
    /// The timeline that its events are on, if it is not the first.
    pub(super) timeline: Option<String>,
}

impl Scribe {
    /// Adds an event, 10 ms after the previous one.
    fn event(&mut self, mut event: Value) {
        let cursor = self.events.len() as u64 + 1;
        let ms = 10 * cursor;
        event["cursor"] = cursor.into();
        if let Some(timeline) = &self.timeline {
            event["timeline"] = timeline.as_str().into();
        }
        event["at"] = format!("2023-11-14T22:13:{:02}.{:03}Z", 20 + ms / 1000, ms % 1000).into();
        self.events
            .push(serde_json::from_value(event).expect("an event"));
    }

    pub(super) fn message(&mut self, id: &str, script: &Script) {
        self.event(
            json!({"kind": "message", "turn": null, "from": "user", "message": id,
                          "text": script.text()}),
        );
    }

    /// Adds a turn over messages: the first began it, the others were received during it.
    pub(super) fn turn(&mut self, notice: Option<u64>, messages: &[(&str, &Script)]) {
        self.turns += 1;
        self.count += 1;
        let turn = self.turns;
        let (first, script) = messages[0];
        self.event(json!({"kind": "turn", "turn": turn, "status": "started", "message": first}));
        if let Some((cause, text)) = self.owed.take() {
            self.event(json!({"kind": "notice", "turn": turn, "cause": cause,
                              "generation": 2, "text": text}));
            let mut data = json!({"generation": 2, "cause": "operator",
                                  "interruption": null, "unknown_steps": []});
            if let Some((_, stopped)) = text.split_once('\n') {
                data["stopped"] = stopped.into();
            }
            self.custom("notice", &data);
        }
        if let Some(generation) = notice {
            self.event(json!({"kind": "notice", "turn": turn, "cause": "crash",
                              "generation": generation, "text": "[system]"}));
            self.custom(
                "notice",
                &json!({"generation": generation, "cause": "crash",
                        "interruption": null, "unknown_steps": []}),
            );
        }
        self.acts(script, &messages[1..]);
        let received: Vec<_> = messages[1..].iter().map(|(id, _)| id).collect();
        self.event(json!({"kind": "turn", "turn": turn, "status": "completed",
                          "message": first, "received": received}));
    }

    fn acts(&mut self, script: &Script, others: &[(&str, &Script)]) {
        for (n, act) in script.acts.iter().enumerate() {
            let data = json!({"script": script.id, "n": n, "kind": act.kind(), "result": "ok"});
            let with = |more: Value| {
                let mut data = data.clone();
                for (name, value) in more.as_object().expect("an object") {
                    data[name] = value.clone();
                }
                data
            };
            match act {
                Act::Call(call) => {
                    self.execute(call);
                    self.custom("act", &with(json!({"token": call.token})));
                }
                Act::CallAll { calls } => {
                    for (part, call) in calls.iter().enumerate() {
                        self.execute(call);
                        self.custom("act", &with(json!({"token": call.token, "part": part})));
                    }
                }
                Act::Say { text } => {
                    self.say(text.clone());
                    self.custom("act", &data);
                }
                Act::Timer { name, .. } => self.custom("act", &with(json!({"token": name}))),
                Act::Receive => {
                    let ids: Vec<_> = others.iter().map(|(id, _)| id).collect();
                    self.custom("act", &with(json!({"value": ids})));
                    for (_, script) in others {
                        self.acts(script, &[]);
                    }
                }
                Act::Llm { text } => {
                    self.custom("act", &with(json!({"value": format!("re: {text}")})));
                }
                Act::List | Act::Random | Act::Clock => self.custom("act", &data),
                other => panic!("the checker's programs do not contain {other:?}"),
            }
        }
        self.say(format!("done {} #{}", script.id, self.count));
    }

    /// Adds a turn that a rewind cancels: it had made a call, if there is one.
    pub(super) fn cancelled(&mut self, message: &str, call: Option<&ScriptedCall>) {
        self.turns += 1;
        let turn = self.turns;
        self.event(json!({"kind": "turn", "turn": turn, "status": "started", "message": message}));
        if let Some(call) = call {
            self.execute(call);
        }
        self.event(
            json!({"kind": "turn", "turn": turn, "status": "failed", "message": message,
                          "reason": "the turn was cancelled, as the session was rewound"}),
        );
    }

    /// Adds a rewind to a state. The next turn is told of these calls.
    pub(super) fn rewind(&mut self, cursor: u64, turn: u64, count: u64, undone: &[&str]) {
        let text = format!("This session was rewound: it is as it was after turn {turn}.");
        self.event(
            json!({"kind": "rewound", "turn": null, "to_cursor": cursor, "to_turn": turn,
                          "text": text}),
        );
        self.count = count;
        self.owed = Some(("rewound".to_owned(), told(&text, undone)));
    }

    /// Adds the beginning of a copy.
    pub(super) fn origin(&mut self, how: &str, session: &str, undone: &[&str]) {
        let text = format!("This session is a copy of session {session}.");
        let previous = self.events.last();
        let previous = json!({"last": previous.map_or(0, |event| event.cursor)});
        self.event(
            json!({"kind": "origin", "turn": null, "how": how, "session": session,
                          "text": text, "previous": previous}),
        );
        self.owed = Some((how.to_owned(), told(&text, undone)));
    }

    /// Returns the cursor of the last event.
    pub(super) fn cursor(&self) -> u64 {
        self.events.len() as u64
    }

    fn execute(&mut self, call: &ScriptedCall) {
        self.executions.push(Execution {
            token: call.token.clone(),
            key: format!("s0/{}/1/0/{}", self.turns, call.token),
        });
    }

    fn custom(&mut self, name: &str, data: &Value) {
        let turn = self.turns;
        self.event(json!({"kind": "custom", "turn": turn, "name": name, "data": data}));
    }

    fn say(&mut self, text: String) {
        let turn = self.turns;
        self.event(json!({"kind": "message", "turn": turn, "from": "assistant",
                          "message": format!("a{turn}"), "text": text}));
    }

    /// Adds a timer's message, and its turn.
    fn fire(&mut self, id: &str, name: &str, due_ms: u64, script: &Script) {
        self.event(
            json!({"kind": "message", "turn": null, "from": "timer", "name": name,
                          "message": id, "text": script.text()}),
        );
        let before = self.events.len();
        self.turn(None, &[(id, script)]);
        // The guest reports the timer at the beginning of its turn.
        let at_ms = due_ms + 3;
        self.custom(
            "timer",
            &json!({"name": name, "due_ms": due_ms, "at_ms": at_ms}),
        );
        let report = self.events.pop().expect("it was put there");
        self.events.insert(before + 1, report);
        for (event, cursor) in self.events.iter_mut().zip(1..) {
            event.cursor = cursor;
        }
    }
}

/// Returns the text of a notice that tells of a replaced state, and of calls that it does not know of.
fn told(text: &str, undone: &[&str]) -> String {
    let calls = undone
        .iter()
        .map(|token| format!("\n- t__record {{\"token\":\"{token}\"}} -> written"));
    format!("[system] {text}{}", calls.collect::<String>())
}

/// Returns a run without violations, of one session over one restart.
pub(super) fn clean() -> Facts {
    let timed = Script {
        id: "m1-3t".to_owned(),
        acts: vec![Act::Say {
            text: "ring".to_owned(),
        }],
    };
    let first = Script {
        id: "m1".to_owned(),
        acts: vec![
            Act::Call(ScriptedCall::new(Tool::Record, "m1-0")),
            Act::CallAll {
                calls: vec![
                    ScriptedCall::new(Tool::Record, "m1-1-0"),
                    ScriptedCall::new(Tool::Note, "m1-1-1"),
                ],
            },
            Act::Llm {
                text: "what?".to_owned(),
            },
            Act::Timer {
                name: "t-m1-3".to_owned(),
                after_ms: 100,
                script: timed.clone(),
            },
            Act::Receive,
        ],
    };
    let second = Script {
        id: "m2".to_owned(),
        acts: vec![Act::Say {
            text: "inside".to_owned(),
        }],
    };
    let probes = ["p0", "p1", "p2"].map(|id| Script::probe(id.to_owned()));
    let mut scribe = Scribe::default();
    scribe.message("a", &probes[0]);
    scribe.turn(None, &[("a", &probes[0])]);
    scribe.message("b", &first);
    scribe.message("c", &second);
    scribe.turn(None, &[("b", &first), ("c", &second)]);
    scribe.fire("d", "t-m1-3", EPOCH_MS + 200, &timed);
    scribe.message("e", &probes[1]);
    scribe.turn(Some(2), &[("e", &probes[1])]);
    scribe.message("f", &probes[2]);
    scribe.turn(None, &[("f", &probes[2])]);
    let [p0, p1, p2] = probes;
    let sent = [("a", p0), ("b", first), ("c", second), ("e", p1), ("f", p2)];
    let probe = |message: &str, generation| Probe {
        message: message.to_owned(),
        generation: Some(generation),
    };
    let session = SessionFacts {
        id: "s0".to_owned(),
        created_in: 1,
        acknowledged: sent
            .map(|(message, script)| Acknowledged {
                message: message.to_owned(),
                script,
                output: Vec::new(),
            })
            .into(),
        followed: scribe.events.clone(),
        earlier: vec![scribe.events[..4].to_vec()],
        events: scribe.events,
        probes: vec![probe("a", 1), probe("e", 2), probe("f", 2)],
        ..SessionFacts::default()
    };
    Facts {
        sessions: vec![session],
        executions: scribe.executions,
        ..Facts::default()
    }
}
