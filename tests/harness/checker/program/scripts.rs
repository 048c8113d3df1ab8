//! Generates scripts.

use rand::Rng;
use rand::rngs::StdRng;

use super::Means;
use crate::checker::{Act, Script, ScriptedCall, Tool};

/// Generates the scripts of a run, with ids and tokens that are unique in it.
pub(super) struct Writer {
    means: Means,
    written: u64,
}

impl Writer {
    pub(super) fn new(means: Means) -> Self {
        Self { means, written: 0 }
    }

    /// Generates a client's script.
    pub(super) fn script(&mut self, rng: &mut StdRng) -> Script {
        self.written += 1;
        let id = format!("m{}", self.written);
        let acts = rng.random_range(0..=6);
        self.acts(rng, id, acts, true)
    }

    fn acts(&self, rng: &mut StdRng, id: String, count: usize, timers: bool) -> Script {
        let acts = (0..count).map(|n| self.act(rng, &id, n, timers)).collect();
        Script { id, acts }
    }

    fn act(&self, rng: &mut StdRng, id: &str, n: usize, timers: bool) -> Act {
        match rng.random_range(0..100) {
            0..38 if self.means.tools => Act::Call(call(rng, format!("{id}-{n}"))),
            38..48 if self.means.tools => Act::CallAll {
                calls: (0..rng.random_range(1..=3))
                    .map(|part| call(rng, format!("{id}-{n}-{part}")))
                    .collect(),
            },
            48..52 if self.means.tools => Act::List,
            0..62 => Act::Llm {
                text: format!("[delay={}] what about {id}-{n}?", short(rng)),
            },
            62..70 => Act::Receive,
            70..80 if timers => Act::Timer {
                name: format!("t-{id}-{n}"),
                after_ms: short(rng) * 5,
                script: {
                    let acts = rng.random_range(0..=2);
                    // A timer's script may set another timer, but only to a bounded depth.
                    let again = id.matches('t').count() < 2;
                    self.acts(rng, format!("{id}-{n}t"), acts, again)
                },
            },
            80..84 => Act::Random,
            84..88 => Act::Clock,
            _ => Act::Say {
                text: format!("{id} says {n}"),
            },
        }
    }
}

fn call(rng: &mut StdRng, token: String) -> ScriptedCall {
    let tool = match rng.random_range(0..10) {
        0..6 => Tool::Record,
        6..9 => Tool::Note,
        _ => Tool::Look,
    };
    let mut sleep = || rng.random_bool(0.4).then(|| short(rng));
    ScriptedCall {
        tool: tool.name().to_owned(),
        token,
        sleep_ms: sleep(),
        sleep_after_ms: sleep(),
    }
}

/// Returns mostly a few milliseconds, at times many.
fn short(rng: &mut StdRng) -> u64 {
    let most = [5, 20, 80, 300][rng.random_range(0..4)];
    rng.random_range(0..=most)
}
