//! Sends the turns of one connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::connection::{ClientConnection, Trouble};
use super::payloads::Texts;
use super::plan::Load;
use super::probe::LoadProbe;
use super::service::{Reply, Service, TurnRequest, Wrong};
use super::sessions::LoadSession;
use super::stats::{FaultKind, Tally};

/// The pause before retrying a request that found no server, or got an error.
const RETRY_PAUSE: Duration = Duration::from_millis(10);
/// The pause before requesting a turn again whose message was accepted.
const PENDING_PAUSE: Duration = Duration::from_millis(1);
/// The shortest silence whose beginning is looked up; shorter ones count for the current stretch
/// only.
const SILENCE_MIN: Duration = Duration::from_millis(1);
/// The pause if a server answers 429 without Retry-After.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);

pub(super) struct OwnSession {
    pub(super) number: usize,
    pub(super) session: LoadSession,
    /// The number of turns begun.
    begun: u64,
}

impl OwnSession {
    pub(super) fn new(number: usize, session: LoadSession) -> Self {
        Self {
            number,
            session,
            begun: 0,
        }
    }
}

/// The client that drives one connection.
pub(super) struct LoadClient<S> {
    pub(super) number: usize,
    pub(super) service: Arc<S>,
    pub(super) load: Arc<Load>,
    pub(super) texts: Arc<Texts>,
    pub(super) watch: LoadProbe,
    /// When to stop beginning turns.
    pub(super) until: Instant,
    /// The time from which turns count, measured from the creation of the probe.
    pub(super) counted_from: Duration,
}

/// A connection, and reusable buffers for what is sent over it.
struct RequestBuffer {
    connection: ClientConnection,
    text: String,
    request: Vec<u8>,
}

/// The outcome of a message.
enum MessageFate {
    /// It was answered, or its outcome is unknown.
    Over,
    /// It was refused; its session must wait that long.
    Rests(Duration),
}

/// A turn in flight.
struct TurnUnderWay {
    /// When it was first sent, measured from the creation of the probe, and in which stretch.
    began: Duration,
    stretch: usize,
    /// Whether its message was acknowledged as durable.
    acknowledged: bool,
    cut_off: u32,
}

impl<S: Service> LoadClient<S> {
    /// Sends turns until the time is up; returns its sessions with what they have done.
    pub(super) async fn run(
        self,
        connection: ClientConnection,
        mut ready: VecDeque<OwnSession>,
    ) -> VecDeque<OwnSession> {
        let mut done = VecDeque::new();
        let mut resting: VecDeque<(Instant, OwnSession)> = VecDeque::new();
        let mut line = RequestBuffer {
            connection,
            text: String::new(),
            request: Vec::new(),
        };
        loop {
            // All sessions rest for about the same time, so the first to rest is the first to be
            // ready.
            let now = Instant::now();
            while resting.front().is_some_and(|(until, _)| *until <= now) {
                ready.extend(resting.pop_front().map(|(_, own)| own));
            }
            if self.watch.is_stopped() || now >= self.until {
                break;
            }
            let Some(mut own) = ready.pop_front() else {
                match resting.front() {
                    Some((until, _)) => sleep_until((*until).min(self.until)).await,
                    None => break,
                }
                continue;
            };
            if self.load.turns.is_some_and(|turns| own.begun >= turns) {
                done.push_back(own);
                continue;
            }
            match self.turn(&mut own, &mut line).await {
                MessageFate::Over => {
                    own.begun += 1;
                    ready.push_back(own);
                }
                MessageFate::Rests(pause) => resting.push_back((Instant::now() + pause, own)),
            }
        }
        done.extend(ready);
        done.extend(resting.into_iter().map(|(_, own)| own));
        done
    }

    /// Sends one turn, and retries it until it is answered or given up.
    async fn turn(&self, own: &mut OwnSession, line: &mut RequestBuffer) -> MessageFate {
        let message = own.session.send();
        self.texts.write(own.number, message, &mut line.text);
        let turn = TurnRequest {
            session: own.number,
            message,
            text: &line.text,
        };
        line.request.clear();
        self.service.request(&turn, &mut line.request);
        let mut course = TurnUnderWay {
            began: self.watch.elapsed(),
            stretch: self.watch.stretch(),
            acknowledged: false,
            cut_off: 0,
        };
        loop {
            let reply = line.connection.ask(&line.request).await;
            let pause = match reply {
                Ok(reply) => match (reply.status, reply.retry_after) {
                    (200..300, _) => {
                        let read = self.service.read(&turn, reply.status, reply.body);
                        if self.answered(own, &mut course, read) {
                            return MessageFate::Over;
                        }
                        PENDING_PAUSE
                    }
                    (429, pause) if !course.acknowledged => {
                        self.tally().counts.throttled += 1;
                        own.session.take_back();
                        return MessageFate::Rests(pause.unwrap_or(RETRY_AFTER_DEFAULT));
                    }
                    (429 | 503, Some(pause)) => {
                        self.tally().counts.throttled += 1;
                        pause
                    }
                    (status, _) => {
                        self.tally().error(turn.session, status, reply.body);
                        // A server that blames the client (status below 500) would answer the same
                        // again.
                        if status < 500 || !self.service.is_keyed() {
                            own.session.lost_sight();
                            sleep(RETRY_PAUSE).await;
                            return MessageFate::Over;
                        }
                        RETRY_PAUSE
                    }
                },
                Err(trouble) => {
                    let sent = self.trouble(turn.session, &trouble);
                    if sent && !self.service.is_keyed() {
                        own.session.lost_sight();
                        return MessageFate::Over;
                    }
                    // A request that was cut off is retried immediately, but only the first time.
                    course.cut_off += u32::from(sent);
                    if sent && course.cut_off == 1 {
                        Duration::ZERO
                    } else {
                        RETRY_PAUSE
                    }
                }
            };
            let waited = self.watch.elapsed().saturating_sub(course.began);
            if self.watch.is_stopped() || waited > self.load.give_up {
                self.tally().counts.unanswered += 1;
                if course.acknowledged {
                    own.session.left_behind();
                } else {
                    own.session.lost_sight();
                }
                return MessageFate::Over;
            }
            if !pause.is_zero() {
                sleep(pause).await;
            }
        }
    }

    /// Processes a successful answer. Returns `false` if the turn must be requested again.
    fn answered(
        &self,
        own: &mut OwnSession,
        course: &mut TurnUnderWay,
        read: Result<Reply, Wrong>,
    ) -> bool {
        let now = self.watch.elapsed();
        let silence = self.watch.answered(now);
        let stretch = self.watch.stretch();
        let counts = course.began >= self.counted_from;
        // Short silences do not matter and are frequent, so the search for their stretch is
        // skipped.
        let silence_from = if silence < SILENCE_MIN {
            stretch
        } else {
            self.watch.stretch_at(now.saturating_sub(silence))
        };
        let mut tally = self.tally();
        tally.silence(silence_from, stretch, silence);
        let answer = match read {
            Ok(answer) => answer,
            Err(Wrong(why)) => {
                tally.counts.wrong += 1;
                tally.example(FaultKind::Wrong, || {
                    format!("session {}: {why}", own.number)
                });
                own.session.lost_sight();
                return true;
            }
        };
        if !course.acknowledged {
            course.acknowledged = true;
            own.session.acknowledged += 1;
            tally.counts.acknowledged += u64::from(counts);
        }
        let order = match answer {
            Reply::Pending if self.service.is_keyed() => return false,
            Reply::Pending | Reply::Accepted => {
                own.session.left_behind();
                None
            }
            Reply::Done(turn) => {
                tally.counts.completed += u64::from(counts);
                Some((turn, own.session.ended(turn)))
            }
            Reply::Failed(turn, why) => {
                tally.counts.errors += 1;
                tally.example(FaultKind::Error, || {
                    format!("session {}: turn {turn} failed: {why}", own.number)
                });
                Some((turn, own.session.ended(turn)))
            }
        };
        if let Some((turn, order)) = order {
            tally.order(own.number, turn, order);
        }
        if counts {
            let waited = now.saturating_sub(course.began);
            tally.latency(waited);
            tally.pause(course.stretch, stretch, waited);
            tally.last = tally.last.max(now);
        }
        true
    }

    /// Counts a failed request. Returns whether the server may have read it.
    fn trouble(&self, session: usize, trouble: &Trouble) -> bool {
        let stretch = self.watch.stretch();
        let mut tally = self.tally();
        let (fault, text) = match trouble {
            Trouble::Refused(error) => {
                tally.counts.refused += 1;
                (FaultKind::Refused, format!("no connection: {error}"))
            }
            Trouble::Reset(why) => {
                tally.counts.reset += 1;
                tally.stretch(stretch).reset += 1;
                (FaultKind::Reset, why.clone())
            }
            Trouble::Slow => {
                tally.counts.slow += 1;
                let text = format!("no answer in {:?}", self.load.patience);
                (FaultKind::Slow, text)
            }
            Trouble::Garbled(why) => {
                tally.counts.wrong += 1;
                (FaultKind::Wrong, why.clone())
            }
        };
        tally.example(fault, || format!("session {session}: {text}"));
        fault != FaultKind::Refused
    }

    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.watch.tally(self.number)
    }
}
