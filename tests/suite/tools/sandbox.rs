//! Tool servers in a sandbox: those of the daemon's own user, which reach none of its files, and work.

use std::fs;
use std::process::Command;

use abide_tests::{Daemon, How, Setup, abide_binary, until};
use landlock::{CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, Scope};
use rustix::process::geteuid;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::out_of_reach::{
    ORDINARY, World, assert_it_got_nothing, may_become_others, perform, tried,
    with_a_hostile_server,
};

/// Whether the kernel has all that a sandbox is made of.
pub(super) fn may_hide() -> bool {
    let strict = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let may = strict.scope(Scope::Signal).is_ok();
    if !may {
        eprintln!("skipped: the kernel's Landlock is older than Linux 6.12, or it has none");
    }
    may
}

/// The daemon's folder lies in that of temporary files, where nothing can be made in a sandbox then.
fn with_a_sandbox(world: &World, more: &str) -> Setup {
    let temporary = world.open_folder();
    let lines = format!("env.TMPDIR = {{ value = {temporary:?} }}\nsandbox = true\n{more}");
    let mut setup = with_a_hostile_server(world, &lines);
    let tools = setup.rest.last_mut().expect("it has tools");
    let log = "env = { ABIDE_TOOLS_LOG = \"ABIDE_TOOLS_LOG\" }";
    *tools = tools.replace(log, "env.ABIDE_TOOLS_LOG = \"ABIDE_TOOLS_LOG\"");
    setup
}

fn assert_it_reaches_no_file(told: &Value) {
    for spoils in told["spoils"].as_array().expect("two tries") {
        assert_eq!(spoils["files"], json!([]));
        assert_eq!(spoils["signals"], 0);
        // All else is as ever.
        assert_eq!(spoils["writes_temporary"], true);
        assert_eq!(spoils["lists"], spoils["writes"]);
    }
}

/// Lets a server try again that may have been started anew, and returns what it tells.
async fn tried_again(daemon: &Daemon, world: &World) -> Value {
    let message = perform(&daemon.client(), "a", "pry").await;
    daemon.client().events_once_ended("a", &message).await;
    world.told()
}

async fn edited(daemon: &mut Daemon, edit: impl FnOnce(&mut Setup)) {
    let digest = daemon.status().await["config"]["digest"].clone();
    let generation = daemon.generation().await;
    daemon.edit(How::Rename, edit);
    until("the new configuration", async || {
        (daemon.status().await["config"]["digest"] != digest).then_some(())
    })
    .await;
    assert_eq!(daemon.generation().await, generation);
}

fn pids(daemon: &Daemon) -> usize {
    abide_tests::descendants(daemon.supervisor_pid()).len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_tool_server_in_a_sandbox_gets_nothing_at_all() {
    if !may_hide() {
        return;
    }
    let world = World::new();
    let setup = Setup {
        // Root has other ways.
        user: geteuid().is_root().then_some(ORDINARY),
        ..with_a_sandbox(&world, "")
    };
    let folder: TempDir = World::daemon_folder(ORDINARY);
    let mut daemon = Daemon::start_in(folder, setup).await;
    let told = tried(&daemon, &world).await;
    assert_it_got_nothing(&told);
    assert_it_reaches_no_file(&told);
    assert_eq!(told["spoils"][0]["writes"], json!(["work"]));
    let processes = pids(&daemon);

    let status = daemon.status().await;
    let mut servers = status["tool_servers"].as_array().expect("a list").iter();
    let server = servers.find(|server| server["name"] == "t").expect("it");
    let real = fs::canonicalize(daemon.folder()).expect("it is there");
    let closed: Vec<_> = real.ancestors().collect();
    assert_eq!(server["can_read"], Value::Null);
    assert_eq!(server["sandbox"]["not_held"], Value::Null);
    let mut named: Vec<&str> = server["sandbox"]["closed"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    named.sort_by_key(|folder| std::cmp::Reverse(folder.len()));
    let closed: Vec<&str> = closed.iter().filter_map(|folder| folder.to_str()).collect();
    assert_eq!(named, closed);
    let shown = Command::new(abide_binary())
        .args(["status", "--no-color"])
        .current_dir(daemon.folder())
        .output()
        .expect("it starts");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("made directly in /"), "{shown}");
    assert!(shown.contains("hides that from it"), "{shown}");

    // A file that takes the place of a hidden one is hidden as well.
    edited(&mut daemon, |setup| {
        "changed".clone_into(&mut setup.comment)
    })
    .await;
    assert_it_reaches_no_file(&tried_again(&daemon, &world).await);
    assert_eq!(pids(&daemon), processes);

    edited(&mut daemon, |setup| {
        let tools = setup.rest.last_mut().expect("it has tools");
        *tools = tools.replace("sandbox = true", "");
    })
    .await;
    let told = tried_again(&daemon, &world).await;
    let read = json!(["data/FORMAT", "data/db/CURRENT", "abide.toml", "key"]);
    assert_eq!(told["spoils"][0]["files"], read);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_may_be_another_users_and_in_a_sandbox() {
    if !may_hide() || !may_become_others() {
        return;
    }
    let world = World::new();
    const ALONE: u32 = ORDINARY + 3;
    let user = format!("user = \"{ALONE}:{ALONE}\"");
    let daemon = Daemon::start_in(World::daemon_folder(0), with_a_sandbox(&world, &user)).await;
    let told = tried(&daemon, &world).await;
    assert_it_got_nothing(&told);
    assert_it_reaches_no_file(&told);
    assert_eq!(told["has"]["user"], json!([ALONE, ALONE]));
    assert_eq!(told["has"]["capabilities"], json!(["0000000000000000"]));
}
