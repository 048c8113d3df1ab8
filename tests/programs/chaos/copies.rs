//! Making copies of sessions with a daemon that may die meanwhile: a request is repeated until it is known
//! whether there is a copy. The id allows no second one.

use std::time::Instant;

use abide_tests::{PATIENCE, Reply, Trouble};
use reqwest::{Method, RequestBuilder, header};

use crate::operator::{Operator, RETRY_DELAY, problem};

/// The status of a daemon that has too much to do.
const OVERLOADED: u16 = 429;

/// What the answer to one request for a copy means.
enum Answered {
    /// There is a copy.
    Made,
    /// There is none, and there will be none.
    Void(&'static str),
    /// Nobody knows.
    Lost,
    /// Nobody has seen the request.
    Unseen,
    Wrong(String),
}

impl Answered {
    /// `lost`: whether an earlier request may have made the copy.
    fn of(reply: Result<Reply, Trouble>, lost: bool) -> Self {
        let reply = match reply {
            Ok(reply) => reply,
            Err(Trouble::Refused) => return Self::Unseen,
            Err(_) => return Self::Lost,
        };
        match (reply.status, problem(&reply)) {
            (201, _) => Self::Made,
            (_, "session-exists") if lost => Self::Made,
            (_, "not-yet") => Self::Void("ways back: not yet"),
            // It is not kept any more, or nobody needs its component any more.
            (_, "unknown-point" | "component-missing") => Self::Void("ways back: void"),
            (OVERLOADED | 500.., _) => Self::Lost,
            _ => Self::Wrong(format!("{reply:?}")),
        }
    }
}

impl Operator {
    /// Makes a copy of this id with a request. Returns whether there is one.
    pub(crate) async fn make(&mut self, id: &str, request: impl Fn() -> RequestBuilder) -> bool {
        let started = Instant::now();
        let mut lost = false;
        loop {
            match Answered::of(self.client.send(request()).await, lost) {
                Answered::Made => return true,
                Answered::Void(why) => {
                    self.count(why);
                    break;
                }
                Answered::Lost => lost = true,
                Answered::Unseen => {}
                Answered::Wrong(text) => {
                    self.trouble(format!("the copy {id} was refused: {text}"));
                    break;
                }
            }
            if started.elapsed() > PATIENCE {
                self.trouble(format!("the copy {id} is not made within {PATIENCE:?}"));
                break;
            }
            tokio::time::sleep(RETRY_DELAY).await;
        }
        lost && self.exists(id).await
    }

    /// Finds out whether there is a session.
    async fn exists(&mut self, id: &str) -> bool {
        let path = format!("/v1/sessions/{id}");
        let started = Instant::now();
        loop {
            let last = match self.client.get(&path).await {
                Ok(reply) if reply.status == 200 => return true,
                Ok(reply) if reply.status == 404 => return false,
                other => format!("{other:?}"),
            };
            if started.elapsed() > PATIENCE {
                self.trouble(format!("nobody says whether there is {id}: {last}"));
                return false;
            }
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }

    /// Returns the bytes of an export; none if its point is gone by then.
    pub(crate) async fn download(&mut self, path: &str) -> Option<Vec<u8>> {
        let started = Instant::now();
        loop {
            // Not by way of a reply, whose body is a text.
            let response = self.client.request(Method::GET, path).send().await;
            let last = match response {
                Ok(response) => {
                    let status = response.status().as_u16();
                    match (status, response.bytes().await) {
                        (200, Ok(bytes)) => return Some(bytes.to_vec()),
                        (404, Ok(bytes)) if bytes.windows(13).any(|it| it == b"unknown-point") => {
                            self.count("ways back: void");
                            return None;
                        }
                        (400..500, bytes) if status != OVERLOADED => {
                            self.trouble(format!("{path}: {status}: {bytes:?}"));
                            return None;
                        }
                        (status, bytes) => format!("{status}: {bytes:?}"),
                    }
                }
                Err(error) => error.to_string(),
            };
            if started.elapsed() > PATIENCE {
                self.trouble(format!(
                    "{path} is not answered within {PATIENCE:?}: {last}"
                ));
                return None;
            }
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }

    /// Imports an export under this id. Returns whether there is such a session.
    pub(crate) async fn import(&mut self, id: &str, export: Vec<u8>) -> bool {
        let client = self.client.clone();
        let path = format!("/v1/sessions/{id}/import");
        let request = || {
            client
                .request(Method::POST, &path)
                .header(header::CONTENT_TYPE, "application/octet-stream")
                .body(export.clone())
        };
        self.make(id, request).await
    }
}
