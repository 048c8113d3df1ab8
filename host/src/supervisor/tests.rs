//! A real supervisor with real workers. Both are this test executable, started again in a role. The
//! worker is a small server that executes the commands of its clients, one per line.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio, exit};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::run::supervise;
use super::*;

const ROLE: &str = "ABIDE_TEST_ROLE";
const ADDR: &str = "127.0.0.1:0";
/// The timeout of all waits, far longer than any of them takes.
const PATIENCE: Duration = Duration::from_secs(30);

fn arguments(role: &str) -> [String; 4] {
    let name = format!("supervisor::tests::{role}");
    [
        name,
        "--exact".into(),
        "--ignored".into(),
        "--nocapture".into(),
    ]
}

#[test]
#[ignore = "a role that the other tests start"]
fn role_supervisor() {
    if std::env::var_os(ROLE).is_some() {
        // The test harness's own thread only waits for this one, so it does no harm.
        let options = Options {
            worker_exe: std::env::current_exe().unwrap(),
            worker_args: arguments("role_worker").map(Into::into).to_vec(),
        };
        let code = supervise(options, LogQueue::start(1 << 20).unwrap());
        exit(code.into());
    }
}

#[test]
#[ignore = "a role that the other tests start"]
fn role_worker() {
    if std::env::var_os(ROLE).is_some() {
        let (link, start) = connect().unwrap();
        Server::new(link, start).run();
    }
}

/// The worker. It serves on its listener, and hands idle connections over at a restart.
struct Server {
    link: Link,
    listener: TcpListener,
    config: String,
    cause: StartCause,
    /// Connections that are between two lines.
    idle: Mutex<Vec<TcpStream>>,
    last_failure: Mutex<String>,
    /// Held for reading while a line is handled, and for writing, for good, once the worker drains.
    working: RwLock<()>,
}

impl Server {
    fn new(link: Link, mut start: Start) -> Arc<Self> {
        let fd = match start.listeners.pop() {
            Some((addr, fd)) => {
                assert_eq!(addr, ADDR);
                fd
            }
            None => {
                let fd = bind_listener(ADDR.parse().unwrap()).unwrap();
                let addr = ADDR.to_owned();
                let copy = fd.try_clone().unwrap();
                link.send(FromWorker::Listening { addr, fd: copy }).unwrap();
                fd
            }
        };
        let listener = TcpListener::from(fd);
        listener.set_nonblocking(false).unwrap();
        let config = start
            .config
            .map_or(b"first".to_vec(), |config| config.read().unwrap());
        let mut server = Self {
            link,
            listener,
            config: String::from_utf8(config).unwrap(),
            cause: start.cause,
            idle: Mutex::default(),
            last_failure: Mutex::default(),
            working: RwLock::default(),
        };
        if start.mode == Mode::Standby {
            server.stand_by();
        }
        Arc::new(server)
    }

    fn stand_by(&mut self) {
        if self.config == "broken" {
            let reason = "the config is broken".to_owned();
            self.link
                .send(FromWorker::StandbyFailed { reason })
                .unwrap();
            exit(1);
        }
        self.link.send(FromWorker::StandbyReady).unwrap();
        loop {
            match self.link.recv().unwrap() {
                ToWorker::Go { cause } => {
                    self.cause = cause;
                    return;
                }
                ToWorker::Connection(connection) => {
                    assert_eq!(connection.prefix, b"wh");
                    assert_eq!(connection.addr, ADDR);
                    let idle = self.idle.get_mut().unwrap();
                    idle.push(connection.fd.into());
                }
                other => panic!("a standby was told {other:?}"),
            }
        }
    }

    fn run(self: Arc<Self>) {
        self.link
            .send(FromWorker::Serving(Serving {
                stop_budget_ms: 10_000,
                config: ConfigBytes::new(self.config.as_bytes()).unwrap(),
                listeners: vec![ADDR.to_owned()],
            }))
            .unwrap();
        // On a machine with one processor, the test's name stands on the line before its end.
        println!("\nPORT {}", self.listener.local_addr().unwrap().port());
        for stream in std::mem::take(&mut *self.idle.lock().unwrap()) {
            self.serve(stream, "wh".to_owned());
        }
        let accepting = self.clone();
        std::thread::spawn(move || {
            for stream in accepting.listener.incoming() {
                accepting.serve(stream.unwrap(), String::new());
            }
        });
        // The loop, and so the worker, ends when the supervisor is gone.
        while let Ok(message) = self.link.recv() {
            match message {
                ToWorker::StandbyReady { .. } => {
                    let _drained = self.working.write().unwrap();
                    for stream in self.idle.lock().unwrap().drain(..) {
                        let connection = Connection {
                            prefix: b"wh".to_vec(),
                            addr: ADDR.to_owned(),
                            fd: OwnedFd::from(stream),
                        };
                        self.link.send(FromWorker::Connection(connection)).unwrap();
                    }
                    self.link.send(FromWorker::Released).unwrap();
                    exit(0);
                }
                ToWorker::StandbyFailed { generation, reason } => {
                    *self.last_failure.lock().unwrap() = format!("{generation}: {reason}");
                }
                ToWorker::Stop => {
                    self.link.send(FromWorker::Stopped).unwrap();
                    exit(0);
                }
                other => panic!("the serving worker was told {other:?}"),
            }
        }
    }

    fn serve(self: &Arc<Self>, stream: TcpStream, received: String) {
        let server = self.clone();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut line = received;
            while reader.read_line(&mut line).unwrap_or(0) > 0 {
                let _working = server.working.read().unwrap();
                let idle = line.trim() == "idle";
                if idle {
                    let copy = stream.try_clone().unwrap();
                    server.idle.lock().unwrap().push(copy);
                }
                // The client may have disconnected.
                let _ = writeln!(&stream, "{}", server.answer(line.trim()));
                if idle {
                    return;
                }
                line.clear();
            }
        });
    }

    fn answer(&self, line: &str) -> String {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let me = std::process::id();
        match word {
            "who" => format!("{me} {} {:?}", self.config, self.cause),
            "failure" => self.last_failure.lock().unwrap().clone(),
            "idle" => "idle".to_owned(),
            "abort" => std::process::abort(),
            "orphan" => {
                let mut shell = Command::new("sh");
                shell.args(["-c", "sleep 1000 >/dev/null 2>&1 & echo $!"]);
                let output = shell.output().unwrap();
                String::from_utf8(output.stdout).unwrap().trim().to_owned()
            }
            "replace" => {
                let replace = Replace {
                    generation: 7,
                    config: ConfigBytes::new(rest.as_bytes()).unwrap(),
                    info: b"info".to_vec(),
                };
                self.link.send(FromWorker::Replace(replace)).unwrap();
                "asked".to_owned()
            }
            other => panic!("a client said {other:?}"),
        }
    }
}

/// A supervisor process and the port that its workers serve on.
struct Daemon {
    supervisor: Child,
    port: u16,
}

impl Daemon {
    fn start() -> Self {
        let mut supervisor = Command::new(std::env::current_exe().unwrap())
            .args(arguments("role_supervisor"))
            .env(ROLE, "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(supervisor.stdout.take().unwrap()).lines();
        let port = lines
            .find_map(|line| line.unwrap().strip_prefix("PORT ")?.parse().ok())
            .unwrap();
        // Keep draining the pipe, so that no worker finds it closed or full.
        std::thread::spawn(move || lines.for_each(drop));
        Self { supervisor, port }
    }

    fn connect(&self) -> TcpStream {
        // The connection is never refused, whatever happens to the workers.
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends a line on a new connection and returns the reply. Retries if the worker dies.
    fn ask(&self, line: &str) -> String {
        loop {
            let stream = self.connect();
            if let Some(answer) = ask_on(&stream, line) {
                return answer;
            }
        }
    }

    /// Sends a line until the reply is as wanted.
    fn ask_until(&self, line: &str, wanted: impl Fn(&str) -> bool) -> String {
        wait_for(line, || {
            Some(self.ask(line)).filter(|answer| wanted(answer))
        })
    }

    /// Waits until the supervisor holds only the sockets and memory files that it needs: two for
    /// signals, the listener, the worker's link, the config, the last acknowledged write.
    fn leaks_nothing(&self) {
        let folder = format!("/proc/{}/fd", self.supervisor.id());
        wait_for("descriptors", || {
            let links = std::fs::read_dir(&folder).unwrap().flatten();
            let held = links.filter_map(|link| std::fs::read_link(link.path()).ok());
            let held = held.filter_map(|target| target.to_str().map(str::to_owned));
            let passed = |name: &String| name.starts_with("socket:") || name.contains("memfd:");
            (held.filter(passed).count() == 6).then_some(())
        });
    }

    fn signal(&self, signal: Signal) {
        kill_process(pid_of(&self.supervisor.id().to_string()), signal).unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Its workers die with it.
        let _ = self.supervisor.kill();
        let _ = self.supervisor.wait();
    }
}

fn ask_on(stream: &TcpStream, line: &str) -> Option<String> {
    let mut answer = String::new();
    writeln!(&*stream, "{line}").ok()?;
    BufReader::new(stream).read_line(&mut answer).ok()?;
    answer.strip_suffix('\n').map(str::to_owned)
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(since.elapsed() < PATIENCE, "{what}: waited in vain");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Parses the process id in the first word of a reply.
fn pid_of(answer: &str) -> Pid {
    let pid = answer.split(' ').next().unwrap().parse().unwrap();
    Pid::from_raw(pid).unwrap()
}

fn is_gone(pid: Pid) -> Option<()> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat", pid = pid.as_raw_pid()));
    // A zombie counts as gone: its parent may reap it later.
    let gone = stat.map_or(true, |stat| stat.contains(") Z "));
    gone.then_some(())
}

#[test]
fn many_restarts_refuse_nobody_and_leak_nothing() {
    let mut daemon = Daemon::start();
    assert!(daemon.ask("who").ends_with(" first First"));
    for round in 0..20 {
        let idle = daemon.connect();
        assert_eq!(ask_on(&idle, "idle").as_deref(), Some("idle"));
        daemon.ask(&format!("replace config{round}"));
        let who = daemon.ask_until("who", |who| who.contains(&format!("config{round} ")));
        assert!(who.ends_with(" Planned"), "{who}");
        // The idle connection was handed over, with the first bytes of a line.
        assert_eq!(ask_on(&idle, "o"), Some(who));
    }
    daemon.leaks_nothing();

    daemon.ask("replace broken");
    let failure = daemon.ask_until("failure", |failure| !failure.is_empty());
    assert_eq!(failure, "7: the config is broken");
    assert!(daemon.ask("who").contains(" config19 "));
    daemon.leaks_nothing();

    daemon.signal(Signal::TERM);
    assert_eq!(daemon.supervisor.wait().unwrap().code(), Some(0));
}

#[test]
fn a_crash_is_told_from_a_kill_and_leaves_no_orphans() {
    let daemon = Daemon::start();
    daemon.ask("replace second");
    let first = daemon.ask_until("who", |who| who.contains(" second "));

    let orphan = pid_of(&daemon.ask("orphan"));
    assert_eq!(is_gone(orphan), None);
    kill_process(pid_of(&first), Signal::KILL).unwrap();
    let second = daemon.ask_until("who", |who| pid_of(who) != pid_of(&first));
    let cause = r#" second Crash { own_doing: false, detail: "died of SIGKILL" }"#;
    assert!(second.ends_with(cause), "{second}");
    wait_for("the orphan's end", || is_gone(orphan));

    assert_eq!(ask_on(&daemon.connect(), "abort"), None);
    let third = daemon.ask_until("who", |who| pid_of(who) != pid_of(&second));
    let cause = r#" second Crash { own_doing: true, detail: "died of SIGABRT" }"#;
    assert!(third.ends_with(cause), "{third}");
}

#[test]
fn workers_do_not_outlive_their_supervisor() {
    let daemon = Daemon::start();
    let worker = pid_of(&daemon.ask("who"));
    daemon.signal(Signal::KILL);
    wait_for("the worker's end", || is_gone(worker));
}
