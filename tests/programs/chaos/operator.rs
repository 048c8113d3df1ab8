//! An operator: takes sessions their ways back, one after the other, while clients talk and the daemon
//! dies.

use std::time::{Duration, Instant};

use abide_tests::checker::program::{WayBack, WayBackAct};
use abide_tests::checker::{CopyFacts, CopyKind, ListedPoint, RewindAnswer, RewindAsked};
use abide_tests::{Client, PATIENCE, Reply, Trouble};
use reqwest::Method;
use serde_json::{Value, json};

/// The delay before an operator tries again.
pub(crate) const RETRY_DELAY: Duration = Duration::from_millis(15);

/// What an operator has done and seen. Sessions are named by their index.
#[derive(Default)]
pub(crate) struct Operated {
    pub(crate) rewinds: Vec<(usize, RewindAsked)>,
    pub(crate) points: Vec<(usize, ListedPoint)>,
    /// The copies that were made, with their ids; their indices follow those of the sessions before.
    pub(crate) copies: Vec<(String, CopyFacts)>,
    /// What was done, for the report.
    pub(crate) done: Vec<&'static str>,
    pub(crate) troubles: Vec<String>,
}

/// Takes the ways back of a round.
pub(crate) struct Operator {
    pub(crate) client: Client,
    /// The ids of all sessions.
    ids: Vec<String>,
    /// The number of the next copy: no id is used twice.
    next_copy: usize,
    pub(crate) operated: Operated,
}

/// A restore point as it is listed.
struct Listed {
    /// What the API calls it: `N`, or `T.N`.
    name: String,
    cursor: u64,
}

impl Operator {
    /// `next_copy`: the number of the next copy.
    pub(crate) fn new(client: Client, ids: Vec<String>, next_copy: usize) -> Self {
        Self {
            client,
            ids,
            next_copy,
            operated: Operated::default(),
        }
    }

    /// Takes all of the ways, and returns what came of it and the number of the next copy.
    pub(crate) async fn take(mut self, ways: Vec<WayBack>) -> (Operated, usize) {
        for way in ways {
            tokio::time::sleep(Duration::from_millis(way.after_ms)).await;
            let session = way.session % self.ids.len();
            let Some(points) = self.points(session).await else {
                continue;
            };
            match way.act {
                WayBackAct::Rewind { point } => {
                    let point = &points[point % points.len()];
                    self.rewind(session, point).await;
                }
                WayBackAct::Fork { point } => {
                    let at = point.map(|point| &points[point % points.len()]);
                    self.fork(session, &points[0], at).await;
                }
                WayBackAct::Export { point, component } => {
                    let at = point.map(|point| &points[point % points.len()]);
                    self.export(session, &points[0], at, component).await;
                }
            }
        }
        (self.operated, self.next_copy)
    }

    /// Lists the restore points of a session, the present state first; there is always one.
    async fn points(&mut self, session: usize) -> Option<Vec<Listed>> {
        let path = format!("/v1/sessions/{}/points", self.ids[session]);
        let started = Instant::now();
        let items = loop {
            let last = match self.client.get(&path).await {
                Ok(reply) if reply.status == 200 => break reply.body["items"].clone(),
                other => format!("{other:?}"),
            };
            if started.elapsed() > PATIENCE {
                self.trouble(format!(
                    "{path} is not answered within {PATIENCE:?}: {last}"
                ));
                return None;
            }
            tokio::time::sleep(RETRY_DELAY).await;
        };
        let mut points = Vec::new();
        for item in items.as_array().into_iter().flatten() {
            let (Some(cursor), Some(turn)) = (item["cursor"].as_u64(), item["turn"].as_u64())
            else {
                continue;
            };
            let name = match item["timeline"].as_str() {
                Some(timeline) => format!("{timeline}.{cursor}"),
                None => cursor.to_string(),
            };
            points.push(Listed { name, cursor });
            let listed = ListedPoint { cursor, turn };
            self.operated.points.push((session, listed));
        }
        if points.is_empty() || items[0]["present"] != true {
            self.trouble(format!("{path} lists no present state: {items}"));
            return None;
        }
        Some(points)
    }

    /// Rewinds a session. Asks once: were the answer lost, a second request would be a second rewind.
    async fn rewind(&mut self, session: usize, to: &Listed) {
        let path = format!("/v1/sessions/{}/rewind", self.ids[session]);
        let body = json!({"to": to.name});
        let started = Instant::now();
        let reply = loop {
            let reply = self.client.post(&path, &body).await;
            // Nobody has seen the request.
            let is_unseen = matches!(reply, Err(Trouble::Refused));
            if !is_unseen || started.elapsed() > PATIENCE {
                break reply;
            }
            tokio::time::sleep(RETRY_DELAY).await;
        };
        let asked = |answer| RewindAsked {
            to: to.cursor,
            answer,
        };
        match reply {
            Ok(reply) if reply.status == 200 => {
                let (view, rewound) = (&reply.body["session"], &reply.body["rewound"]);
                let answer = RewindAnswer {
                    cursor: view["cursor"].as_u64().unwrap_or_default(),
                    turn: rewound["turn"].as_u64().unwrap_or_default(),
                };
                if rewound["cursor"] != to.cursor {
                    self.trouble(format!("{path} to {} was answered {}", to.name, reply.body));
                }
                self.operated.rewinds.push((session, asked(Some(answer))));
                self.count("rewinds");
                if !rewound["cancelled"].is_null() {
                    self.count("rewinds of open turns");
                }
            }
            Ok(reply) => match problem(&reply) {
                "not-yet" => self.count("ways back: not yet"),
                "nothing-to-undo" | "unknown-point" => self.count("ways back: void"),
                // It may have been on its way to the disk.
                _ if reply.status >= 500 => {
                    self.operated.rewinds.push((session, asked(None)));
                    self.count("rewinds unanswered");
                }
                _ => self.trouble(format!("{path} to {} was refused: {reply:?}", to.name)),
            },
            Err(_) => {
                self.operated.rewinds.push((session, asked(None)));
                self.count("rewinds unanswered");
            }
        }
    }

    async fn fork(&mut self, session: usize, present: &Listed, at: Option<&Listed>) {
        let new = self.new_id();
        let path = format!("/v1/sessions/{}/fork", self.ids[session]);
        let mut body = json!({"id": new});
        if let Some(at) = at {
            body["at"] = at.name.clone().into();
        }
        let client = self.client.clone();
        let request = || client.request(Method::POST, &path).json(&body);
        if self.make(&new, request).await {
            self.count("forks");
            self.made(new, session, CopyKind::Forked, present, at);
        }
    }

    async fn export(
        &mut self,
        session: usize,
        present: &Listed,
        at: Option<&Listed>,
        component: bool,
    ) {
        let mut path = format!(
            "/v1/sessions/{}/export?component={component}",
            self.ids[session]
        );
        if let Some(at) = at {
            path.push_str(&format!("&at={}", at.name));
        }
        let Some(export) = self.download(&path).await else {
            return;
        };
        let new = self.new_id();
        if self.import(&new, export).await {
            self.count("imports");
            self.made(new, session, CopyKind::Imported, present, at);
        }
    }

    fn made(
        &mut self,
        id: String,
        session: usize,
        how: CopyKind,
        present: &Listed,
        at: Option<&Listed>,
    ) {
        let copy = CopyFacts {
            source: self.ids[session].clone(),
            how,
            at: at.map(|at| at.cursor),
            present: present.cursor,
        };
        self.ids.push(id.clone());
        self.operated.copies.push((id, copy));
    }

    /// Returns the id of the next copy. It is like those of the program's own sessions, whose number stays
    /// below: whoever looks for a session's name in a text takes it for no other word.
    fn new_id(&mut self) -> String {
        let id = format!("s{}", 10 + self.next_copy);
        self.next_copy += 1;
        id
    }

    pub(crate) fn count(&mut self, what: &'static str) {
        self.operated.done.push(what);
    }

    pub(crate) fn trouble(&mut self, text: String) {
        self.operated.troubles.push(text);
    }
}

/// Returns the kind of problem that a reply reports.
pub(crate) fn problem(reply: &Reply) -> &str {
    let kind = match &reply.body {
        Value::Object(body) => body.get("type").and_then(Value::as_str),
        _ => None,
    };
    let kind = kind.unwrap_or_default();
    kind.rsplit(':').next().unwrap_or_default()
}
