//! A fake language model: an OpenAI-compatible server that obeys the tests.
//!
//! It answers a conversation with `re: ` and its last user message, without the host's notices in
//! it. Marks in that message control the answer:
//!
//! | mark | meaning |
//! |---|---|
//! | `[delay=MS]` | the answer begins after so many milliseconds |
//! | `[pace=MS]` | so many milliseconds between two words |
//! | `[hold=NAME]` | the answer begins once [`FakeModel::release`] was called with that name |
//! | `[status=N]` | no answer, but this HTTP status |
//!
//! A [script](FakeModel::scripted) gives other answers, and requests tools. The next calls can be
//! made to [fail](FakeModel::fail). A [strict](FakeModel::strict) model refuses what real servers
//! refuse.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use futures::stream;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use crate::answer::message_text;
use crate::model_fault::ModelFault;
use crate::strict::Gate;
use crate::{Answer, AskedCall, BrokenRule, LocalServer, Rules, notices_apart, until};

/// The state of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallState {
    /// The answer is not complete.
    Running,
    /// The caller has received the whole answer.
    Answered,
    /// The caller has closed the connection before the end of the answer.
    Cancelled,
}

/// One call of the model.
#[derive(Clone, Debug)]
pub struct ModelCall {
    /// The conversation, as `role: text` lines; the host's notices appear with the role `system`.
    pub messages: Vec<String>,
    /// The whole request, as received.
    pub request: Value,
    /// The value of its `Authorization` header.
    pub key: Option<String>,
    /// When it arrived.
    pub at: Instant,
    pub state: CallState,
}

impl ModelCall {
    /// Returns the last line of the conversation.
    pub fn last(&self) -> &str {
        self.messages.last().map_or("", String::as_str)
    }
}

/// The number of prompt tokens that the model reports for every call.
pub const PROMPT_TOKENS: u64 = 11;
/// The number of completion tokens that the model reports for every answer.
pub const ANSWER_TOKENS: u64 = 7;

type AnswerScript = dyn Fn(&[Value]) -> Answer + Send + Sync;

struct ModelState {
    script: Option<Box<AnswerScript>>,
    calls: Mutex<Vec<ModelCall>>,
    faults: Mutex<VecDeque<ModelFault>>,
    gate: Mutex<Gate>,
    released: watch::Sender<BTreeSet<String>>,
}

impl ModelState {
    fn calls(&self) -> MutexGuard<'_, Vec<ModelCall>> {
        self.calls.lock().expect("nobody panics while holding it")
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().expect("nobody panics while holding it")
    }
}

/// A model that runs in this process. The server stops when the value is dropped.
pub struct FakeModel {
    shared: Arc<ModelState>,
    server: LocalServer,
}

impl FakeModel {
    /// Starts a model on a free port.
    pub async fn start() -> Self {
        Self::start_with(None, Rules::default()).await
    }

    /// Starts a model that refuses what these rules forbid.
    pub async fn strict(rules: Rules) -> Self {
        Self::start_with(None, rules).await
    }

    /// Starts a model whose answer is `script` of the messages of a request, as received. The
    /// script should depend on nothing else, so that a repeated call has the same answer. Marks in
    /// the last user message still control when the answer comes.
    pub async fn scripted(script: impl Fn(&[Value]) -> Answer + Send + Sync + 'static) -> Self {
        Self::strict_scripted(Rules::default(), script).await
    }

    /// Starts a model that is both strict and scripted.
    pub async fn strict_scripted(
        rules: Rules,
        script: impl Fn(&[Value]) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(Some(Box::new(script)), rules).await
    }

    async fn start_with(script: Option<Box<AnswerScript>>, rules: Rules) -> Self {
        let shared = Arc::new(ModelState {
            script,
            calls: Mutex::default(),
            faults: Mutex::default(),
            gate: Mutex::new(Gate::new(rules)),
            released: watch::channel(BTreeSet::new()).0,
        });
        let router = Router::new()
            .route("/v1/chat/completions", post(complete))
            .with_state(shared.clone());
        let server = LocalServer::start(0, router).await;
        Self { shared, server }
    }

    /// Returns the value for `base_url`.
    pub fn base_url(&self) -> String {
        format!("{}/v1", self.server.url())
    }

    /// Makes the next calls fail, in this order.
    pub fn fail(&self, faults: impl IntoIterator<Item = ModelFault>) {
        let mut queued = self.shared.faults.lock().expect("nobody panics with it");
        queued.extend(faults);
    }

    /// Replaces the rules: from now on the model refuses what these forbid, and nothing else.
    pub fn obey(&self, rules: Rules) {
        self.shared.gate().set_rules(rules);
    }

    /// Returns the requests that its rules refused, in order.
    pub fn violations(&self) -> Vec<BrokenRule> {
        self.shared.gate().refused().to_vec()
    }

    /// Returns all calls so far.
    pub fn calls(&self) -> Vec<ModelCall> {
        self.shared.calls().clone()
    }

    /// Returns the calls whose last line contains this text.
    pub fn calls_about(&self, text: &str) -> Vec<ModelCall> {
        let calls = self.shared.calls();
        let about = calls.iter().filter(|call| call.last().contains(text));
        about.cloned().collect()
    }

    /// Returns the number of calls about this text in that state, without copying them.
    pub fn count(&self, text: &str, state: CallState) -> usize {
        let calls = self.shared.calls();
        let of_state = calls.iter().filter(|call| call.state == state);
        of_state.filter(|call| call.last().contains(text)).count()
    }

    /// Waits until `count` calls about this text are in that state.
    pub async fn wait_for(&self, text: &str, state: CallState, count: usize) -> Vec<ModelCall> {
        until(
            &format!("{count} calls {state:?} about {text:?}"),
            async || {
                let mut calls = self.calls_about(text);
                calls.retain(|call| call.state == state);
                (calls.len() >= count).then_some(calls)
            },
        )
        .await
    }

    /// Releases all calls that are, or will be, held under this name.
    pub fn release(&self, name: &str) {
        self.shared.released.send_modify(|released| {
            released.insert(name.to_owned());
        });
    }
}

/// Returns the value of a mark, if it is present.
fn mark<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("[{name}="))?;
    rest.split_once(']').map(|(value, _)| value)
}

fn millis(text: &str, name: &str) -> Duration {
    let value = mark(text, name).and_then(|value| value.parse().ok());
    Duration::from_millis(value.unwrap_or(0))
}

async fn complete(
    State(shared): State<Arc<ModelState>>,
    headers: HeaderMap,
    Json(request): Json<Value>,
) -> Response {
    let key = headers.get(AUTHORIZATION);
    let key = key.and_then(|key| Some(key.to_str().ok()?.to_owned()));
    let messages = request["messages"].as_array().cloned().unwrap_or_default();
    // Text that the host puts in front of the user's words is not the user's.
    let apart = notices_apart(&messages);
    let lines = apart
        .iter()
        .map(|message| {
            let role = message["role"].as_str().unwrap_or("?");
            format!("{role}: {}", message_text(message))
        })
        .collect();
    let asked = apart.iter().rfind(|message| message["role"] == "user");
    let asked = asked.map(message_text).unwrap_or_default();
    let answer = match &shared.script {
        Some(script) => script(&messages),
        None => Answer {
            text: format!("re: {asked}"),
            calls: Vec::new(),
        },
    };
    let streams = request["stream"] == true;
    let call = {
        let mut calls = shared.calls();
        calls.push(ModelCall {
            messages: lines,
            request,
            key,
            at: Instant::now(),
            state: CallState::Running,
        });
        calls.len() - 1
    };
    let watched = Watched { shared, call };
    let fault = watched
        .shared
        .faults
        .lock()
        .expect("nobody panics with it")
        .pop_front();
    if let Some(fault) = fault {
        watched.answered();
        return fault.response();
    }
    let refused = watched.shared.gate().admit(&watched.request());
    if let Some(BrokenRule { status, body, .. }) = refused {
        watched.answered();
        let status = StatusCode::from_u16(status).expect("rules name statuses");
        return (status, Json(body)).into_response();
    }
    if let Some(status) = mark(&asked, "status").and_then(|status| status.parse().ok()) {
        watched.answered();
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let error = json!({"error": {"message": "as you wish", "type": "fake", "code": null}});
        return (status, Json(error)).into_response();
    }
    if streams {
        let (chunks, receiver) = mpsc::channel(1);
        tokio::spawn(stream_answer(watched, asked, answer, chunks));
        let chunks = stream::unfold(receiver, async |mut receiver| {
            let chunk: String = receiver.recv().await?;
            Some((Ok::<_, Infallible>(chunk), receiver))
        });
        let body = Body::from_stream(chunks);
        return ([("content-type", "text/event-stream")], body).into_response();
    }
    // If the caller hangs up, the server drops this future here, and the call counts as cancelled.
    watched.wait(&asked).await;
    watched.answered();
    let calls: Vec<_> = answer.calls.iter().map(AskedCall::whole).collect();
    let mut message = json!({"role": "assistant", "content": answer.text});
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    let choice = json!({"index": 0, "message": message, "finish_reason": answer.finish()});
    Json(envelope("chat.completion", &choice)).into_response()
}

fn envelope(object: &str, choice: &Value) -> Value {
    json!({"id": "fake", "object": object, "created": 1, "model": "fake", "choices": [choice]})
}

/// Sends an answer chunk by chunk, as long as the receiver is open.
async fn stream_answer(
    watched: Watched,
    asked: String,
    answer: Answer,
    chunks: mpsc::Sender<String>,
) {
    tokio::select! {
        () = watched.wait(&asked) => {}
        () = chunks.closed() => return,
    }
    let pace = millis(&asked, "pace");
    let deltas = answer
        .deltas()
        .into_iter()
        .map(|delta| (delta, Value::Null));
    let usage = json!({"prompt_tokens": PROMPT_TOKENS, "completion_tokens": ANSWER_TOKENS});
    for (delta, finish) in deltas.chain([(json!({}), answer.finish())]) {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        let chunk = format!("data: {}\n\n", envelope("chat.completion.chunk", &choice));
        if chunks.send(chunk).await.is_err() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(pace) => {}
            () = chunks.closed() => return,
        }
    }
    let cost = json!({"id": "fake", "model": "fake", "choices": [], "usage": usage});
    let end = format!("data: {cost}\n\ndata: [DONE]\n\n");
    if chunks.send(end).await.is_ok() {
        watched.answered();
    }
}

/// A call that counts as cancelled if it is dropped before it was answered.
struct Watched {
    shared: Arc<ModelState>,
    call: usize,
}

impl Watched {
    fn answered(&self) {
        self.shared.calls()[self.call].state = CallState::Answered;
    }

    fn request(&self) -> Value {
        self.shared.calls()[self.call].request.clone()
    }

    async fn wait(&self, asked: &str) {
        tokio::time::sleep(millis(asked, "delay")).await;
        if let Some(name) = mark(asked, "hold") {
            let mut released = self.shared.released.subscribe();
            // An error means that the model is gone, and then no caller waits.
            let _ = released.wait_for(|released| released.contains(name)).await;
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let state = &mut self.shared.calls()[self.call].state;
        if *state == CallState::Running {
            *state = CallState::Cancelled;
        }
    }
}
