//! Conversations with servers that refuse what real ones refuse: whatever a restart, a model, a
//! user or an operator does, every request is accepted, and the session continues.

use abide_tests::{BrokenRule, FakeModel, How, ModelFault, Rule, Rules, message_text, until};
use serde_json::{Value, json};

use crate::models::strict_stage::{ASSISTANT, Props, StrictStage, caller, chat, open};

/// Starts a strict model that calls the tools which the user names.
async fn model(rules: Rules) -> FakeModel {
    FakeModel::strict_scripted(rules, caller(|n| format!("call_{n}"))).await
}

fn system() -> Value {
    json!({"system": "Be brief."})
}

fn with(args: Value) -> Props {
    Props {
        args,
        ..Props::default()
    }
}

/// Asserts that no request was refused.
fn all_taken(model: &FakeModel) {
    let violations: Vec<BrokenRule> = model.violations();
    let calls = model.calls();
    let last = calls.last().map(|call| &call.request);
    assert_eq!(
        violations,
        [],
        "of {} calls; the last is {last:#?}",
        calls.len()
    );
    assert!(!calls.is_empty());
}

/// Returns the messages of a model's last request.
fn last_lines(model: &FakeModel) -> Vec<Value> {
    let last = model.calls().pop().expect("it was asked");
    let lines = last.request["messages"].as_array().cloned();
    lines.expect("a request has messages")
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_every_server_takes_the_conversation() {
    let rules = [
        Rules::only([Rule::SystemFirst]),
        Rules::only([Rule::SystemFirstJinja]),
        Rules::only([Rule::SystemNotBehind]),
        Rules::only([Rule::Alternation, Rule::UserFirst, Rule::UserOrToolLast]),
        Rules::all(),
    ];
    let mut models = Vec::new();
    for rules in rules {
        models.push(model(rules).await);
    }
    let names = ["a", "b", "c", "d", "e"];
    let providers: Vec<_> = names.into_iter().zip(&models).collect();
    let stage = StrictStage::start(&providers, Props::default()).await;
    for name in names {
        let args = json!({"system": "Be brief.", "provider": name});
        open(&stage.client, name, args).await;
        chat(&stage.client, name, "one").await;
    }
    for round in 0..2 {
        let old = stage.daemon.generation().await;
        stage.daemon.kill_worker().await;
        stage.daemon.after_generation(old).await;
        for (name, model) in &providers {
            // The notice of the restart precedes the user's words and does not replace them.
            chat(&stage.client, name, "two").await;
            let lines = last_lines(model);
            let text = message_text(lines.last().expect("there are some"));
            assert!(
                text.contains("[system] The daemon restarted"),
                "{round}: {text}"
            );
            assert!(text.ends_with("two"), "{text}");
            assert!(chat(&stage.client, name, "hello").await.ends_with("hello"));
        }
    }
    models.iter().for_each(all_taken);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_of_another_server_is_rendered_anew_for_a_strict_one() {
    let (lenient, strict) = (model(Rules::default()).await, model(Rules::all()).await);
    let mut stage = StrictStage::start(&[("a", &lenient)], with(system())).await;
    stage.chat("one").await;
    stage.chat("use t__note").await;
    let old = stage.daemon.generation().await;
    stage.daemon.kill_worker().await;
    stage.daemon.after_generation(old).await;
    stage.chat("two").await;
    let url = (lenient.base_url(), strict.base_url());
    stage.daemon.edit(How::Rename, |setup| {
        for section in &mut setup.rest {
            *section = section.replace(&url.0, &url.1);
        }
    });
    until("the strict server to be asked", async || {
        stage.chat("three").await;
        (!strict.calls().is_empty()).then_some(())
    })
    .await;
    stage.hello().await;
    all_taken(&strict);
}

/// Such histories come from earlier versions' snapshots, and from other plugins.
#[tokio::test(flavor = "multi_thread")]
async fn a_history_with_late_system_messages_is_mended_as_it_is_sent() {
    let strict = model(Rules::all()).await;
    let stage = StrictStage::start(&[("a", &strict)], Props::default()).await;
    let line = |role: &str, content: &str| json!({"role": role, "content": content});
    let messages = [
        line("System", "Be brief. [session=scripted]"),
        line("System", "[2 earlier exchanges were dropped to save room]"),
        line("User", "one"),
        line("Assistant", "re: one"),
        line("System", "[system] The daemon restarted after a crash."),
        line("User", "two"),
        line("Assistant", "re: tw"),
        line("System", "[Your answer above was cut at the token limit.]"),
        line("User", "hello"),
    ];
    let done = stage
        .request(&json!({"messages": messages, "tools": []}))
        .await;
    assert_eq!(done, "chat  ok");
    let lines = last_lines(&strict);
    let text: String = lines.iter().map(|line| message_text(line) + "\n").collect();
    for part in [
        "Be brief.",
        "2 earlier",
        "restarted after a crash",
        "was cut at",
        "hello",
    ] {
        assert_eq!(text.matches(part).count(), 1, "{part}: {text}");
    }
    all_taken(&strict);
    stage.hello().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_of_a_cut_answer_or_of_dropped_exchanges_is_no_late_system_message() {
    let strict = model(Rules::all()).await;
    let args = json!({"system": "Be brief.", "history_bytes": 1200});
    let stage = StrictStage::start(&[("a", &strict)], with(args)).await;
    strict.fail([ModelFault::Length]);
    assert_eq!(stage.chat("tell me all").await, "Well,");
    stage.chat("go on").await;
    let text: String = last_lines(&strict).iter().map(message_text).collect();
    assert!(text.contains("cut at the token limit"), "{text}");
    for n in 0..8 {
        stage.chat(&format!("{n} {}", "x".repeat(300))).await;
    }
    let text: String = last_lines(&strict).iter().map(message_text).collect();
    assert!(text.contains("dropped to save room"), "{text}");
    stage.hello().await;
    all_taken(&strict);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_without_a_system_role_is_told_in_the_first_user_message_and_that_is_remembered() {
    let gemma = Rules::all().and(Rule::NoSystem);
    let strict = model(gemma).await;
    let stage = StrictStage::start(&[("a", &strict)], with(system())).await;
    stage.chat("one").await;
    stage.chat("use t__note").await;
    stage.hello().await;
    let refused = strict.violations();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0].rule, Some(Rule::NoSystem));
    let lines = last_lines(&strict);
    assert_eq!(lines[0]["role"], "user");
    let first = message_text(&lines[0]);
    assert!(
        first.starts_with("Be brief.") && first.ends_with("one"),
        "{first}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_user_says_while_a_tool_runs_is_taken_by_every_server() {
    for rules in [
        Rules::only([Rule::NoUserBehindTool]),
        Rules::only([Rule::Alternation]),
        Rules::only([Rule::AlternationWithResults]),
        Rules::all(),
    ] {
        let strict = model(rules.clone()).await;
        let stage = StrictStage::start(&[("a", &strict)], with(system())).await;
        let asked = stage
            .client
            .say(ASSISTANT, "use t__note slowly", None)
            .await;
        let asked = asked.expect("acknowledged").message;
        until("the tool to be called", async || {
            let events = stage.client.events(ASSISTANT, 0).await;
            events
                .iter()
                .any(|event| event.kind == "tool")
                .then_some(())
        })
        .await;
        for text in ["meanwhile", "and more"] {
            let posted = stage.client.say(ASSISTANT, text, None).await;
            posted.expect("acknowledged");
        }
        stage.client.events_once_ended(ASSISTANT, &asked).await;
        stage.hello().await;
        let lines = last_lines(&strict);
        let sent = lines.iter().filter(|line| line["role"] == "user");
        let sent: String = sent.map(message_text).collect();
        for text in ["meanwhile", "and more"] {
            assert_eq!(sent.matches(text).count(), 1, "{rules:?}: {sent}");
        }
        all_taken(&strict);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_words_beside_it_is_sent_without_an_empty_text() {
    let strict = model(Rules::only([
        Rule::NoBlankContent,
        Rule::ContentBesideCalls,
    ]))
    .await;
    let stage = StrictStage::start(&[("a", &strict)], Props::default()).await;
    stage.chat("use t__note").await;
    stage.hello().await;
    all_taken(&strict);
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_that_an_edit_removes_stay_defined_for_as_long_as_the_history_names_them() {
    let rules = Rules::only([Rule::ToolsWithCalls, Rule::CalledAreDefined]);
    let strict = model(rules).await;
    let mut stage = StrictStage::start(&[("a", &strict)], Props::default()).await;
    stage.chat("use t__note").await;
    let old = stage.daemon.generation().await;
    stage.daemon.edit(How::Rename, |setup| {
        setup.rest.retain(|section| !section.starts_with("[mcp.t]"));
        for plugin in &mut setup.plugins {
            plugin
                .capabilities
                .retain(|line| !line.starts_with("tools"));
        }
    });
    stage.daemon.after_generation(old).await;
    stage.hello().await;
    stage.hello().await;
    let last = strict.calls().pop().expect("it was asked").request;
    let names: Vec<_> = last["tools"].as_array().into_iter().flatten().collect();
    assert_eq!(names.len(), 1, "{last}");
    assert_eq!(names[0]["function"]["name"], "t__note");
    all_taken(&strict);
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_a_server_repeats_or_leaves_out_become_unique() {
    for id in ["", "call_0"] {
        let rules = Rules::only([Rule::UniqueIds, Rule::CallsAnswered]);
        let strict = FakeModel::strict_scripted(rules, caller(move |_| id.to_owned())).await;
        let stage = StrictStage::start(&[("a", &strict)], Props::default()).await;
        for _ in 0..3 {
            stage.chat("use t__note").await;
        }
        stage.hello().await;
        all_taken(&strict);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fallback_takes_a_history_with_ids_of_another_server() {
    let openai = |n| format!("call_abcdefghijklmnopqrstuv{n:02}");
    let first = FakeModel::scripted(caller(openai)).await;
    let mistral = Rules::only([
        Rule::IdsOfNine,
        Rule::UniqueIds,
        Rule::SystemNotBehind,
        Rule::NoUserBehindTool,
        Rule::UserOrToolLast,
        Rule::Alternation,
    ]);
    let second = FakeModel::strict_scripted(mistral, caller(openai)).await;
    let props = Props {
        lines: "fallback = \"b\"",
        ..with(system())
    };
    let stage = StrictStage::start(&[("a", &first), ("b", &second)], props).await;
    for _ in 0..2 {
        stage.chat("use t__note").await;
        first.fail([ModelFault::status(500)]);
        stage.chat("and now").await;
    }
    stage.hello().await;
    assert_eq!(second.calls().len(), 2);
    all_taken(&second);
}

/// Refusals that name a parameter.
#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_that_is_refused_is_left_out_or_renamed_and_that_is_remembered() {
    for rule in [Rule::NoMaxTokens, Rule::NoStreamOptions, Rule::NoStream] {
        let strict = model(Rules::only([rule])).await;
        let args = json!({"max_tokens": 77});
        let stage = StrictStage::start(&[("a", &strict)], with(args)).await;
        stage.chat("use t__note").await;
        stage.hello().await;
        let refused = strict.violations();
        assert_eq!(refused.len(), 1, "{rule:?}: {refused:?}");
        let last = strict.calls().pop().expect("it was asked").request;
        let limits = ["max_tokens", "max_completion_tokens"].map(|key| last.get(key).cloned());
        let expected = match rule {
            Rule::NoMaxTokens => [None, Some(json!(77))],
            _ => [Some(json!(77)), None],
        };
        assert_eq!(limits, expected, "{rule:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_refused_parameters_are_found_out_one_by_one() {
    let rules = [
        Rule::NoMaxTokens,
        Rule::NoStreamOptions,
        Rule::NoTemperature,
        Rule::NoSystem,
    ];
    let strict = model(Rules::only(rules)).await;
    let stage = StrictStage::start(&[("a", &strict)], Props::default()).await;
    let line = |role: &str, content: &str| json!({"role": role, "content": content});
    let request = json!({
        "messages": [line("System", "Be brief."), line("User", "hello")],
        "tools": [],
        "max_tokens": 77,
        "temperature": 0.5,
    });
    for _ in 0..2 {
        assert_eq!(stage.request(&request).await, "chat  ok");
    }
    let refused = strict.violations();
    assert_eq!(refused.len(), rules.len(), "{refused:?}");
    assert_eq!(strict.calls().len(), rules.len() + 2);
    stage.hello().await;
    let error = until("the operator to be told", async || {
        let status = stage.daemon.status().await;
        let asked = &status["model_providers"][0]["found_out"][0]["asked"];
        asked.as_str().map(str::to_owned)
    })
    .await;
    for part in [
        "stream_options",
        "max_completion_tokens",
        "temperature",
        "system",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_does_not_answer_is_told_to_the_operator_until_it_does() {
    let strict = model(Rules::default()).await;
    let stage = StrictStage::start(&[("a", &strict)], Props::default()).await;
    let failing = async || stage.daemon.status().await["model_providers"][0]["failing"].clone();
    strict.fail([ModelFault::status(401)]);
    let posted = stage.client.ask(ASSISTANT, "hello", None).await;
    let outcome = posted.expect("acknowledged").outcome;
    assert_eq!(outcome.as_deref(), Some("failed"));
    let error = until("the failure", async || {
        let failing = failing().await;
        failing["reason"].as_str().map(str::to_owned)
    })
    .await;
    assert!(error.contains("refused the API key"), "{error}");
    stage.hello().await;
    until("the end of it", async || {
        failing().await.is_null().then_some(())
    })
    .await;
}

/// With all other rules too: a request that exceeds the window is shortened and sent again, and the
/// limit is remembered.
#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_over_the_window_is_shortened_and_goes_on() {
    let strict = model(Rules::all().window(3000)).await;
    let stage = StrictStage::start(&[("a", &strict)], with(system())).await;
    for n in 0..12 {
        stage.chat(&format!("{n} {}", "x".repeat(1500))).await;
    }
    stage.chat("use t__note").await;
    stage.hello().await;
    let refused = strict.violations();
    assert!((1..=6).contains(&refused.len()), "{refused:#?}");
    for violation in refused {
        assert_eq!(violation.body["error"]["code"], "context_length_exceeded");
    }
}
