//! The supervisor's event loop: waits for events, lets the machine decide, executes its actions.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, getpid, getrlimit, set_child_subreaper, setrlimit};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGKILL, SIGTERM};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

use super::config_bytes::ConfigBytes;
use super::init;
use super::listen::Listeners;
use super::log_queue::LogQueue;
use super::machine::{
    Action, ExitStatus, Machine, MachineEvent, Replacement, SpawnMode, SupervisorMessage, WorkerId,
    WorkerMessage,
};
use super::message::{Connection, FromWorker, Start, ToWorker};
use super::oom_kills::{KilledBy, OomKills};
use super::own_time::OwnTime;
use super::peer::{LinkInput, Peer};
use super::process::{self, Binary};
use super::wire::WireFrame;
use super::wire_error::WireError;

/// The number of frames that are received from one worker before the next one has its turn.
const FRAMES_PER_TURN: usize = 64;
/// The most that waits to be written to standard error, in bytes: some thousand lines.
const LOG_BYTES: usize = 256 << 10;
/// How long the exit waits for standard error to take the last lines.
const LOG_PATIENCE: Duration = Duration::from_millis(250);

/// The options of a supervisor.
#[derive(Clone, Debug)]
pub struct Options {
    /// The path of the binary to start workers from. It is determined once: after an upgrade the
    /// path names another file, and a running process can no longer find out its own path.
    pub worker_exe: PathBuf,
    /// The arguments that make the binary run as a worker.
    pub worker_args: Vec<OsString>,
}

/// Supervises workers until it is stopped or the first worker cannot start, and returns the exit
/// code. Must be called from the main thread of a process that has no other threads and starts no
/// other processes: every descendant that belongs to no live worker is killed. Where this process has
/// children, or inherits those of others, it runs the program once more, without them.
pub fn run(options: Options) -> ExitCode {
    match LogQueue::for_process(LOG_BYTES) {
        Ok(log) if init::is_needed() => ExitCode::from(exit_code(init::run(), &log)),
        Ok(log) => ExitCode::from(supervise(options, log)),
        Err(code) => code,
    }
}

/// [`run`], with the exit code as a number.
pub(super) fn supervise(options: Options, log: LogQueue) -> u8 {
    let ended = Supervisor::new(options, log.clone()).and_then(Supervisor::run);
    exit_code(ended, &log)
}

/// Returns the exit code, once the log is written.
fn exit_code(ended: io::Result<u8>, log: &LogQueue) -> u8 {
    let code = ended.unwrap_or_else(|error| {
        log.log(&format!("the supervisor cannot go on: {error}"));
        1
    });
    log.flush(LOG_PATIENCE);
    code
}

/// The config and the binary of a worker. Editing or replacing files does not affect them.
#[derive(Debug)]
struct WorkerSpec {
    config: ConfigBytes,
    binary: Rc<Binary>,
}

impl PartialEq for WorkerSpec {
    fn eq(&self, other: &Self) -> bool {
        let same = || Some(self.config.read().ok()? == other.config.read().ok()?);
        self.binary == other.binary && same() == Some(true)
    }
}

type ConfigHandle = Rc<WorkerSpec>;

struct Supervisor {
    options: Options,
    log: LogQueue,
    time: OwnTime,
    machine: Machine<ConfigHandle>,
    signals: SignalDelivery<UnixStream, SignalOnly>,
    oom_kills: OomKills,
    /// See [`Start::acknowledged`].
    acknowledged: Option<OwnedFd>,
    peers: BTreeMap<WorkerId, Peer>,
    listeners: Listeners,
    buffer: Vec<u8>,
    /// Events that result from executing actions. They are fed to the machine after the present
    /// actions are done.
    outcomes: VecDeque<MachineEvent<ConfigHandle>>,
    exit: Option<u8>,
}

/// The part of a message that the machine does not need to decide, but that its actions need. It is
/// passed along with the event.
enum AtHand {
    Nothing,
    Connection(Connection),
    InUse(Vec<String>),
}

impl Supervisor {
    fn new(options: Options, log: LogQueue) -> io::Result<Self> {
        set_child_subreaper(Some(getpid()))?;
        raise_descriptor_limit();
        let (read, write) = UnixStream::pair()?;
        let signals =
            SignalDelivery::with_pipe(read, write, SignalOnly, [SIGTERM, SIGINT, SIGHUP, SIGCHLD])?;
        let (machine, first) = Machine::new();
        let mut supervisor = Self {
            options,
            log,
            time: OwnTime::start(),
            machine,
            signals,
            oom_kills: OomKills::open(),
            // Without it, workers know what their folder tells.
            acknowledged: memfd_create("abide-acknowledged", MemfdFlags::CLOEXEC).ok(),
            peers: BTreeMap::new(),
            listeners: Listeners::default(),
            buffer: Vec::new(),
            outcomes: VecDeque::new(),
            exit: None,
        };
        supervisor.act(first, AtHand::Nothing);
        Ok(supervisor)
    }

    /// Runs the event loop. The order is: first messages, then deaths, then the clock, since a
    /// deadline must not overtake a message that arrived in time.
    fn run(mut self) -> io::Result<u8> {
        loop {
            while let Some(event) = self.outcomes.pop_front() {
                self.feed(event, AtHand::Nothing);
            }
            if let Some(code) = self.exit {
                return Ok(code);
            }
            // Here, since workers' heartbeats end each wait within a second or so.
            self.oom_kills.observe();
            for id in self.wait()? {
                self.flush(id);
                self.receive(id, FRAMES_PER_TURN);
            }
            self.take_signals();
            self.end_the_stuck();
            self.feed(MachineEvent::Tick, AtHand::Nothing);
        }
    }

    /// Waits for a signal, a message, room to send, or a deadline. Returns the workers whose links
    /// are ready.
    fn wait(&mut self) -> io::Result<Vec<WorkerId>> {
        let listen = !self.peers.values().any(Peer::congested);
        let mut fds = vec![PollFd::new(self.signals.get_read(), PollFlags::IN)];
        let mut ids = Vec::new();
        for (id, peer) in self.peers.iter().filter(|(_, peer)| !peer.closed) {
            fds.push(PollFd::new(&peer.link, peer.interest(listen)));
            ids.push(*id);
        }
        let planned = self.timeout();
        let timeout = planned.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        let began = Instant::now();
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let links = fds.iter().skip(1).zip(ids);
        let ready = links
            .filter_map(|(fd, id)| (!fd.revents().is_empty()).then_some(id))
            .collect();
        let not_counted = self.time.waited(planned, began.elapsed());
        let peers = self.peers.values_mut();
        peers.for_each(|peer| peer.bear_with(not_counted));
        Ok(ready)
    }

    fn timeout(&self) -> Option<Duration> {
        let machine = self.machine.next_deadline().map(|at| self.time.until(at));
        let patience = self.peers.values().filter_map(Peer::patience);
        patience.chain(machine).min()
    }

    fn take_signals(&mut self) {
        let signals: Vec<_> = self.signals.pending().collect();
        for signal in signals {
            match signal {
                SIGTERM | SIGINT => self.feed(MachineEvent::Terminate, AtHand::Nothing),
                SIGHUP => self.feed(MachineEvent::Hangup, AtHand::Nothing),
                _ => self.reap(),
            }
        }
    }

    fn reap(&mut self) {
        while let Some((pid, death)) = process::reap() {
            let found = self.peers.iter().find(|(_, peer)| peer.pid == pid);
            // An orphan of a worker only needs to be reaped.
            if let Some(id) = found.map(|(id, _)| *id) {
                // Receive its last messages before its death. Their number is bounded by the
                // kernel's buffer.
                self.receive(id, usize::MAX);
                self.listeners.gone(id);
                let death = match death {
                    ExitStatus::Signal { number, .. } if i32::from(number) == SIGKILL => {
                        match self.oom_kills.explain_death() {
                            KilledBy::Kernel => ExitStatus::OutOfMemory,
                            KilledBy::Other => death,
                            KilledBy::Unknown => ExitStatus::Unaccounted,
                        }
                    }
                    death => death,
                };
                self.feed(MachineEvent::Gone(id, death), AtHand::Nothing);
                // Only now, since the log lines about its death contain its process id.
                self.peers.remove(&id);
            }
        }
    }

    fn end_the_stuck(&mut self) {
        let stuck: Vec<WorkerId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.patience() == Some(Duration::ZERO))
            .map(|(id, _)| *id)
            .collect();
        for id in stuck {
            let reason = "did not read what it was told".to_owned();
            self.feed(MachineEvent::Broken(id, reason), AtHand::Nothing);
        }
    }

    /// Receives and handles up to `limit` messages of a worker.
    fn receive(&mut self, id: WorkerId, limit: usize) {
        for _ in 0..limit {
            let Some(peer) = self.peers.get_mut(&id) else {
                return;
            };
            match peer.next(&mut self.buffer) {
                LinkInput::Frame(frame) => self.message(id, frame),
                LinkInput::Nothing => return,
                LinkInput::Closed => self.feed(MachineEvent::Closed(id), AtHand::Nothing),
                LinkInput::Broken(reason) => self.broken(id, &reason),
            }
        }
    }

    fn message(&mut self, id: WorkerId, frame: WireFrame) {
        let message = match FromWorker::decode(frame) {
            Ok(message) => message,
            Err(WireError::UnknownKind(kind)) => {
                let text = format!("said something of the unknown kind {kind}, which is ignored");
                return self.log(Some(id), &text);
            }
            Err(error) => return self.broken(id, &error.to_string()),
        };
        let (message, at_hand) = match message {
            FromWorker::Listening { addr, fd } => {
                if let Err(reason) = self.listeners.announce(id, addr, fd) {
                    self.broken(id, &reason);
                }
                return;
            }
            FromWorker::LogFormat(format) => return self.log.set_format(format),
            FromWorker::Serving(serving) => {
                let Some(config) = self.makings_of(id, serving.config) else {
                    return;
                };
                let stop_budget = serving.stop_budget_ms;
                let message = WorkerMessage::Serving {
                    stop_budget,
                    config,
                };
                (message, AtHand::InUse(serving.listeners))
            }
            FromWorker::LastGood(config) => {
                let Some(config) = self.makings_of(id, config) else {
                    return;
                };
                (WorkerMessage::LastGood(config), AtHand::Nothing)
            }
            FromWorker::Proven => (WorkerMessage::Proven, AtHand::Nothing),
            FromWorker::Replace(replace) => match self.makings_now(replace.config) {
                Ok(config) => (
                    WorkerMessage::Replace(Replacement {
                        generation: replace.generation,
                        config,
                        info: replace.info,
                    }),
                    AtHand::Nothing,
                ),
                Err(error) => {
                    let exe = self.options.worker_exe.display();
                    let failed = ToWorker::StandbyFailed {
                        generation: replace.generation,
                        reason: format!("the binary {exe} cannot be opened: {error}"),
                    };
                    return self.send(id, failed);
                }
            },
            FromWorker::Connection(connection) => {
                (WorkerMessage::Connection, AtHand::Connection(connection))
            }
            FromWorker::StandbyReady => (WorkerMessage::StandbyReady, AtHand::Nothing),
            FromWorker::StandbyFailed { reason } => {
                (WorkerMessage::StandbyFailed { reason }, AtHand::Nothing)
            }
            FromWorker::CancelReplace => (WorkerMessage::CancelReplace, AtHand::Nothing),
            FromWorker::Released => (WorkerMessage::Released, AtHand::Nothing),
            FromWorker::Stopped => (WorkerMessage::Stopped, AtHand::Nothing),
            FromWorker::Fatal { reason, code } => {
                (WorkerMessage::Fatal { reason, code }, AtHand::Nothing)
            }
            FromWorker::Mending => (WorkerMessage::Mending, AtHand::Nothing),
            FromWorker::Alive => (WorkerMessage::Alive, AtHand::Nothing),
        };
        self.feed(MachineEvent::Message(id, message), at_hand);
    }

    fn broken(&mut self, id: WorkerId, reason: &str) {
        let reason = format!("broke the supervisor's protocol ({reason})");
        self.feed(MachineEvent::Broken(id, reason), AtHand::Nothing);
    }

    fn feed(&mut self, event: MachineEvent<ConfigHandle>, at_hand: AtHand) {
        let actions = self.machine.step(self.time.now(), event);
        self.act(actions, at_hand);
    }

    fn act(&mut self, actions: Vec<Action<ConfigHandle>>, mut at_hand: AtHand) {
        for action in actions {
            match action {
                Action::Spawn(id, birth) => self.spawn(id, birth),
                Action::Send(id, tell) => self.send(id, message_of(tell)),
                Action::Relay(id) => {
                    if let AtHand::Connection(connection) =
                        std::mem::replace(&mut at_hand, AtHand::Nothing)
                    {
                        self.send(id, ToWorker::Connection(connection));
                    }
                }
                Action::Settle(id) => {
                    if let AtHand::InUse(addrs) = &at_hand {
                        self.listeners.settle(id, addrs);
                    }
                }
                Action::Kill(id) => {
                    if let Some(peer) = self.peers.get(&id) {
                        process::kill(peer.pid);
                    }
                }
                Action::Sweep(releasing) => {
                    let live: Vec<Pid> = self.peers.values().map(|peer| peer.pid).collect();
                    let releasing = releasing.and_then(|id| Some(self.peers.get(&id)?.pid));
                    process::sweep(&live, releasing);
                }
                Action::Log(id, text) => self.log(id, &text),
                Action::Exit(code) => self.exit = Some(code),
            }
        }
    }

    fn spawn(&mut self, id: WorkerId, birth: SpawnMode<ConfigHandle>) {
        if let Err(reason) = self.try_spawn(id, birth) {
            self.outcomes
                .push_back(MachineEvent::Gone(id, ExitStatus::NotStarted(reason)));
        }
    }

    /// Returns a worker's own binary together with a configuration that it has sent.
    fn makings_of(&self, id: WorkerId, config: ConfigBytes) -> Option<ConfigHandle> {
        let binary = self.peers.get(&id)?.binary.clone();
        Some(Rc::new(WorkerSpec { config, binary }))
    }

    /// Returns the binary that the path names now together with a configuration.
    fn makings_now(&self, config: ConfigBytes) -> io::Result<ConfigHandle> {
        let binary = Rc::new(Binary::open(&self.options.worker_exe)?);
        Ok(Rc::new(WorkerSpec { config, binary }))
    }

    fn try_spawn(&mut self, id: WorkerId, birth: SpawnMode<ConfigHandle>) -> Result<(), String> {
        let exe = self.options.worker_exe.clone();
        let text = |error: io::Error| format!("{}: {error}", exe.display());
        let binary = match &birth.config {
            Some(makings) => makings.binary.clone(),
            None => Rc::new(Binary::open(&exe).map_err(text)?),
        };
        let start = self.start(birth).map_err(|error| error.to_string())?;
        let frame = ToWorker::Start(start).encode();
        let frame = frame.map_err(|error| error.to_string())?;
        let (pid, link) = process::spawn(&binary, &exe, &self.options.worker_args).map_err(text)?;
        self.peers.insert(id, Peer::new(pid, link, binary));
        self.send_frame(id, frame);
        Ok(())
    }

    fn start(&self, birth: SpawnMode<ConfigHandle>) -> io::Result<Start> {
        let config = birth.config.map(|makings| makings.config.try_clone());
        let acknowledged = self.acknowledged.as_ref().map(OwnedFd::try_clone);
        Ok(Start {
            mode: birth.mode,
            cause: birth.cause,
            generation: birth.generation,
            supervisor_pid: std::process::id(),
            config: config.transpose()?,
            listeners: self.listeners.handles()?,
            info: birth.info,
            acknowledged: acknowledged.transpose()?,
        })
    }

    fn send(&mut self, id: WorkerId, message: ToWorker) {
        match message.encode() {
            Ok(frame) => self.send_frame(id, frame),
            // Not expected: reasons are truncated, and connections were within the limits when
            // they were received.
            Err(error) => self.log(Some(id), &format!("could not be told something: {error}")),
        }
    }

    fn send_frame(&mut self, id: WorkerId, frame: WireFrame) {
        if let Some(Err(error)) = self.peers.get_mut(&id).map(|peer| peer.send(frame)) {
            self.unreachable(id, error);
        }
    }

    fn flush(&mut self, id: WorkerId) {
        if let Some(Err(error)) = self.peers.get_mut(&id).map(Peer::flush) {
            self.unreachable(id, error);
        }
    }

    fn unreachable(&mut self, id: WorkerId, error: Errno) {
        let reason = format!("could not be sent a message ({error})");
        self.outcomes.push_back(MachineEvent::Broken(id, reason));
    }

    fn log(&self, id: Option<WorkerId>, text: &str) {
        match id.map(|id| self.peers.get(&id)) {
            Some(Some(peer)) => self
                .log
                .log(&format!("worker {} {text}", peer.pid.as_raw_pid())),
            Some(None) => self.log.log(&format!("a worker {text}")),
            None => self.log.log(text),
        }
    }
}

fn message_of(tell: SupervisorMessage) -> ToWorker {
    match tell {
        SupervisorMessage::Go(cause) => ToWorker::Go { cause },
        SupervisorMessage::StandbyReady { generation } => ToWorker::StandbyReady { generation },
        SupervisorMessage::StandbyFailed { generation, reason } => {
            ToWorker::StandbyFailed { generation, reason }
        }
        SupervisorMessage::Stop => ToWorker::Stop,
        SupervisorMessage::Reload => ToWorker::Reload,
    }
}

/// Raises the limit of open descriptors to its maximum: connections that are passed between workers
/// are descriptors of this process, and workers inherit the limit. If the kernel refuses, the limit
/// stays as it is.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}
