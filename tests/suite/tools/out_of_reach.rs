//! A tool server that means harm: it gets nothing of the daemon that has started it, and approves nothing.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use abide_tests::{
    Client, Daemon, How, Plugin, Setup, abide_binary, copy_program, descendants, gone, guest,
    tool_server, until, write_script,
};
use rustix::process::geteuid;
use serde_json::{Value, json};
use tempfile::TempDir;

/// An ordinary user.
pub(super) const ORDINARY: u32 = 4_242;
/// A variable of the daemon's with a secret.
const KEY: &str = "ABIDE_TESTS_KEY";
/// Not one of another test's daemon, which does not protect itself from this one's tools.
const ASKING: &str = "asks-to-be-pried";
const APPROVAL: &str = "asks-to-be-pried:1.1.0";

/// A folder of what a daemon of another user runs with.
pub(super) struct World(TempDir);

impl World {
    pub(super) fn new() -> Self {
        let world = tempfile::tempdir().expect("the machine has a folder for temporary files");
        let log = world.path().join("log");
        fs::create_dir(&log).expect("the folder is ours");
        for (folder, mode) in [(world.path(), 0o755), (&log, 0o777)] {
            fs::set_permissions(folder, Permissions::from_mode(mode)).expect("it is ours");
        }
        Self(world)
    }

    fn copy_of(&self, file: &Path) -> PathBuf {
        let copy = self.0.path().join(file.file_name().expect("a file"));
        copy_program(file, &copy);
        copy
    }

    /// Returns a folder for a daemon of this user that other users may enter. It holds a secret in `key`
    /// and the folder `work`, which are the user's alone.
    pub(super) fn daemon_folder(user: u32) -> TempDir {
        let folder = tempfile::tempdir().expect("the machine has a folder for temporary files");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("it is ours");
        let (key, work) = (folder.path().join("key"), folder.path().join("work"));
        fs::write(&key, "a key").expect("the folder is ours");
        fs::create_dir(&work).expect("the folder is ours");
        for (path, mode) in [(&key, 0o600), (&work, 0o700)] {
            fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
            if geteuid().is_root() {
                chown(path, Some(user), Some(user)).expect("root may");
            }
        }
        folder
    }

    /// Returns the folder that is open to all.
    pub(super) fn open_folder(&self) -> PathBuf {
        self.0.path().join("log")
    }

    fn executions(&self) -> usize {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        log.lines().count()
    }

    /// Returns what the server has told since this was called last.
    pub(super) fn told(&self) -> Value {
        let file = self.log().with_extension("log.told");
        let told = fs::read(&file).expect("it tells");
        fs::remove_file(&file).expect("the folder is open to all");
        serde_json::from_slice(&told).expect("JSON")
    }

    fn log(&self) -> PathBuf {
        self.0.path().join("log/tools.log")
    }
}

pub(super) async fn perform(client: &Client, session: &str, tool: &str) -> String {
    let acts = json!([{"act": "call", "tool": tool, "token": "x"}]);
    let script = json!({"id": tool, "acts": acts}).to_string();
    let posted = client.say(session, &script, None).await;
    posted.expect("it is acknowledged").message
}

/// A daemon whose tools are the hostile server, which these lines of its table are for.
pub(super) fn with_a_hostile_server(world: &World, lines: &str) -> Setup {
    let mut setup = Setup {
        spare_path: Some(world.copy_of(&guest("echo"))),
        ..Setup::default()
    };
    setup.env.push((KEY.to_owned(), "a secret".to_owned()));
    setup.plugins = vec![Plugin {
        path: world.copy_of(&guest("scripted")),
        ..Plugin::new("scripted").with_tools()
    }];
    let server = world.copy_of(&tool_server());
    let aim = format!("{}/{APPROVAL}", setup.port);
    let mut setup = setup.recording_tools(&server, &world.log());
    let tools = setup.rest.last_mut().expect("it has tools");
    *tools = tools.replace(
        &format!("[{server:?}]"),
        &format!("[{server:?}, \"--pry\", \"{aim}\"]\nask = [\"record\"]\n{lines}"),
    );
    let other = "[mcp.other]\ncommand = [\"true\"]\nenv = { KEY = { file = \"key\" } }";
    setup.rest.insert(0, other.to_owned());
    setup
}

/// Lets the server try, while an approval waits that is then given. Returns what it tells.
pub(super) async fn tried(daemon: &Daemon, world: &World) -> Value {
    let client = daemon.client();
    for session in ["a", ASKING] {
        client.open(session, "scripted").await;
    }
    let waits = perform(&client, ASKING, "record").await;
    until("the approval", async || {
        (client.session(ASKING).await["state"] == "parked").then_some(())
    })
    .await;

    let tried = perform(&client, "a", "pry").await;
    client.events_once_ended("a", &tried).await;
    let told = world.told();
    assert_eq!(client.session(ASKING).await["state"], "parked");
    assert_eq!(world.executions(), 0);

    let decided = client
        .decide(APPROVAL, &json!({"decision": "approve"}))
        .await;
    assert_eq!(decided.expect("an answer").expect(200)["by"], "@local");
    client.events_once_ended(ASKING, &waits).await;
    assert_eq!(world.executions(), 1);
    told
}

pub(super) fn assert_it_got_nothing(told: &Value) {
    for spoils in told["spoils"].as_array().expect("two tries") {
        assert_eq!(spoils["got"], json!([]));
        for refused in spoils["refused"].as_array().expect("two refusals") {
            // In a sandbox it does not even get through to the socket.
            let how = refused[1].as_str().expect("a reason");
            assert!(how == "403" || how.contains("not permitted"), "{refused}");
        }
        assert_eq!(spoils["refused"].as_array().map(Vec::len), Some(2));
    }
    let variables = told["has"]["variables"].to_string();
    assert!(!variables.contains(KEY), "{variables}");
    // It can do so with its own processes.
    let own = told["has"]["of_its_own"].as_array().expect("a list");
    assert!(own.len() > 5, "{own:?}");
    let descriptors = told["has"]["descriptors"].as_array().expect("a list");
    for link in descriptors.iter().filter_map(Value::as_str) {
        // Its standard streams, and the folder that it reads.
        let own = link.starts_with("pipe:") || link.starts_with("/proc/");
        assert!(own, "{descriptors:?}");
    }
}

/// Whether the test may start what runs as somebody else.
pub(super) fn may_become_others() -> bool {
    let may = geteuid().is_root();
    if !may {
        eprintln!("skipped: only root starts programs as another user");
    }
    may
}

fn assert_it_is_another_user(told: &Value, user: u32) {
    assert_it_got_nothing(told);
    // First: what else it gets follows from that.
    assert_eq!(told["has"]["user"], json!([user, user]));
    assert_eq!(told["has"]["capabilities"], json!(["0000000000000000"]));
    for spoils in told["spoils"].as_array().expect("two tries") {
        // The test has written it so that all may read it.
        assert_eq!(spoils["files"], json!(["abide.toml"]), "{told}");
        assert_eq!(spoils["signals"], 0, "{told}");
    }
    let variables = told["has"]["variables"].to_string();
    assert!(!variables.contains("TMPDIR"), "{variables}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_tool_server_of_the_daemons_user_gets_nothing_of_its_processes() {
    let world = World::new();
    let setup = Setup {
        // Nothing is out of root's reach.
        user: geteuid().is_root().then_some(ORDINARY),
        ..with_a_hostile_server(&world, "")
    };
    let daemon = Daemon::start_in(World::daemon_folder(ORDINARY), setup).await;
    let told = tried(&daemon, &world).await;
    assert_it_got_nothing(&told);
    for spoils in told["spoils"].as_array().expect("two tries") {
        let read = json!(["data/FORMAT", "data/db/CURRENT", "abide.toml", "key"]);
        assert_eq!(spoils["files"], read);
        assert_eq!(spoils["signals"], 2);
    }
    // What it can read is no secret from the operator.
    let status = daemon.status().await;
    let folder = fs::canonicalize(daemon.folder()).expect("it is there");
    let named = ["data", "abide.toml", "key"].map(|name| folder.join(name));
    for server in status["tool_servers"].as_array().expect("two servers") {
        assert_eq!(server["can_read"], json!(named), "{server}");
        assert_eq!(server["sandbox"], Value::Null);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_tool_server_of_another_user_gets_nothing_at_all() {
    // No other test's: it reads what its user's other processes can.
    const ALONE: u32 = ORDINARY + 2;
    if !may_become_others() {
        return;
    }
    let world = World::new();
    let lines = format!("user = \"{ALONE}:{ALONE}\"");
    let setup = with_a_hostile_server(&world, &lines);
    let daemon = Daemon::start_in(World::daemon_folder(0), setup).await;
    assert_it_is_another_user(&tried(&daemon, &world).await, ALONE);
    let status = daemon.status().await;
    let mut servers = status["tool_servers"].as_array().expect("a list").iter();
    let server = servers.find(|server| server["name"] == "t").expect("it");
    assert_eq!(server["can_read"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_capabilities_suffice_to_run_and_end_a_server_as_another_user() {
    const OTHER: u32 = ORDINARY + 1;
    const RIGHTS: &str = "-all,+setuid,+setgid,+kill";
    if !may_become_others() {
        return;
    }
    let world = World::new();
    let folder = World::daemon_folder(ORDINARY);
    chown(folder.path(), Some(ORDINARY), Some(ORDINARY)).expect("root may");
    let binary = world.0.path().join("start");
    let daemon = world.copy_of(&abide_binary());
    let script = format!(
        "#!/bin/sh\nexec setpriv --reuid {ORDINARY} --regid {ORDINARY} --clear-groups \
         --bounding-set {RIGHTS} --inh-caps {RIGHTS} --ambient-caps {RIGHTS} {} \"$@\"\n",
        daemon.display()
    );
    write_script(&binary, &script);
    let lines = format!("user = \"{OTHER}:{OTHER}\"");
    let setup = Setup {
        binary: Some(binary),
        ..with_a_hostile_server(&world, &lines)
    };
    let mut daemon = Daemon::start_in(folder, setup).await;
    assert_it_is_another_user(&tried(&daemon, &world).await, OTHER);
    let digest = daemon.status().await["config"]["digest"].clone();
    // One that runs as the daemon's user has none of the daemon's rights either.
    let generation = daemon.generation().await;
    daemon.edit(How::Rename, |setup| {
        let tools = setup.rest.last_mut().expect("it has tools");
        *tools = tools.replace(&lines, "");
    });
    until("the other server", async || {
        let status = daemon.status().await;
        let changed = status["config"]["digest"] != digest;
        changed.then_some(())
    })
    .await;
    assert_eq!(daemon.generation().await, generation);
    let message = perform(&daemon.client(), "a", "pry").await;
    daemon.client().events_once_ended("a", &message).await;
    let told = world.told();
    assert_eq!(told["has"]["user"], json!([ORDINARY, ORDINARY]));
    assert_eq!(told["has"]["capabilities"], json!(["0000000000000000"]));

    let processes = descendants(daemon.supervisor_pid());
    assert!(processes.len() >= 2, "a worker and a server: {processes:?}");
    assert!(daemon.stop().await.success());
    assert!(processes.into_iter().all(gone));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_may_not_become_another_user_says_so() {
    let world = World::new();
    let setup = Setup {
        user: geteuid().is_root().then_some(ORDINARY),
        ..with_a_hostile_server(&world, "user = \"0:0\"")
    };
    let daemon = Daemon::start_in(World::daemon_folder(ORDINARY), setup).await;
    let client = daemon.client();
    client.open("a", "scripted").await;
    let message = perform(&client, "a", "pry").await;
    client.events_once_ended("a", &message).await;
    let reason = until("the reason", async || {
        let status = daemon.status().await;
        let servers = status["tool_servers"].as_array()?;
        let reason = servers
            .iter()
            .find_map(|server| server["reason"].as_str())?;
        Some(reason.to_owned())
    })
    .await;
    assert!(
        reason.contains("CAP_SETUID") && reason.contains("`mcp.t.user`"),
        "{reason}"
    );
}
