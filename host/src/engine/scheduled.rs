//! A guest's call in time slices: it computes only while it has a place in the run queue, and no longer in
//! all than its limit allows.
//!
//! ```text
//!   woken -> place? -> computes -+-> ended
//!     ^                          +-> waits for a step: the next stretch is brief
//!     |                          +-> slice over, it woke itself: its stretch goes on
//!     +--------------------------+
//! ```

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use futures::task::AtomicWaker;
use rustix::time::{ClockId, clock_gettime};

use super::run_queue::{RunQueue, Stretch, Ticket};
use super::runtime::SLICE;

/// How much of a call is measured by the wall clock, since to ask for processor time is a system call:
/// what others take from the processor meanwhile counts as the call's. Most calls end within.
const ROUGHLY_MEASURED: Duration = SLICE;

/// A guest's call, run in time slices. Resolves to an error once it has computed for longer than its limit.
pub(super) struct Scheduled<F> {
    call: F,
    limit: Duration,
    /// The processor time of the call, and of its present stretch; see [`ROUGHLY_MEASURED`].
    used: Duration,
    stretch: Duration,
    ticket: Ticket,
    signal: Arc<Signal>,
    waker: Waker,
}

/// The call used all the processor time that it may use.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OutOfTime;

/// Tells wakes of the call from others of the task that it is a part of.
struct Signal {
    woken: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<F: Future + Unpin> Scheduled<F> {
    pub(super) fn new(queue: Arc<RunQueue>, limit: Duration, call: F) -> Self {
        let signal = Arc::new(Signal {
            // A new call is ready to run.
            woken: AtomicBool::new(true),
            task: AtomicWaker::new(),
        });
        Self {
            call,
            limit,
            used: Duration::ZERO,
            stretch: Duration::ZERO,
            ticket: Ticket::new(queue),
            waker: signal.clone().into(),
            signal,
        }
    }
}

impl<F: Future + Unpin> Future for Scheduled<F> {
    type Output = Result<F::Output, OutOfTime>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        this.signal.task.register(context.waker());
        if !this.signal.woken.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        let stretch = match this.stretch > SLICE {
            true => Stretch::Long,
            false => Stretch::Brief,
        };
        let Some(place) = this.ticket.poll_place(stretch, context.waker()) else {
            return Poll::Pending;
        };
        this.signal.woken.store(false, Ordering::Release);
        let stopwatch = Stopwatch::start(this.used);
        let polled = Pin::new(&mut this.call).poll(&mut Context::from_waker(&this.waker));
        let used = stopwatch.elapsed();
        drop(place);
        if let Poll::Ready(ended) = polled {
            return Poll::Ready(Ok(ended));
        }
        this.used += used;
        if this.used > this.limit {
            return Poll::Ready(Err(OutOfTime));
        }
        let goes_on = this.signal.woken.load(Ordering::Acquire);
        this.stretch = if goes_on {
            this.stretch + used
        } else {
            Duration::ZERO
        };
        Poll::Pending
    }
}

/// Measures one poll of a call.
enum Stopwatch {
    Wall(Instant),
    /// Holds the thread's processor time at the start.
    Processor(Duration),
}

impl Stopwatch {
    /// Begins to measure a call that has used so much already.
    fn start(used: Duration) -> Self {
        match used < ROUGHLY_MEASURED {
            true => Self::Wall(Instant::now()),
            false => Self::Processor(processor_time()),
        }
    }

    fn elapsed(self) -> Duration {
        match self {
            Self::Wall(start) => start.elapsed().min(ROUGHLY_MEASURED),
            Self::Processor(start) => processor_time().saturating_sub(start),
        }
    }
}

/// Returns the processor time of this thread: what a busy machine takes from it is not the guest's.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures::FutureExt as _;

    use super::*;

    fn queue() -> Arc<RunQueue> {
        Arc::new(RunQueue::new(1))
    }

    fn compute() {
        let until = processor_time() + SLICE;
        while processor_time() < until {}
    }

    #[tokio::test]
    async fn a_call_ends_once_it_has_computed_too_long() {
        let limit = 3 * SLICE;
        let endless = poll_fn(|context| {
            compute();
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        let ended = Scheduled::new(queue(), limit, endless).await;
        assert_eq!(ended, Err(OutOfTime));
        // The end of a call that ends counts, however long it took.
        let long = poll_fn(|_| {
            (0..4).for_each(|_| compute());
            Poll::Ready(17)
        });
        assert_eq!(Scheduled::new(queue(), limit, long).await, Ok(17));
    }

    #[test]
    fn a_stretch_ends_when_the_call_waits_for_something() {
        let mut polls = 0;
        let call = poll_fn(|context: &mut Context<'_>| {
            compute();
            polls += 1;
            match polls {
                1 => context.waker().wake_by_ref(),
                2 => {}
                _ => return Poll::Ready(()),
            }
            Poll::Pending
        });
        let mut call = Scheduled::new(queue(), Duration::MAX, call);
        assert_eq!((&mut call).now_or_never(), None);
        assert!(call.stretch > Duration::ZERO);
        assert_eq!((&mut call).now_or_never(), None);
        assert_eq!(call.stretch, Duration::ZERO);
        assert!(call.used > SLICE);
        // What wakes only the task around it makes it do nothing.
        for _ in 0..5 {
            assert_eq!((&mut call).now_or_never(), None);
        }
        call.signal.wake_by_ref();
        assert_eq!((&mut call).now_or_never(), Some(Ok(())));
    }
}
