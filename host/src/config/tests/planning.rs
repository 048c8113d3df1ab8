use std::collections::BTreeSet;
use std::path::PathBuf;

use super::super::{ChangeClass, Plan, PlanClass, plan};
use super::{parsed, with_echo};

fn planned(old: &str, new: &str) -> Plan {
    plan(&parsed(old), &parsed(new), &BTreeSet::new())
}

/// Returns the keys and classes of a plan.
fn keys(plan: &Plan) -> Vec<(&str, ChangeClass)> {
    plan.changes
        .iter()
        .map(|change| (change.key.as_str(), change.class))
        .collect()
}

#[test]
fn the_same_meaning_is_no_change() {
    let old =
        with_echo("[daemon]\nlisten = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\nprobation = \"60s\"");
    for new in [
        format!("# a comment\n{old}\n\n"),
        with_echo("daemon = { probation = \"1m\", listen = [\"127.0.0.1:2\", \"127.0.0.1:1\"] }"),
        old.replace("echo.wasm", "./echo.wasm"),
        format!("{old}[plugins.echo.limits]\nmemory = 67108864\n"),
    ] {
        let plan = planned(&old, &new);
        assert_eq!(
            plan.verdict,
            PlanClass::Nothing,
            "{new}: {:?}",
            plan.changes
        );
    }
}

#[test]
fn changes_are_classed() {
    let base =
        with_echo("[llm.a]\nbase_url = \"http://x\"\nmodel = \"m\"\n[mcp.f]\nurl = \"http://x\"");
    let daemon = |key: &str| format!("[daemon]\n{key}\n{base}");
    let cases = [
        (
            daemon("log_level = \"debug\""),
            "daemon.log_level",
            ChangeClass::Hot,
        ),
        (
            daemon("disk_reserve = \"1GiB\""),
            "daemon.disk_reserve",
            ChangeClass::Hot,
        ),
        (
            daemon("shutdown_grace_period = \"5s\""),
            "daemon.shutdown_grace_period",
            ChangeClass::Hot,
        ),
        (
            daemon("listen = \"127.0.0.1:9\""),
            "daemon.listen",
            ChangeClass::Restart,
        ),
        (
            daemon("token_env = \"T\""),
            "daemon.token",
            ChangeClass::Restart,
        ),
        (
            daemon("data_dir = \"other\""),
            "daemon.data_dir",
            ChangeClass::Fixed,
        ),
        (
            format!("{base}[plugins.echo.limits]\ninbox = 1\n"),
            "plugins.echo.limits.inbox",
            ChangeClass::Hot,
        ),
        (
            format!("{base}[plugins.echo.capabilities]\nhttp = [\"x\"]\n"),
            "plugins.echo.capabilities.http",
            ChangeClass::Restart,
        ),
        (
            format!("{base}[plugins.b]\npath = \"b.wasm\"\n"),
            "plugins.b",
            ChangeClass::Restart,
        ),
        (
            base.replace("echo.wasm", "b.wasm"),
            "plugins.echo.path",
            ChangeClass::Restart,
        ),
        (
            format!("{base}[store]\nwal = \"24MiB\"\n"),
            "store.wal",
            ChangeClass::Restart,
        ),
        (
            format!("{base}[retention]\nevents = 5\n"),
            "retention.events",
            ChangeClass::Restart,
        ),
        (
            base.replace("\"m\"", "\"n\""),
            "llm.a.model",
            ChangeClass::Hot,
        ),
        (
            base.replace("[llm.a]", "[llm.b]"),
            "llm.a",
            ChangeClass::Hot,
        ),
        (
            base.replace("[mcp.f]", "[mcp.f]\nask = [\"*\"]"),
            "mcp.f.ask",
            ChangeClass::Hot,
        ),
        (
            base.replace("[mcp.f]", "[mcp.f]\nrepeatable = [\"read_*\"]"),
            "mcp.f.repeatable",
            ChangeClass::Hot,
        ),
        (
            base.replace("[mcp.f]", "[mcp.f]\nonce = [\"write\"]"),
            "mcp.f.once",
            ChangeClass::Hot,
        ),
        (
            base.replace("[mcp.f]\nurl = \"http://x\"", "[mcp.f]\ncommand = [\"x\"]"),
            "mcp.f",
            ChangeClass::Hot,
        ),
    ];
    for (new, key, class) in cases {
        let plan = planned(&base, &new);
        assert!(
            keys(&plan).contains(&(key, class)),
            "{key}: {:?}",
            plan.changes
        );
        match (&plan.verdict, class) {
            (PlanClass::Hot, ChangeClass::Hot)
            | (PlanClass::Restart, ChangeClass::Restart)
            | (PlanClass::Refused(_), ChangeClass::Fixed) => {}
            (verdict, _) => panic!("{key}: {verdict:?}"),
        }
        // A change has the same class in both directions.
        assert!(
            keys(&planned(&new, &base)).contains(&(key, class)),
            "{key} back"
        );
    }
}

#[test]
fn another_data_folder_is_refused_with_a_remedy() {
    let plan = planned(
        &with_echo(""),
        &with_echo("[daemon]\ndata_dir = \"new\"\nlog_level = \"warn\""),
    );
    let PlanClass::Refused(reasons) = &plan.verdict else {
        panic!("{plan:?}");
    };
    let [reason] = reasons.as_slice() else {
        panic!("{reasons:?}");
    };
    let refusal = reason.to_string();
    for part in [
        "daemon.data_dir",
        "/etc/abide/data -> /etc/abide/new",
        "put the old value back",
    ] {
        assert!(refusal.contains(part), "{part} in {refusal}");
    }
}

#[test]
fn new_bytes_in_named_files_are_changes() {
    let text = with_echo(
        "[daemon]\ntoken_file = \"token\"\n[llm.a]\nbase_url = \"http://x\"\nmodel = \"m\"\napi_key_file = \"key\"",
    );
    let config = parsed(&text);
    let changed = |file: &str| {
        let changed = BTreeSet::from([PathBuf::from("/etc/abide").join(file)]);
        plan(&config, &config, &changed)
    };
    assert_eq!(
        keys(&changed("echo.wasm")),
        [("plugins.echo.path", ChangeClass::Restart)]
    );
    assert_eq!(
        keys(&changed("token")),
        [("daemon.token", ChangeClass::Restart)]
    );
    assert_eq!(keys(&changed("key")), [("llm.a.api_key", ChangeClass::Hot)]);
    assert_eq!(changed("other").verdict, PlanClass::Nothing);
    let shown = changed("echo.wasm").changes[0].to_string();
    assert_eq!(shown, "plugins.echo.path: new content");
}

#[test]
fn removed_plugins_are_named() {
    let both = with_echo("[plugins.b]\npath = \"b.wasm\"");
    let plan = planned(&both, &with_echo(""));
    assert_eq!(plan.removed_plugins(), ["b"]);
    assert_eq!(plan.verdict, PlanClass::Restart);
    assert_eq!(planned(&with_echo(""), &both).removed_plugins(), [""; 0]);
}

#[test]
fn plans_show_no_secrets() {
    let old = with_echo(
        "[mcp.f]\ncommand = [\"x\", \"--key=hunter2\"]\n[mcp.g]\nurl = \"http://x?key=hunter2\"",
    );
    let plan = planned(
        &old,
        &old.replace("hunter2", "hunter3")
            .replace("http://x", "http://y"),
    );
    assert_eq!(plan.changes.len(), 2);
    let shown = format!("{plan:?}{}", plan.summary());
    assert!(!shown.contains("hunter"), "{shown}");
}
