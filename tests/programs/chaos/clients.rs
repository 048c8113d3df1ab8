//! Clients: each sends one message after the other, and retries each under one key until it is
//! acknowledged.

use std::time::{Duration, Instant};

use abide_tests::checker::program::Post;
use abide_tests::checker::{Acknowledged, Script};
use abide_tests::{Client, PATIENCE, Refused};

/// The delay before a client retries.
const RETRY_DELAY: Duration = Duration::from_millis(15);

/// The result for a client's message: its session's index, and the acknowledgement or the error.
pub(crate) type MessageResult = (usize, Result<Acknowledged, String>);

/// Sends all messages of a client.
pub(crate) async fn talk(
    client: Client,
    sessions: Vec<String>,
    posts: Vec<Post>,
) -> Vec<MessageResult> {
    let mut results = Vec::new();
    for post in posts {
        tokio::time::sleep(Duration::from_millis(post.after_ms)).await;
        let session = post.session % sessions.len();
        let id = &sessions[session];
        let sent = say(&client, id, post.script, post.wait).await;
        results.push((session, sent));
    }
    results
}

/// Sends one message until it is acknowledged. A daemon that dies loses the requests that it has
/// read; one that is down or about to stop refuses them. In each case the client retries.
pub(crate) async fn say(
    client: &Client,
    id: &str,
    script: Script,
    wait: bool,
) -> Result<Acknowledged, String> {
    let (text, key) = (script.text(), format!("{id} {}", script.id));
    let started = Instant::now();
    loop {
        let result = match wait {
            true => client.ask(id, &text, Some(&key)).await,
            false => client.say(id, &text, Some(&key)).await,
        };
        let last = match result {
            Ok(posted) => {
                return Ok(Acknowledged {
                    message: posted.message,
                    script,
                    output: posted.output,
                });
            }
            Err(Refused::Trouble(trouble)) => format!("{trouble:?}"),
            Err(Refused::Status(reply)) if matches!(reply.status, 429 | 503) => {
                format!("{reply:?}")
            }
            Err(Refused::Status(reply)) => {
                return Err(format!("{id}: {} was refused: {reply:?}", script.id));
            }
        };
        if started.elapsed() > PATIENCE {
            return Err(format!(
                "{id}: {} was not acknowledged within {PATIENCE:?}: {last}",
                script.id
            ));
        }
        tokio::time::sleep(RETRY_DELAY).await;
    }
}
