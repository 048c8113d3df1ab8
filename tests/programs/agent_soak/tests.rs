//! Tests of the script in a simulated world: whichever outcomes are unknown, each call of the plan
//! takes effect exactly once.

use std::collections::BTreeSet;

use abide_tests::{Answer, FakeModel};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::plan::{AgentPlan, plan};
use crate::script::{DONE, follow};
use crate::transcript::Transcript;
use crate::world::World;

/// The fate of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Done,
    /// The outcome is unknown to the model; the call did or did not take effect.
    Unknown {
        happened: bool,
    },
}

const UNKNOWN: &str = "unknown-outcome: the call was begun and then interrupted";

struct Ending {
    world: World,
    messages: Vec<Value>,
}

/// Runs the plan to its end; `fate` decides the outcome of a call by its id, `restarts` whether a
/// recovery message follows the results of a round.
fn run(
    plan: &AgentPlan,
    mut fate: impl FnMut(&str) -> Fate,
    mut restarts: impl FnMut() -> bool,
) -> Ending {
    let mut world = World::default();
    let mut messages = vec![json!({"role": "user", "content": "go"})];
    for _ in 0..10_000 {
        let (_, answer) = follow(plan, &messages);
        assert_eq!(answer, follow(plan, &messages).1);
        let Answer { text, calls } = answer;
        if calls.is_empty() {
            messages.push(json!({"role": "assistant", "content": text}));
            return Ending { world, messages };
        }
        let asked: Vec<_> = calls
            .iter()
            .map(|call| {
                let arguments = call.arguments.to_string();
                json!({"id": call.id, "function": {"name": call.name, "arguments": arguments}})
            })
            .collect();
        messages.push(json!({"role": "assistant", "content": text, "tool_calls": asked}));
        for call in calls {
            let content = match fate(&call.id) {
                Fate::Done => world.call(&call.name, &call.arguments),
                Fate::Unknown { happened } => {
                    if happened {
                        world.call(&call.name, &call.arguments);
                    }
                    UNKNOWN.to_owned()
                }
            };
            messages.push(json!({"role": "tool", "tool_call_id": call.id, "content": content}));
        }
        if restarts() {
            let text = "[system] The daemon restarted after a crash.";
            messages.push(json!({"role": "system", "content": text}));
        }
    }
    panic!("the script does not come to an end");
}

fn undisturbed(plan: &AgentPlan) -> (World, Transcript) {
    let Ending { world, messages } = run(plan, |_| Fate::Done, || false);
    let transcript = Transcript::read(&messages, "/nowhere");
    assert_eq!(transcript.wrong, [""; 0]);
    (world, transcript)
}

#[test]
fn the_plan_has_thirty_steps_with_tools_of_both_servers() {
    let plan = plan();
    assert_eq!(plan.len(), 30);
    let (world, transcript) = undisturbed(&plan);
    assert_eq!(transcript.deeds.len(), plan.iter().flatten().count());
    assert_eq!(transcript.said.last(), Some(&format!("assistant: {DONE}")));
    let tools: BTreeSet<_> = plan.iter().flatten().map(|call| call.tool).collect();
    assert!(tools.iter().any(|tool| tool.starts_with("files__")));
    assert!(tools.iter().any(|tool| tool.starts_with("everything__")));
    let log = world.files["notes/log.md"].as_deref();
    let entries = [6, 10, 14, 19, 24, 27].map(|n| format!("- entry {n}\n"));
    let expected = format!("# Log\n\n{}end\n", entries.concat());
    assert_eq!(log, Some(expected.as_str()));
    let archived = world.files.keys().filter(|path| path.contains("day-"));
    assert!(archived.clone().all(|path| path.starts_with("archive/")));
    assert_eq!(archived.count(), 4);
}

#[test]
fn each_call_may_be_unknown_whether_it_has_happened_or_not() {
    let plan = plan();
    let (files, expected) = undisturbed(&plan);
    for id in expected.deeds.keys() {
        for happened in [true, false] {
            let fate = |this: &str| match this == id {
                true => Fate::Unknown { happened },
                false => Fate::Done,
            };
            let Ending { world, messages } = run(&plan, fate, || false);
            let transcript = Transcript::read(&messages, "/nowhere");
            assert_eq!(world, files, "{id} {happened}");
            assert_eq!(
                transcript.differences(&expected),
                [""; 0],
                "{id} {happened}"
            );
            assert_eq!(transcript.unknown, 1);
        }
    }
}

#[test]
fn anything_may_be_unknown_at_any_time_checks_and_repetitions_too() {
    let plan = plan();
    let (files, expected) = undisturbed(&plan);
    for seed in 0..100 {
        let mut random = StdRng::seed_from_u64(seed);
        let share = random.random_range(0.0..0.6);
        let mut others = StdRng::seed_from_u64(seed + 1_000_000);
        let fate = |_: &str| match random.random_bool(share) {
            true => Fate::Unknown {
                happened: random.random_bool(0.5),
            },
            false => Fate::Done,
        };
        let Ending { world, messages } = run(&plan, fate, || others.random_bool(0.2));
        let transcript = Transcript::read(&messages, "/nowhere");
        assert_eq!(world, files, "seed {seed}");
        assert_eq!(transcript.differences(&expected), [""; 0], "seed {seed}");
    }
}

/// The comparison detects the faults that it exists for.
#[test]
fn a_daemon_that_repeats_or_forgets_is_found_out() {
    let plan = plan();
    let (files, expected) = undisturbed(&plan);
    let Ending { messages, .. } = run(&plan, |_| Fate::Done, || false);

    // An edit that is executed twice is visible in the files and in the results of reading them.
    let mut world = World::default();
    for call in plan.iter().flatten() {
        world.call(call.tool, &call.arguments);
        if call.tool == "files__edit_file" && call.arguments["path"] == "notes/log.md" {
            world.call(call.tool, &call.arguments);
        }
    }
    assert_ne!(world, files);

    let differ = |messages: &[Value]| {
        let transcript = Transcript::read(messages, "/nowhere");
        !transcript.differences(&expected).is_empty()
    };
    assert!(!differ(&messages));
    let tool_at = |n: usize| {
        let mut tools = messages.iter().enumerate();
        let found = tools.by_ref().filter(|(_, m)| m["role"] == "tool").nth(n);
        found.expect("there are more").0
    };
    // A result is lost; another is changed; a message is lost; one is duplicated.
    let mut lost = messages.clone();
    lost.remove(tool_at(3));
    assert!(differ(&lost));
    let mut changed = messages.clone();
    changed[tool_at(5)]["content"] = "The sum is 7.".into();
    assert!(differ(&changed));
    let mut shorter = messages.clone();
    shorter.drain(tool_at(7) - 1..=tool_at(7));
    assert!(differ(&shorter));
    let mut doubled = messages.clone();
    let round: Vec<_> = messages[tool_at(7) - 1..=tool_at(7)].to_vec();
    doubled.splice(tool_at(7) + 1..tool_at(7) + 1, round);
    assert!(differ(&doubled));
    let mut troubled = messages.clone();
    troubled[tool_at(5)]["content"] = "The tool cannot be reached now.".into();
    assert!(differ(&troubled));
}

/// A recovery message lists the steps that became unknown since the previous one, and no others.
#[test]
fn an_unknown_outcome_is_told_once() {
    let plan = plan();
    let (_, expected) = undisturbed(&plan);
    let fate = |id: &str| match id {
        "s05_0" => Fate::Unknown { happened: true },
        _ => Fate::Done,
    };
    let Ending { mut messages, .. } = run(&plan, fate, || false);
    let notice = json!({
        "role": "system",
        "content": "[system] The daemon restarted after a crash. Nobody knows whether these steps \
                    took effect: tools.call files__edit_file.",
    });
    let unknown = messages.iter().position(|m| m["content"] == UNKNOWN);
    messages.insert(unknown.expect("one is") + 1, notice.clone());
    let differences = |messages: &[Value]| {
        let transcript = Transcript::read(messages, "/nowhere");
        transcript.differences(&expected)
    };
    assert_eq!(differences(&messages), [""; 0]);
    messages.insert(messages.len() - 1, notice);
    assert_eq!(differences(&messages).len(), 1);
}

/// The fake model streams the script's answer in OpenAI's format.
#[tokio::test]
async fn the_model_streams_what_the_script_says() {
    let plan = plan();
    let asked = plan.clone();
    let model = FakeModel::scripted(move |messages| follow(&asked, messages).1).await;
    let results =
        ["s00_0", "s01_0"].map(|id| json!({"role": "tool", "tool_call_id": id, "content": "ok"}));
    let messages: Vec<_> = [json!({"role": "user", "content": "go"})]
        .into_iter()
        .chain(results)
        .collect();
    let expected = follow(&plan, &messages).1;
    assert_eq!(expected.calls.len(), 2);
    let port = model
        .base_url()
        .split([':', '/'])
        .find_map(|part| part.parse().ok());
    let client = abide_tests::Client::new(port.expect("it has one"));
    let path = "/v1/chat/completions";
    let body = json!({"model": "fake", "stream": true, "messages": messages});
    let reply = client.post(path, &body).await.expect("it answers");
    let text = reply
        .body
        .as_str()
        .expect("a stream is not JSON")
        .to_owned();
    let mut answer = Answer::default();
    let mut arguments: Vec<String> = Vec::new();
    let mut ends = Vec::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("data: ")) {
        let Ok(chunk) = serde_json::from_str::<Value>(line) else {
            assert_eq!(line, "[DONE]");
            continue;
        };
        let choice = &chunk["choices"][0];
        ends.extend(choice["finish_reason"].as_str().map(str::to_owned));
        answer.text += choice["delta"]["content"].as_str().unwrap_or_default();
        for fragment in choice["delta"]["tool_calls"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let index = fragment["index"].as_u64().expect("each has one") as usize;
            let function = &fragment["function"];
            if let Some(id) = fragment["id"].as_str() {
                assert_eq!(index, answer.calls.len());
                answer.calls.push(abide_tests::AskedCall {
                    id: id.to_owned(),
                    name: function["name"].as_str().expect("it has one").to_owned(),
                    arguments: Value::Null,
                });
                arguments.push(String::new());
            }
            arguments[index] += function["arguments"].as_str().expect("a piece");
        }
    }
    for (call, text) in answer.calls.iter_mut().zip(arguments) {
        call.arguments = serde_json::from_str(&text).expect("it is whole");
    }
    assert_eq!(answer, expected);
    assert_eq!(ends, ["tool_calls"]);
    assert_eq!(model.calls()[0].request, body);
}
