use super::*;

fn refused(status: u16, text: &str) -> Response {
    let status = StatusCode::from_u16(status).expect("a status");
    let document = json!({"error": {"message": text}});
    (status, document.to_string()).into_response()
}

fn answer() -> Response {
    stream(&[text("ok"), end("stop")])
}

/// Returns the conversation of [`request`] with a system message and with text beside its call.
fn whole() -> ChatRequest {
    let mut request = request();
    request.messages[1].content = "Let me see.".to_owned();
    let system = ChatMessage {
        role: ChatRole::System,
        content: "Be brief.".to_owned(),
        tool_calls: Vec::new(),
        tool_call_id: None,
    };
    request.messages.insert(0, system);
    request
}

async fn talk(answers: Vec<Response>, request: &ChatRequest) -> (LlmProviders, Vec<Value>) {
    let (url, seen) = serve(answers).await;
    let mut providers = providers(&url);
    providers.change(|provider| provider.retries = 1);
    let answer = providers.chat(request, 1000, LONG, |_, _| {}).await;
    assert_eq!(answer.expect("an answer").content, "ok");
    let seen = seen.lock().expect("no panic");
    let bodies = seen.iter().map(|(_, body)| body.clone()).collect();
    (providers, bodies)
}

#[tokio::test]
async fn a_failure_that_passes_teaches_nothing() {
    for failure in [
        "java.io.IOException: unexpected end of stream on https://upstream",
        "System.InvalidOperationException: The request message was already sent. Cannot send the \
         same request message multiple times for this system",
        "Internal exception while parsing the output of tool add: unexpected token",
        "Unexpected error: this template engine failed over stream",
    ] {
        let (providers, bodies) = talk(vec![refused(500, failure), answer()], &whole()).await;
        assert_eq!(bodies[0], bodies[1], "{failure}");
        assert!(providers.status()[0].found_out.is_empty(), "{failure}");
    }
}

#[tokio::test]
async fn one_complaint_about_two_things_is_mended_by_both_together() {
    let words = "Conversation roles must alternate user/assistant/user/assistant/...";
    let no = || refused(400, words);
    let (_, bodies) = talk(vec![no(), no(), no(), answer()], &whole()).await;
    let last = bodies.last().expect("a request");
    let messages = last["messages"].as_array().expect("a list");
    let roles: Vec<&str> = messages
        .iter()
        .filter_map(|line| line["role"].as_str())
        .collect();
    assert_eq!(roles, ["user", "assistant", "user"], "{last}");
}

#[tokio::test]
async fn a_text_beside_a_call_is_moved_where_it_is_still_read() {
    let words = "Assistant message must have either content or tool_calls, but not both.";
    let (providers, bodies) = talk(vec![refused(400, words), answer()], &whole()).await;
    let messages = &bodies[1]["messages"];
    assert!(messages[2]["content"].is_null(), "{messages}");
    assert_eq!(
        messages[3]["content"],
        "[beside the call I said] Let me see.\n3"
    );
    assert_eq!(providers.status()[0].found_out.len(), 1);
}

#[tokio::test]
async fn what_is_too_large_even_alone_is_for_the_fallback() {
    let large = || refused(400, "This model's maximum context length is 10 tokens.");
    let (small, _) = serve(vec![large(), large()]).await;
    let (big, seen) = serve(vec![answer()]).await;
    let provider = |url: String, fallback: Option<&str>| LlmProvider {
        base_url: url,
        fallback: fallback.map(str::to_owned),
        ..provider()
    };
    let both = [
        ("local".to_owned(), provider(small, Some("big"))),
        ("big".to_owned(), provider(big, None)),
    ];
    let providers = LlmProviders::new(both.into()).expect("good providers");
    // The guest must shorten the request first: the fallback is not asked.
    let answer = providers.chat(&whole(), 1000, LONG, |_, _| {}).await;
    assert!(matches!(answer, Err(StepError::TooLarge(_))), "{answer:?}");
    assert!(seen.lock().expect("no panic").is_empty());
    let mut alone = whole();
    alone.messages.truncate(2);
    let answer = providers.chat(&alone, 1000, LONG, |_, _| {}).await;
    assert_eq!(answer.expect("the fallback's").content, "ok");
}
