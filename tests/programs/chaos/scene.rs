//! Sessions on a stage: the messages sent to them, waiting until they are idle, and the facts about
//! them.

use std::fs;
use std::time::{Duration, Instant};

use abide_tests::checker::{Execution, Facts, Probe, Script, SessionFacts};
use abide_tests::{Client, Event, PATIENCE, Subscriber};
use reqwest::{Method, header};
use serde_json::Value;

use crate::clients::{MessageResult, say};
use crate::operator::Operated;
use crate::stage::{ChaosStage, GLANCE, PLUGIN, descendants_of, now_ms};

/// How long a subscriber may need for the last events.
const CATCH_UP: Duration = Duration::from_secs(10);
/// The interval at which a session's events are polled.
const BREATH: Duration = Duration::from_millis(30);

/// Sessions and the facts about them.
pub(crate) struct Scene {
    pub(crate) stage: ChaosStage,
    pub(crate) sessions: Vec<SessionFacts>,
    pub(crate) subscribers: Vec<Subscriber>,
    /// The number of the next copy of a session.
    pub(crate) next_copy: usize,
    probes: u64,
    /// Messages that were not acknowledged: which session's, and why.
    refused: Vec<(usize, String)>,
}

impl Scene {
    /// Opens sessions, and runs a first turn in each.
    pub(crate) async fn open(stage: ChaosStage, ids: &[String]) -> Self {
        let mut scene = Self {
            stage,
            sessions: Vec::new(),
            subscribers: Vec::new(),
            next_copy: 0,
            probes: 0,
            refused: Vec::new(),
        };
        let status = scene.stage.at_rest().await.unwrap_or_default();
        let created_in = status["generation"].as_u64().unwrap_or_default();
        for id in ids {
            scene.stage.client.open(id, PLUGIN).await;
            let subscriber = Subscriber::follow(&scene.stage.client, id);
            scene.subscribers.push(subscriber);
            scene.sessions.push(SessionFacts {
                id: id.clone(),
                created_in,
                ..SessionFacts::default()
            });
        }
        scene.probe().await;
        scene
    }

    /// Adds the results of clients.
    pub(crate) fn said(&mut self, results: Vec<MessageResult>) {
        for (session, result) in results {
            match result {
                Ok(sent) => self.sessions[session].acknowledged.push(sent),
                Err(text) => self.refused.push((session, text)),
            }
        }
    }

    /// Adds what an operator has done: copies are sessions like all others from now on.
    pub(crate) fn operated(&mut self, operated: Operated, next_copy: usize) {
        self.next_copy = next_copy;
        for (id, copy) in operated.copies {
            let subscriber = Subscriber::follow(&self.stage.client, &id);
            self.subscribers.push(subscriber);
            self.sessions.push(SessionFacts {
                id,
                copy_of: Some(copy),
                ..SessionFacts::default()
            });
        }
        for (session, asked) in operated.rewinds {
            self.sessions[session].rewinds.push(asked);
        }
        for (session, listed) in operated.points {
            self.sessions[session].points.push(listed);
        }
        for what in operated.done {
            self.stage.count(what);
        }
        for trouble in operated.troubles {
            self.stage.trouble(trouble);
        }
    }

    /// Waits until all accepted scripts are done, timers included. Returns whether they were.
    pub(crate) async fn finish(&mut self) -> bool {
        let mut done = true;
        // One deadline for all sessions: while one is stuck, the others have had their time.
        let started = Instant::now();
        for n in 0..self.sessions.len() {
            loop {
                self.stage.look().await;
                let session = &self.sessions[n];
                let client = &self.stage.client;
                let events = events(client, &session.id).await;
                let open = match &events {
                    Ok(events) => SessionFacts::outstanding(&session.acknowledged, events),
                    Err(why) => vec![why.clone()],
                };
                if open.is_empty() && self.idle(n).await || self.is_touched(n).await {
                    break;
                }
                if started.elapsed() > PATIENCE {
                    let path = format!("/v1/sessions/{}", self.sessions[n].id);
                    let state = self.stage.get(&path).await;
                    let text = format!("{open:?} are not done after {PATIENCE:?}: {state:?}");
                    self.sessions[n].unfinished = Some(text);
                    done = false;
                    break;
                }
                tokio::time::sleep(BREATH).await;
            }
        }
        done
    }

    /// Finds out whether the daemon names the session as touched by damage.
    async fn is_touched(&mut self, n: usize) -> bool {
        let session = &mut self.sessions[n];
        if session.touched.is_none() {
            session.touched = self.stage.touched(&session.id).await;
        }
        session.touched.is_some()
    }

    async fn idle(&self, n: usize) -> bool {
        let path = format!("/v1/sessions/{}", self.sessions[n].id);
        self.stage
            .get(&path)
            .await
            .is_some_and(|session| session["state"] == "idle" && session["queued"] == 0)
    }

    /// Posts a probe to each session of an idle daemon, and reads all events.
    pub(crate) async fn probe(&mut self) {
        for n in 0..self.sessions.len() {
            if self.is_touched(n).await {
                continue;
            }
            self.probes += 1;
            let script = Script::probe(format!("p{}", self.probes));
            let Some(before) = self.stage.at_rest().await else {
                return;
            };
            let id = self.sessions[n].id.clone();
            let asked = say(&self.stage.client, &id, script, true).await;
            match asked {
                Ok(sent) => {
                    let message = sent.message.clone();
                    self.sessions[n].acknowledged.push(sent);
                    if !self.finish_one(n).await {
                        continue;
                    }
                    let after = self.stage.get("/v1/daemon").await.unwrap_or_default();
                    let generation = before["generation"].as_u64();
                    let same = before["generation"] == after["generation"];
                    self.sessions[n].probes.push(Probe {
                        message,
                        generation: generation.filter(|_| same),
                    });
                }
                Err(text) => self.refused.push((n, text)),
            }
            if let Ok(events) = events(&self.stage.client, &id).await {
                self.sessions[n].earlier.push(events);
            }
        }
    }

    async fn finish_one(&mut self, n: usize) -> bool {
        let started = Instant::now();
        loop {
            self.stage.look().await;
            let session = &self.sessions[n];
            if let Ok(events) = events(&self.stage.client, &session.id).await
                && SessionFacts::outstanding(&session.acknowledged, &events).is_empty()
            {
                return true;
            }
            if self.is_touched(n).await {
                return false;
            }
            if started.elapsed() > PATIENCE {
                self.sessions[n].unfinished = Some("a probe is not answered".to_owned());
                return false;
            }
            tokio::time::sleep(BREATH).await;
        }
    }

    /// Reads all facts for the last time, and ends the daemon.
    pub(crate) async fn end(mut self) -> (ChaosStage, Facts) {
        self.stage.at_rest().await;
        let started = Instant::now();
        for n in 0..self.sessions.len() {
            if self.is_touched(n).await {
                continue;
            }
            let id = self.sessions[n].id.clone();
            let (events, json) = loop {
                self.stage.look().await;
                match pages(&self.stage.client, &id).await {
                    Ok(pages) => break pages,
                    Err(why) if started.elapsed() > CATCH_UP => {
                        let text = format!("{id}: its events cannot be read any more: {why}");
                        self.stage.trouble(text);
                        break Default::default();
                    }
                    Err(_) => tokio::time::sleep(BREATH).await,
                }
            };
            let subscriber = &self.subscribers[n];
            let read = Instant::now();
            while subscriber.events().len() < events.len() && read.elapsed() < CATCH_UP {
                tokio::time::sleep(GLANCE).await;
            }
            let dead = self.stage.get(&format!("/v1/sessions/{id}/dead")).await;
            let dead = dead.and_then(|dead| dead["items"].as_array().cloned());
            let session = &mut self.sessions[n];
            session.followed = subscriber.events();
            session.stream_troubles = subscriber.troubles();
            session.events = events;
            session.json = json;
            session.dead_letters = match dead {
                Some(letters) => letters.iter().map(Value::to_string).collect(),
                None => vec!["they cannot be read".to_owned()],
            };
        }
        for (n, text) in std::mem::take(&mut self.refused) {
            if self.sessions[n].touched.is_none() {
                self.stage.trouble(text);
            }
        }
        if let Some(since) = self.stage.damaged_since {
            self.stage.disturbed.push((since, now_ms()));
        }
        self.restarts().await;
        self.stage.stop().await;
        if let Some(status) = self.stage.daemon.exited().filter(|it| !it.success()) {
            self.stage
                .trouble(format!("asked to stop, it ended with {status}"));
        }
        // A tool whose daemon was killed may be about to write.
        let started = Instant::now();
        while !descendants_of(&self.stage.folder).is_empty() && started.elapsed() < CATCH_UP {
            tokio::time::sleep(GLANCE).await;
        }
        let effects = fs::read(self.stage.folder.join("effects")).unwrap_or_default();
        let facts = Facts {
            sessions: self.sessions,
            executions: Execution::read_all(&String::from_utf8_lossy(&effects)),
            disturbed: std::mem::take(&mut self.stage.disturbed),
            power_cuts: self.stage.power_cuts,
            troubles: std::mem::take(&mut self.stage.troubles),
        };
        (self.stage, facts)
    }

    /// Lists the sessions. The list may be what meets a damaged table: it is answered with that until the
    /// daemon has restarted, once its probation is over, and the store was written anew.
    async fn all_sessions(&mut self) -> Value {
        let started = Instant::now();
        loop {
            if let Some(mut list) = self.stage.get("/v1/sessions?limit=1000").await {
                return list["items"].take();
            }
            if started.elapsed() > PATIENCE {
                return Value::Null;
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Checks the restart records: none was rolled back, none lost a session.
    async fn restarts(&mut self) {
        let Some(list) = self.stage.get("/v1/daemon/restarts?limit=1000").await else {
            self.stage
                .trouble("the restart records cannot be read".to_owned());
            return;
        };
        for record in list["items"].as_array().into_iter().flatten() {
            self.stage.count("restart records");
            let relaunch = &record["relaunch"];
            let lesser = relaunch["lesser"]
                .as_array()
                .is_some_and(|it| !it.is_empty());
            let faulted = relaunch["faulted"].as_u64().is_some_and(|it| it > 0);
            // Nothing here fails by itself, and a kill from outside is no reason for a rollback or
            // a fault. Damage is one for a fault.
            let worse = self.stage.damaged_since.is_none() && (lesser || faulted);
            if record["status"] == "rolled_back" || worse {
                self.stage
                    .trouble(format!("a restart made it worse: {record}"));
            }
        }
        let listed = self.all_sessions().await;
        let is_listed = |id: &str| {
            let mut items = listed.as_array().into_iter().flatten();
            items.any(|item| item["id"] == *id)
        };
        let missing: Vec<&str> = self
            .sessions
            .iter()
            .filter(|session| session.touched.is_none() && !is_listed(&session.id))
            .map(|session| session.id.as_str())
            .collect();
        if !missing.is_empty() {
            let wrong = format!("{missing:?} are not listed any more");
            self.stage.trouble(wrong);
        }
        if listed.as_array().map_or(0, Vec::len) > self.sessions.len() {
            let wrong = format!("sessions are listed that nobody has opened: {listed}");
            self.stage.trouble(wrong);
        }
    }
}

/// Returns all events of a session, or why they cannot be read now.
async fn events(client: &Client, id: &str) -> Result<Vec<Event>, String> {
    pages(client, id).await.map(|(events, _)| events)
}

/// Returns all events of a session, and all that the daemon sent of them; or why they cannot be read now.
async fn pages(client: &Client, id: &str) -> Result<(Vec<Event>, Vec<Value>), String> {
    let mut all: Vec<Event> = Vec::new();
    let mut json: Vec<Value> = Vec::new();
    loop {
        let last = all.last();
        let after = last.map_or(0, |event| event.cursor);
        let timeline = last.and_then(|event| event.timeline.as_ref());
        let timeline = timeline.map_or(String::new(), |name| format!("&timeline={name}"));
        let path = format!("/v1/sessions/{id}/events?after={after}{timeline}");
        let request = client
            .request(Method::GET, &path)
            .header(header::ACCEPT, "application/json");
        let reply = client.send(request).await;
        let reply = reply.map_err(|trouble| format!("{trouble:?}"))?;
        if reply.status != 200 {
            return Err(format!("{reply:?}"));
        }
        let items = &reply.body["items"];
        let page: Vec<Event> =
            serde_json::from_value(items.clone()).map_err(|error| error.to_string())?;
        if page.is_empty() {
            return Ok((all, json));
        }
        all.extend(page);
        json.extend(items.as_array().into_iter().flatten().cloned());
    }
}
