//! Components that are expensive to compile: the limits hold, what runs is not touched, and no compiler is
//! left behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use abide_tests::{
    Daemon, How, Prober, Setup, Signal, arguments, descendants, gone, guest, signal, until,
};
use serde_json::json;

/// How long a request may take while something else is compiled.
const SOON: Duration = Duration::from_secs(5);

/// Appends a number in LEB128.
fn leb(bytes: &mut Vec<u8>, mut number: usize) {
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            return bytes.push(low);
        }
        bytes.push(low | 0x80);
    }
}

/// Returns `content` behind its length.
fn sized(content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    leb(&mut bytes, content.len());
    bytes.extend(content);
    bytes
}

/// Returns the guest `echo` with one more core module, which it never uses: of so many functions, each with
/// so many rounds of arithmetic. It passes each check by names.
fn costly(functions: usize, rounds: usize) -> Vec<u8> {
    // x = x * y + x, y = y ^ x; of 64-bit locals.
    const ROUND: &[u8] = &[
        0x20, 0, 0x20, 1, 0x7e, 0x20, 0, 0x7c, 0x21, 0, 0x20, 1, 0x20, 0, 0x85, 0x21, 1,
    ];
    let body = [&[0][..], &ROUND.repeat(rounds), &[0x20, 1, 0x0b]].concat();
    let section = |id: u8, content: &[u8]| [&[id][..], &sized(content)].concat();
    let many = |each: &[u8]| {
        let mut bytes = Vec::new();
        leb(&mut bytes, functions);
        bytes.extend(each.repeat(functions));
        bytes
    };
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        // One type: (i64, i64) -> i64.
        section(1, &[1, 0x60, 2, 0x7e, 0x7e, 1, 0x7e]),
        section(3, &many(&[0])),
        section(10, &many(&sized(&body))),
    ]
    .concat();
    let echo = fs::read(guest("echo")).expect("the guests are built");
    [echo, section(1, &module)].concat()
}

/// Takes minutes to compile on any machine.
fn endless() -> Vec<u8> {
    costly(400, 20_000)
}

fn written(folder: &Path, component: &[u8]) -> PathBuf {
    let path = folder.join("costly.wasm");
    fs::write(&path, component).expect("the folder is ours");
    path
}

/// Returns the compilers that run below the daemon.
fn compilers(daemon: &Daemon) -> Vec<i32> {
    let pids = descendants(daemon.supervisor_pid()).into_iter();
    pids.filter(|pid| {
        arguments(*pid)
            .get(1)
            .is_some_and(|word| word == Path::new("compile"))
    })
    .collect()
}

async fn a_compiler(daemon: &Daemon) -> i32 {
    until("a compiler", async || compilers(daemon).first().copied()).await
}

async fn refused_for(daemon: &Daemon, what: &str) -> String {
    until(&format!("a refusal that names {what}"), async || {
        let status = daemon.status().await;
        let error = status["config"]["last_error"].to_string();
        error.contains(what).then_some(error)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_is_too_expensive_to_compile_is_refused_while_sessions_answer() {
    let setup = Setup {
        daemon: vec!["compile_timeout = \"3s\"".to_owned()],
        ..Setup::default()
    };
    let mut daemon = Daemon::start(setup).await;
    let client = daemon.client();
    client.open("s", "echo").await;
    let worker = daemon.worker_pid().await;
    let path = written(daemon.folder(), &endless());

    daemon.edit(How::Rename, |setup| setup.spare_path = Some(path));
    let compiler = a_compiler(&daemon).await;
    let probes =
        Prober::on_one_connection(daemon.setup.port, "/healthz", Duration::from_millis(50));
    assert_eq!(client.chat("s", "one").await.said(), ["#1 user: one"]);
    let environment = fs::read(format!("/proc/{compiler}/environ")).unwrap_or_default();
    let environment = String::from_utf8_lossy(&environment).into_owned();
    // What the loader may need is all that it gets; `cargo test` sets it.
    let more = environment
        .split_terminator('\0')
        .find(|variable| !variable.starts_with("LD_LIBRARY_PATH="));
    assert_eq!(more, None);
    // It yields, and dies first; it sets both itself.
    let read = |name| fs::read_to_string(format!("/proc/{compiler}/{name}")).unwrap_or_default();
    until("a compiler that yields", async || {
        let stat = read("stat");
        let mut fields = stat.rsplit(')').next()?.split_whitespace();
        let yields = fields.nth(16) == Some("10");
        (yields && read("oom_score_adj").trim() == "1000").then_some(())
    })
    .await;
    let descriptors = fs::read_dir(format!("/proc/{compiler}/fd")).map_or(0, Iterator::count);
    assert!(descriptors <= 3, "{descriptors} descriptors");
    let reason = refused_for(&daemon, "compile_timeout").await;
    assert!(reason.contains("longer than 3 s"), "{reason}");
    let report = probes.stop().await;
    assert!(report.failed.is_empty(), "{:?}", report.failed);
    assert!(report.longest < SOON, "{:?}", report.longest);
    assert!(gone(compiler));

    let mut next = daemon.setup.clone();
    next.daemon = vec!["compile_memory = \"64MiB\"".to_owned()];
    // The plan compiles it within the limits that are to come, and finds the same.
    let candidate = json!({"config": next.toml()});
    let plan = client.post("/v1/daemon/plan", &candidate).await;
    let plan = plan.expect("an answer").expect(200);
    assert_eq!(plan["verdict"], "refused", "{plan}");
    assert_eq!(plan["problems"][0]["key"], "plugins.spare0.path", "{plan}");
    let planned = plan["problems"][0]["text"].as_str().expect("a text");
    daemon.edit(How::Rename, |setup| *setup = next);
    let reason = refused_for(&daemon, "compile_memory").await;
    assert!(reason.contains("more than 64 MiB"), "{reason}");
    assert!(reason.contains(planned), "{planned:?} in {reason}");
    assert_eq!(daemon.worker_pid().await, worker);
    assert_eq!(client.chat("s", "two").await.said(), ["#2 user: two"]);

    // What compiles within the limits is taken over.
    fs::write(daemon.folder().join("costly.wasm"), costly(2, 10)).expect("the folder is ours");
    let before = daemon.generation().await;
    daemon.edit(How::Rename, |setup| setup.daemon.clear());
    daemon.after_generation(before.saturating_sub(1)).await;
    until("the next worker", async || {
        (daemon.worker_pid().await != worker).then_some(())
    })
    .await;
    // A notice of the restart stands in front.
    let answer = client.chat("s", "three").await;
    assert_eq!(answer.said().last(), Some(&"#3 user: three"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compiler_ends_with_the_worker_that_started_it() {
    let mut daemon = Daemon::start(Setup::default()).await;
    let serving = daemon.worker_pid().await;
    let path = written(daemon.folder(), &endless());
    daemon.edit(How::Rename, |setup| setup.spare_path = Some(path));
    let compiler = a_compiler(&daemon).await;
    let standby = abide_tests::children(daemon.supervisor_pid());
    let standby = standby.into_iter().find(|pid| *pid != serving);
    signal(standby.expect("it prepares"), Signal::KILL);
    until("the compiler's end", async || gone(compiler).then_some(())).await;
    refused_for(&daemon, "SIGKILL").await;

    // A stop does not wait for it either.
    daemon.abide(&["restart", "--no-wait"]);
    let compiler = a_compiler(&daemon).await;
    assert!(daemon.stop().await.success());
    until("the compiler's end", async || gone(compiler).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_cannot_be_a_plugin_is_refused_before_it_is_compiled() {
    let daemon = Daemon::start(Setup::default()).await;
    let mut component = endless();
    let name = b"abide:session/guest@0.1.0";
    let places: Vec<usize> = component
        .windows(name.len())
        .enumerate()
        .filter_map(|(at, bytes)| (bytes == name).then_some(at))
        .collect();
    for at in places {
        component[at + name.len() - 3] = b'9';
    }
    let path = written(daemon.folder(), &component);
    let path = path.to_str().expect("temporary folders have plain names");
    let output = daemon.abide(&["plugin", "check", path]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("abide:session@0.9.0"), "{text}");
}
