//! Patience with files that may not answer: on a network file system whose server is gone, a call does not
//! return, and cannot be given up. So it is made on a thread of its own, which is left behind.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How long a call for a file may do nothing. Longer than it takes to mount a file system when it is
/// needed, shorter than what is taken for a hang of this daemon.
const PATIENCE: Duration = Duration::from_secs(5);

/// The folders with files that have not answered, with the number of calls that still wait there. Other
/// files of such a folder are not asked for, so that nothing waits again, and threads do not pile up.
static SILENT: Mutex<BTreeMap<PathBuf, usize>> = Mutex::new(BTreeMap::new());

/// What a call's thread says.
enum Word<T> {
    /// It comes further.
    Beat,
    End(io::Result<T>),
}

/// Makes calls for a file, and waits for them as long as they come further, which `act` says by calling
/// what it is given.
///
/// # Errors
/// Those of `act`, and [`io::ErrorKind::TimedOut`] if nothing was heard of it for five seconds, or if
/// another file in the folder still does not answer.
pub(crate) fn patiently<T: Send + 'static>(
    file: &Path,
    act: impl FnOnce(&Path, &dyn Fn()) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    patiently_within(PATIENCE, file, act)
}

fn patiently_within<T: Send + 'static>(
    patience: Duration,
    file: &Path,
    act: impl FnOnce(&Path, &dyn Fn()) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let folder = file.parent().unwrap_or(file).to_owned();
    if silent().contains_key(&folder) {
        return Err(late(patience));
    }
    let (sender, words) = channel();
    let path = file.to_owned();
    let given_up = Arc::new(AtomicBool::new(false));
    let is_given_up = given_up.clone();
    let call = move || {
        let ended = act(&path, &|| {
            // Nobody listens any more if it was given up.
            let _ = sender.send(Word::Beat);
        });
        // Whether it is given up is decided under the same lock.
        let mut silent = silent();
        match is_given_up.load(Ordering::Relaxed) {
            true => answered(&mut silent, &path),
            false => drop(sender.send(Word::End(ended))),
        }
    };
    thread::Builder::new().name("file".to_owned()).spawn(call)?;
    loop {
        match words.recv_timeout(patience) {
            Ok(Word::Beat) => {}
            Ok(Word::End(ended)) => return ended,
            Err(RecvTimeoutError::Timeout) => {
                let mut silent = silent();
                // Its last word may just have come.
                let last = std::iter::from_fn(|| words.try_recv().ok());
                if let Some(Word::End(ended)) = last.last() {
                    return ended;
                }
                given_up.store(true, Ordering::Relaxed);
                *silent.entry(folder).or_default() += 1;
                return Err(late(patience));
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(io::Error::other("its thread ended early"));
            }
        }
    }
}

fn silent() -> MutexGuard<'static, BTreeMap<PathBuf, usize>> {
    // Poisoning is harmless: each change is one call.
    SILENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts a call that was given up, and has returned after all.
fn answered(silent: &mut BTreeMap<PathBuf, usize>, file: &Path) {
    let folder = file.parent().unwrap_or(file);
    if let Some(count) = silent.get_mut(folder) {
        *count -= 1;
        if *count == 0 {
            silent.remove(folder);
        }
    }
}

fn late(patience: Duration) -> io::Error {
    let text = format!("it does not answer within {} s", patience.as_secs_f64());
    io::Error::new(io::ErrorKind::TimedOut, text)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;
    use std::time::Instant;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(100);

    #[test]
    fn an_answer_is_returned_and_one_that_comes_further_is_waited_for() {
        // In all longer than the patience, and each part much shorter, for a busy machine.
        let patience = 20 * MOMENT;
        let read = patiently_within(patience, Path::new("/answers/a"), |file, beat| {
            for _ in 0..25 {
                thread::sleep(MOMENT);
                beat();
            }
            Ok(file.to_owned())
        });
        assert_eq!(read.expect("it came further"), Path::new("/answers/a"));
        let error = patiently(Path::new("/answers/a"), |_, _| {
            Err::<(), _>(io::ErrorKind::NotFound.into())
        });
        assert_eq!(
            error.expect_err("it said so").kind(),
            io::ErrorKind::NotFound
        );
    }

    #[test]
    fn what_does_not_answer_is_given_up_once_and_asked_for_again_when_it_has_answered() {
        let (let_go, held) = sync_channel::<()>(0);
        let hung = patiently_within(MOMENT, Path::new("/hung/a"), move |_, _| {
            let _ = held.recv();
            Ok(())
        });
        assert_eq!(hung.expect_err("it hangs").kind(), io::ErrorKind::TimedOut);
        let began = Instant::now();
        let beside = patiently(Path::new("/hung/b"), |_, _| Ok(()));
        assert_eq!(
            beside.expect_err("it hangs").kind(),
            io::ErrorKind::TimedOut
        );
        assert!(began.elapsed() < PATIENCE, "nothing waits again");
        assert!(patiently(Path::new("/other/b"), |_, _| Ok(())).is_ok());
        drop(let_go);
        while patiently(Path::new("/hung/b"), |_, _| Ok(())).is_err() {
            thread::yield_now();
        }
    }
}
