//! The kernel's out-of-memory killer, in a control group of the test's own. Requires root; without it
//! the test is skipped, with a message.

use std::fs;
use std::path::{Path, PathBuf};

use abide_tests::{Client, Daemon, FakeModel, Plugin, Setup, until};
use serde_json::Value;

/// A control group with a limit of memory.
pub(super) struct MemoryGroup(PathBuf);

impl MemoryGroup {
    pub(super) fn with_limit(mib: u64) -> Result<Self, String> {
        let name = format!("abide-test-{}-{mib}", std::process::id());
        // Version 1 of control groups has a tree for memory, version 2 one for everything.
        let (root, key) = match Path::new("/sys/fs/cgroup/memory").is_dir() {
            true => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            false => ("/sys/fs/cgroup", "memory.max"),
        };
        let folder = Path::new(root).join(name);
        let limit = (mib << 20).to_string();
        fs::create_dir(&folder)
            .and_then(|()| fs::write(folder.join(key), limit))
            .map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Self(folder))
    }

    pub(super) fn take_in(&self, pid: i32) {
        let procs = self.0.join("cgroup.procs");
        fs::write(procs, pid.to_string()).expect("root may move processes");
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // It stays behind if the daemon of a failed test still dies.
        let _ = fs::remove_dir(&self.0);
    }
}

/// A daemon under a limit of memory, with guests that may use this much each.
async fn start(group: &MemoryGroup, model: &FakeModel, guest_memory: &str) -> Daemon {
    let mut hostile = Plugin::new("hostile").limit(&format!("memory = \"{guest_memory}\""));
    hostile.capabilities = vec!["llm = [\"local\"]".to_owned()];
    let setup = Setup {
        model: Some(model.base_url()),
        ..Setup::default().plugin(hostile)
    };
    let daemon = Daemon::start(setup).await;
    group.take_in(daemon.supervisor_pid());
    // The next worker is in the group, too. Its predecessor's death has shown the supervisor where
    // the new group's count begins.
    daemon.kill_worker().await;
    daemon
}

/// Returns the triggers of all starts that followed a kill for want of memory.
async fn kills(client: &Client) -> Vec<String> {
    let page = until("the restarts", async || {
        let reply = client.get("/v1/daemon/restarts").await.ok()?;
        (reply.status == 200).then_some(reply.body)
    })
    .await;
    let items = page["items"].as_array().expect("a list");
    let triggers = items.iter().filter_map(|item| item["trigger"].as_str());
    let killed = triggers.filter(|trigger| trigger.contains("for want of memory"));
    killed.map(str::to_owned).collect()
}

/// Sends a message until it is acknowledged: a worker that is killed loses the requests that it has
/// read.
async fn send(client: &Client, id: &str, text: &str) {
    until("an acknowledgement", async || {
        client.say(id, text, Some("once")).await.ok()
    })
    .await;
}

/// Returns a session, once it satisfies a condition.
async fn session_when(client: &Client, id: &str, condition: impl Fn(&Value) -> bool) -> Value {
    let path = format!("/v1/sessions/{id}");
    until("the session", async || {
        let session = client.get(&path).await.ok()?.body;
        condition(&session).then_some(session)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_eats_the_memory_is_faulted_alone() {
    let group = match MemoryGroup::with_limit(300) {
        Ok(group) => group,
        Err(reason) => return eprintln!("SKIPPED, for there is no control group: {reason}"),
    };
    let model = FakeModel::start().await;
    let daemon = start(&group, &model, "1GiB").await;
    let client = daemon.client();
    client.open("glutton", "hostile").await;
    client.open("neighbour", "echo").await;
    client.chat("neighbour", "before").await;

    send(&client, "glutton", "alloc").await;
    let session = session_when(&client, "glutton", |session| session["state"] == "faulted").await;
    assert_eq!(session["reason"]["code"], "kills_worker", "{session}");

    let kills = kills(&client).await;
    assert_eq!(kills.len(), 3, "{kills:?}");
    // A recovery message comes before it.
    let after = client.chat("neighbour", "after").await;
    assert_eq!(after.said().last(), Some(&"#2 user: after"));
    daemon
        .logged("was killed by the kernel for want of memory")
        .await;
}
