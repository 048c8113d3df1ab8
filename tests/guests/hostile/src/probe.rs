//! Probes what a guest can learn about the world without the contract.

use std::collections::hash_map::RandomState;
use std::env;
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::net::{TcpStream, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// How long [`time`] sleeps.
const SLEEP: Duration = Duration::from_secs(3600);

fn outcome<T>(result: std::io::Result<T>) -> String {
    match result {
        Ok(_) => "opened".to_owned(),
        Err(error) => format!("failed ({:?})", error.kind()),
    }
}

/// Returns `env=N args=N file=... tcp=... dns=...`: the number of variables and arguments, and
/// whether a file, a socket and a name lookup succeeded.
pub(crate) fn environment() -> String {
    format!(
        "env={} args={} file={} tcp={} dns={}",
        env::vars_os().count(),
        env::args_os().count(),
        outcome(File::open("/etc/passwd")),
        outcome(TcpStream::connect("127.0.0.1:1")),
        outcome(("localhost", 80).to_socket_addrs()),
    )
}

/// Returns `before=MS after=MS elapsed=MS`: the wall clock before and after a sleep of an hour,
/// since the Unix epoch, and the duration by the monotonic clock.
pub(crate) fn time() -> String {
    let started = Instant::now();
    let before = unix_ms();
    thread::sleep(SLEEP);
    let after = unix_ms();
    let elapsed = started.elapsed().as_millis();
    format!("before={before} after={after} elapsed={elapsed}")
}

fn unix_ms() -> u128 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |since| since.as_millis())
}

/// Returns two numbers that are seeded by the host's randomness.
pub(crate) fn random() -> String {
    let number = || RandomState::new().build_hasher().finish();
    format!("{} {}", number(), number())
}
