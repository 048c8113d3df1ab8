//! The scenes that are played in conversations with the real model.

use std::time::Duration;

use abide_tests::{Client, Daemon, How, Subscriber, until_within};
use anyhow::anyhow;
use serde_json::{Value, json};

/// Timeout of one turn: the model is slow on a busy machine.
const TURN: Duration = Duration::from_secs(180);

/// A scene.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ModelScene {
    RestartInMidTurn,
    CutAnswer,
    DroppedHistory,
    Burst,
    StoppedTurn,
}

pub(crate) const SCENES: [ModelScene; 5] = [
    ModelScene::RestartInMidTurn,
    ModelScene::CutAnswer,
    ModelScene::DroppedHistory,
    ModelScene::Burst,
    ModelScene::StoppedTurn,
];

impl ModelScene {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::RestartInMidTurn => "a restart in mid-turn",
            Self::CutAnswer => "a cut answer",
            Self::DroppedHistory => "a dropped history",
            Self::Burst => "a burst of messages",
            Self::StoppedTurn => "a stopped turn",
        }
    }
}

/// Plays a scene in a session of its own, which must then answer "hello"; returns what went wrong.
pub(crate) async fn play(scene: ModelScene, daemon: &mut Daemon) -> anyhow::Result<()> {
    let client = daemon.client();
    let talk = ModelTalk {
        client: &client,
        id: scene.name(),
    };
    match scene {
        ModelScene::RestartInMidTurn => {
            talk.open(json!({"max_tokens": 96})).await?;
            talk.say("Hello!").await?;
            let message = talk.begin("Count from one to one hundred.").await?;
            let old = daemon.generation().await;
            daemon.edit(How::Rename, |setup| setup.spare += 1);
            daemon.after_generation(old).await;
            talk.completed(&message).await?;
        }
        ModelScene::CutAnswer => {
            talk.open(json!({"max_tokens": 8})).await?;
            talk.say("Tell me a long story.").await?;
            let events = client.events(talk.id, 0).await;
            if !events
                .iter()
                .any(|event| event.name.as_deref() == Some("truncated"))
            {
                return Err(anyhow!("the answer was not cut"));
            }
            talk.say("go on").await?;
        }
        ModelScene::DroppedHistory => {
            talk.open(json!({"max_tokens": 24, "history_bytes": 1200}))
                .await?;
            for n in 0..6 {
                let text = format!(
                    "{n}. {}",
                    "Tell me about the sea and its ships. ".repeat(10)
                );
                talk.say(&text).await?;
            }
        }
        ModelScene::Burst => {
            talk.open(json!({"max_tokens": 24})).await?;
            let mut messages = Vec::new();
            for n in 0..5 {
                messages.push(talk.post(&format!("This is message {n}.")).await?);
            }
            for message in messages {
                talk.completed(&message).await?;
            }
        }
        ModelScene::StoppedTurn => {
            talk.open(json!({"max_tokens": 256})).await?;
            talk.say("Hello!").await?;
            let message = talk.begin("Count from one to one hundred.").await?;
            let path = format!("/v1/sessions/{}/cancel", talk.id.replace(' ', "%20"));
            let reply = client.post(&path, &json!({})).await;
            reply.map_err(|trouble| anyhow!("cancel: {trouble:?}"))?;
            talk.ended(&message).await?;
        }
    }
    talk.say("hello").await
}

struct ModelTalk<'a> {
    client: &'a Client,
    id: &'a str,
}

impl ModelTalk<'_> {
    async fn open(&self, mut args: Value) -> anyhow::Result<()> {
        args["system"] = "Be brief.".into();
        let body = json!({"plugin": "assistant", "args": args});
        let reply = self.client.put(self.id, &body).await;
        let reply = reply.map_err(|trouble| anyhow!("{trouble:?}"))?;
        match reply.status {
            201 => Ok(()),
            _ => Err(anyhow!("{reply:?}")),
        }
    }

    /// Sends a message and returns its id.
    async fn post(&self, text: &str) -> anyhow::Result<String> {
        let posted = self.client.say(self.id, text, None).await;
        Ok(posted.map_err(|refused| anyhow!("{refused:?}"))?.message)
    }

    /// Sends a message and waits until the model has begun to answer.
    async fn begin(&self, text: &str) -> anyhow::Result<String> {
        let subscriber = Subscriber::follow(self.client, self.id);
        let message = self.post(text).await?;
        let turns = self.client.session(self.id).await["turns"].as_u64();
        let turn = turns.unwrap_or_default() + 1;
        until_within(TURN, "the answer's beginning", async || {
            (!subscriber.streamed(turn).is_empty()).then_some(())
        })
        .await;
        Ok(message)
    }

    /// Sends a message and waits for its turn, which must complete.
    async fn say(&self, text: &str) -> anyhow::Result<()> {
        let message = self.post(text).await?;
        self.completed(&message).await
    }

    async fn completed(&self, message: &str) -> anyhow::Result<()> {
        match self.ended(message).await? {
            None => Ok(()),
            Some(reason) => Err(anyhow!("a turn failed: {reason}")),
        }
    }

    /// Waits for a turn's end; returns the reason if it failed.
    async fn ended(&self, message: &str) -> anyhow::Result<Option<String>> {
        let end = until_within(TURN, "a turn's end", async || {
            let events = self.client.events(self.id, 0).await;
            events.into_iter().find(|event| event.ends(message))
        })
        .await;
        let reason = || {
            end.reason
                .clone()
                .unwrap_or_else(|| "without a reason".to_owned())
        };
        Ok((!end.is_turn("completed")).then(reason))
    }
}
