//! `abide plugin check` says of a component what the daemon would find.

use std::path::Path;
use std::process::{Command, Output};

use abide_tests::{Plugin, Setup, abide_binary, guest};

fn check(config: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(abide_binary());
    command.arg("--config").arg(config);
    let output = command.args(["plugin", "check"]).args(args).output();
    output.expect("it can be started")
}

/// Returns whether a check went well, and what it said.
fn said(output: &Output) -> (bool, String) {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

#[test]
fn a_component_is_checked_within_the_limits_that_it_will_have() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let config = folder.path().join("abide.toml");
    let setup = Setup::default()
        .plugin(Plugin::new("scripted").limit("memory = \"1MiB\""))
        .plugin(Plugin::new("hostile").limit("memory = \"32MiB\""));
    std::fs::write(&config, setup.toml()).expect("the folder is ours");
    let scripted = guest("scripted");
    let path = scripted.to_str().expect("a plain path");
    let (well, text) = said(&check(&config, &[path]));
    assert!(
        !well && text.contains("plugins.check.limits.memory"),
        "{text}"
    );
    let (well, text) = said(&check(&config, &[path, "--plugin", "hostile"]));
    assert!(well && text.contains("[plugins.hostile]"), "{text}");
    let (well, text) = said(&check(&config, &[path, "--plugin", "nobody"]));
    assert!(!well && text.contains("[plugins.nobody]"), "{text}");

    // Without a configuration, and with one that is broken, by the defaults.
    for broken in [
        None,
        Some("[daemon"),
        Some("[daemon]\nturns_max = \"many\""),
    ] {
        let config = folder.path().join("other.toml");
        if let Some(text) = broken {
            std::fs::write(&config, text).expect("the folder is ours");
        }
        let (well, text) = said(&check(&config, &[path]));
        assert!(
            well && text.contains("default limits"),
            "{broken:?}: {text}"
        );
    }
    // Its pool is the daemon's.
    let small = folder.path().join("small.toml");
    let toml = setup.toml().replace(
        "[daemon]\n",
        "[daemon]\nturns_max = 1\ncompile_memory = \"1MiB\"\n",
    );
    std::fs::write(&small, toml).expect("the folder is ours");
    let (well, text) = said(&check(&small, &[path, "--plugin", "hostile"]));
    assert!(!well && text.contains("daemon.compile_memory"), "{text}");
}
