//! What the daemon writes is its user's alone, whatever the umask is and whoever made the folder.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use abide_tests::{Daemon, Plugin, Setup, tool_server};
use serde_json::json;

fn mode(path: &Path) -> u32 {
    let meta = fs::symlink_metadata(path).expect("it is there");
    meta.permissions().mode() & 0o777
}

/// Returns the files and folders in a folder that others than their owner have a right to.
fn shared(folder: &Path) -> Vec<PathBuf> {
    let mut shared = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        if mode(&folder) & 0o077 != 0 {
            shared.push(folder.clone());
        }
        for entry in fs::read_dir(&folder).expect("it is a folder") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => folders.push(path),
                false if mode(&path) & 0o077 != 0 => shared.push(path),
                false => {}
            }
        }
    }
    shared
}

fn own_umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux has it");
    let mut lines = status.lines();
    let umask = lines.find_map(|line| line.strip_prefix("Umask:"));
    let umask = umask.expect("since Linux 4.7").trim();
    u32::from_str_radix(umask, 8).expect("it is octal")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_folder_is_its_owners_alone_and_tools_have_the_umask_of_their_user() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    fs::create_dir(&data).expect("the folder is ours");
    fs::set_permissions(&data, Permissions::from_mode(0o777)).expect("the folder is ours");
    let world = tempfile::tempdir().expect("a temporary folder");
    let log = world.path().join("tools.log");
    let mut setup = Setup::default().recording_tools(&tool_server(), &log);
    setup.plugins.push(Plugin::new("scripted").with_tools());
    let mut daemon = Daemon::start_in(folder, setup).await;
    let client = daemon.client();
    client.open("s", "scripted").await;
    let call = json!([{"act": "call", "tool": "record", "token": "a"}]);
    let script = json!({"id": "m", "acts": call}).to_string();
    client
        .ask("s", &script, None)
        .await
        .expect("it is answered");
    assert_eq!(shared(&data), Vec::<PathBuf>::new());
    assert_eq!(mode(&log), 0o666 & !own_umask());

    // As a version leaves it that did not see to that, or somebody who copies it.
    assert!(daemon.stop().await.success());
    for path in [&data, &data.join("db"), &data.join("FORMAT")] {
        fs::set_permissions(path, Permissions::from_mode(0o755)).expect("it is ours");
    }
    daemon.start_again().await;
    assert_eq!(shared(&data), Vec::<PathBuf>::new());
    assert!(daemon.stop().await.success());
    assert_eq!(shared(&data), Vec::<PathBuf>::new());
}
