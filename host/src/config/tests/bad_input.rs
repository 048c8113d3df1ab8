use super::super::{Config, ConfigError, Env, Place};
use super::{COMPONENT, Folder, with_echo};

/// Returns the error for a bad configuration, without the path of its directory.
pub(super) fn rejection(text: &str, env: &[(&str, &str)]) -> String {
    let folder = Folder::new();
    std::fs::write(folder.path().join("module.wasm"), b"\0asm\x01\0\0\0").expect("writes");
    std::fs::write(folder.path().join("text.wasm"), b"hello").expect("writes");
    std::fs::write(folder.path().join("empty"), b"\n").expect("writes");
    let error = match folder.validate(text, env) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(error) => error.to_string(),
    };
    error.replace(&format!("{}/", folder.path().display()), "")
}

/// Asserts that `text` is refused, and that the error contains each of `parts`.
#[track_caller]
pub(super) fn refused(text: &str, parts: &[&str]) {
    let error = rejection(text, &[]);
    for part in parts {
        assert!(error.contains(part), "`{part}` is missing from:\n{error}");
    }
}

#[test]
fn problems_are_shown_where_they_stand() {
    let error = rejection(&with_echo("[daemon]\nlisen = \"127.0.0.1:1\""), &[]);
    assert_eq!(
        error,
        "abide.toml:2:1: unknown key `lisen` in [daemon]; did you mean `listen`?\n  \
         |\n2 | lisen = \"127.0.0.1:1\"\n  | ^^^^^"
    );
}

#[test]
fn syntax_errors_name_their_line() {
    refused(
        &with_echo("[daemon]\nlisten = "),
        &["abide.toml:2:", "not valid TOML", "correct this line"],
    );
    refused(&with_echo("[daemon"), &["abide.toml:1:", "not valid TOML"]);
    refused(
        "[plugins.a]\npath = \"x\"\npath = \"y\"",
        &["abide.toml:3:1", "duplicate"],
    );
}

#[test]
fn unknown_keys_and_sections_are_refused() {
    refused(
        &with_echo("[deamon]"),
        &[
            "abide.toml:1:2: unknown key `deamon`",
            "did you mean `daemon`?",
        ],
    );
    refused(
        &with_echo("[store]\ncolour = 1"),
        &["unknown key `colour` in [store]", "known are cache, wal"],
    );
    refused(
        "[plugins.echo]\npath = \"echo.wasm\"\n[plugins.echo.limits]\nmemroy = \"1MiB\"",
        &[
            "abide.toml:4:1",
            "[plugins.echo.limits]",
            "did you mean `memory`?",
        ],
    );
    // A pasted key is not shown.
    let error = rejection(
        &with_echo("[llm.a]\nbase_url=\"http://x\"\nmodel=\"m\"\napi_key = \"sk-123\""),
        &[],
    );
    assert!(
        error.contains("did you mean `api_key_env`?") || error.contains("api_key_file"),
        "{error}"
    );
    assert!(!error.contains("sk-123"), "{error}");
}

#[test]
fn wrong_units_and_types_come_with_examples() {
    refused(
        &with_echo("[daemon]\nshutdown_grace_period = \"20 parsecs\""),
        &[
            "abide.toml:2:25: daemon.shutdown_grace_period: `20 parsecs` is not a duration",
            "write it like \"20s\" or \"10m\"",
        ],
    );
    refused(
        &with_echo("[daemon]\nprobation = 10"),
        &["daemon.probation: `10` has no unit of time", "\"20s\""],
    );
    refused(
        &with_echo("[store]\nwal = \"8 Mibs\""),
        &["store.wal: `8 Mibs` is not a size", "\"64MiB\""],
    );
    refused(
        &with_echo("[store]\nwal = -1"),
        &["store.wal: `-1` is not a size"],
    );
    refused(
        &with_echo("[daemon]\nturns_max = \"many\""),
        &["daemon.turns_max", "a whole number"],
    );
    refused(
        &with_echo("[daemon]\nturns_max = 0"),
        &["daemon.turns_max: `0` is out of range; choose 1 to 10000"],
    );
    refused(
        &with_echo("[daemon]\nallowed_hosts = \"a\""),
        &["daemon.allowed_hosts", "a list, like"],
    );
    refused(
        &with_echo("[daemon]\nlog_level = \"loud\""),
        &[
            "daemon.log_level",
            "write one of \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\"",
        ],
    );
    refused(
        &with_echo("[retention]\nkeys = \"1h\""),
        &["retention.keys: `1h` is out of range; choose 1day"],
    );
    refused(&with_echo("daemon = 5"), &["daemon"]);
}

#[test]
fn all_problems_are_told_at_once() {
    let text = with_echo(
        "[daemon]\nlisen = 1\nprobation = \"x\"\nlog_level = \"loud\"\n[llm.a]\nmodel = 7",
    );
    let error = rejection(&text, &[]);
    for part in [
        "`lisen`",
        "daemon.probation",
        "daemon.log_level",
        "[llm.a] has no `base_url`",
        "llm.a.model",
    ] {
        assert_eq!(error.matches(part).count(), 1, "{part} in\n{error}");
    }
}

#[test]
fn half_written_files_are_no_configuration() {
    for text in [
        "",
        "\n",
        "# nothing\n",
        "[daemon]\nlisten = \"127.0.0.1:1\"\n",
        "[plugins]",
    ] {
        refused(
            text,
            &[
                "abide.toml",
                "no plugin is configured",
                "add [plugins.NAME]",
            ],
        );
    }
    refused(
        "[plugins.echo]",
        &["abide.toml:1:10", "has no `path`", "add `path = …`"],
    );
    let folder = Folder::new();
    let error = Config::parse(b"a = \"\xff\"", &folder.file(), &Env::new()).expect_err("no UTF-8");
    assert!(error.to_string().contains("line 1 is not UTF-8"), "{error}");
}

#[test]
fn plugin_files_are_looked_at() {
    let plugin = |file: &str| format!("[plugins.echo]\npath = \"{file}\"");
    refused(
        &plugin("gone.wasm"),
        &[
            "abide.toml:2:1: plugins.echo.path: plugin file `gone.wasm`",
            "No such file",
            "correct the path",
        ],
    );
    refused(
        &plugin("module.wasm"),
        &["a WebAssembly module, not a component", "wasm32-wasip2"],
    );
    refused(
        &plugin("text.wasm"),
        &["`text.wasm` is not a WebAssembly component"],
    );
    refused(
        &plugin("empty"),
        &["`empty` is not a WebAssembly component"],
    );
    refused(&plugin("."), &["is not a file"]);
}

#[test]
fn nobody_waits_for_a_pipe() {
    let folder = super::Folder::new();
    let pipe = folder.path().join("pipe");
    let (mode, kind) = (rustix::fs::Mode::RUSR, rustix::fs::FileType::Fifo);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0).expect("a pipe");
    let error_of = |text: &str| folder.validate(text, &[]).expect_err("refused").to_string();
    let plugin = error_of("[plugins.echo]\npath = \"pipe\"");
    assert!(plugin.contains("pipe` is not a file"), "{plugin}");
    let secret = error_of(&with_echo("[daemon]\ntoken_file = \"pipe\""));
    assert!(secret.contains("it is not a regular file"), "{secret}");
    assert!(crate::config::config_bytes(&pipe).is_err());
    assert!(crate::config::plugin_bytes(&pipe).is_err());
}

#[test]
fn addresses_are_checked() {
    refused(
        &with_echo("[daemon]\nlisten = \"localhost:1\""),
        &[
            "daemon.listen: `localhost:1` is not an IP address with a port",
            "\"127.0.0.1:7420\"",
        ],
    );
    refused(
        &with_echo("[daemon]\nlisten = []"),
        &["there is no address"],
    );
    refused(
        &with_echo("[daemon]\nlisten = [\"127.0.0.1:1\", \"127.0.0.1:1\"]"),
        &[
            "abide.toml:2:1: daemon.listen: `127.0.0.1:1` is listed twice",
            "keep one",
        ],
    );
    refused(
        &with_echo("[daemon]\nlisten = [\"0.0.0.0:1\", \"127.0.0.1:1\"]\ntoken_env = \"T\""),
        &["overlap"],
    );
    for open in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1"] {
        refused(
            &with_echo(&format!("[daemon]\nlisten = \"{open}\"")),
            &[
                "can be reached from other machines, and there is no token",
                "token_env",
            ],
        );
    }
}

#[test]
fn an_impossible_chain_is_refused_with_its_numbers() {
    refused(
        &with_echo("[daemon]\nshutdown_grace_period = \"25s\"\nstop_timeout = \"30s\""),
        &[
            "abide.toml:2:1: daemon.shutdown_grace_period: a grace period of 25s",
            "makes 35s",
            "stop_timeout = 30s",
            "raise stop_timeout",
            "to 35s, or lower the grace period to 20s",
        ],
    );
    refused(
        &with_echo("[daemon]\nshutdown_grace_period = \"10m\""),
        &["makes 10m 10s", "= 1m 30s"],
    );
}

#[test]
fn secrets_must_be_there_and_are_never_shown() {
    let llm = |key: &str| {
        with_echo(&format!(
            "[llm.a]\nbase_url = \"http://x\"\nmodel = \"m\"\n{key}"
        ))
    };
    refused(
        &llm("api_key_env = \"MY_KEY\""),
        &[
            "abide.toml:4:1: llm.a.api_key_env: environment variable `MY_KEY` is not set",
            "set it in the environment",
        ],
    );
    refused(
        &llm("api_key_file = \"gone\""),
        &[
            "llm.a.api_key_file: file `gone` cannot be read",
            "create it",
        ],
    );
    refused(&llm("api_key_file = \"empty\""), &["file `empty` is empty"]);
    refused(
        &llm("api_key_env = \"A\"\napi_key_file = \"b\""),
        &["both given", "keep one"],
    );
    for secret in ["sk-proj-123", "deadbeef123"] {
        let error = rejection(&llm(&format!("api_key_env = \"{secret}\"")), &[]);
        assert!(error.contains("llm.a.api_key_env"), "{error}");
        assert!(!error.contains(secret), "{error}");
    }
    let error = rejection(
        &llm("api_key_env = \"MY_KEY\""),
        &[("MY_KEY", "with\nbreak")],
    );
    assert!(
        error.contains("control characters") && !error.contains("break"),
        "{error}"
    );
    refused(
        &with_echo("[mcp.f]\ncommand = [\"x\"]\nenv = { A = \"NOT_SET\" }"),
        &["mcp.f.env.A: environment variable `NOT_SET` is not set"],
    );
}

#[test]
fn providers_and_servers_are_checked() {
    refused(
        &with_echo("[llm.a]\nbase_url = \"x y\"\nmodel = \"\""),
        &[
            "llm.a.base_url: this is not a URL",
            "llm.a.model: the model's name is empty",
        ],
    );
    refused(
        &with_echo("[llm.a]\nbase_url = \"ftp://x\"\nmodel = \"m\""),
        &["not an HTTP URL"],
    );
    let error = rejection(
        &with_echo("[llm.a]\nbase_url = \"http://u:pw1@x\"\nmodel = \"m\""),
        &[],
    );
    assert!(
        error.contains("holds a user or password") && !error.contains("pw1"),
        "{error}"
    );
    refused(
        &with_echo("[mcp.f]"),
        &["abide.toml:1:6: mcp.f: neither `command` nor `url`"],
    );
    refused(
        &with_echo("[mcp.f]\nurl = \"http://x\"\ncommand = [\"x\"]"),
        &["both `command` and `url`"],
    );
    refused(
        &with_echo("[mcp.f]\nurl = \"http://x\"\nuser = \"root\""),
        &["mcp.f.user: `user` is for a `command`"],
    );
    for (user, reason) in [
        ("no-such-user", "no user `no-such-user`"),
        ("7:x", "`UID:GID`"),
    ] {
        refused(
            &with_echo(&format!("[mcp.f]\ncommand = [\"x\"]\nuser = \"{user}\"")),
            &[reason, "mcp.f.user: "],
        );
    }
    refused(
        &with_echo("[mcp.\"a b\"]\nurl = \"http://x\""),
        &["this name cannot be used"],
    );
    for name in ["a__b", "a_"] {
        refused(
            &with_echo(&format!("[mcp.{name}]\nurl = \"http://x\"")),
            &[&format!(
                "mcp.{name}: a tool server's name cannot hold `__`"
            )],
        );
    }
    let grant = "[plugins.echo]\npath = \"echo.wasm\"\ncapabilities.llm = [\"locla\", \"any*\"]";
    refused(
        &format!("{grant}\n[llm.local]\nbase_url = \"http://x\"\nmodel = \"m\""),
        &[
            "abide.toml:3:14: plugins.echo.capabilities.llm: there is no model provider `locla`",
            "did you mean `local`?",
        ],
    );
    refused(grant, &["no model provider is configured"]);
    let echo = "[plugins.echo]\npath = \"echo.wasm\"\n";
    refused(
        &format!("{echo}capabilities.http = [\"ok.example\", \"https://a.example/path\"]"),
        &[
            "plugins.echo.capabilities.http: `https://a.example/path` is no host to send to",
            "leave out what follows the host",
            "write entries like",
        ],
    );
    refused(
        &format!("{echo}capabilities.http_private = [\"10.0.0.0/8\"]"),
        &["plugins.echo.capabilities.http_private: `10.0.0.0/8` is no host's name"],
    );
}

#[test]
fn variables_are_named_in_errors() {
    for (name, value, parts) in [
        (
            "ABIDE_DAEMON__LISEN",
            "x",
            [
                "environment variable ABIDE_DAEMON__LISEN: ",
                "did you mean `listen`?",
            ],
        ),
        (
            "ABIDE_DAEMON__PROBATION",
            "soon",
            [
                "environment variable ABIDE_DAEMON__PROBATION: daemon.probation",
                "\"20s\"",
            ],
        ),
        (
            "ABIDE_DAEMON__TURNS_MAX",
            "[1]",
            [
                "environment variable ABIDE_DAEMON__TURNS_MAX",
                "a whole number",
            ],
        ),
        (
            "ABIDE_DAEMON_LISTEN",
            "x",
            [
                "environment variable ABIDE_DAEMON_LISTEN",
                "write ABIDE_DAEMON__LISTEN",
            ],
        ),
        (
            "ABIDE_PLUGINS__ECHO",
            "x",
            ["[plugins.echo] is a table", "name one of its keys"],
        ),
        (
            "ABIDE_DAEMON__LISTEN__X",
            "x",
            ["`daemon.listen` holds no others", "unset it"],
        ),
        (
            "ABIDE_DAEMON__STOP_TIMEOUT",
            "1s",
            ["daemon.shutdown_grace_period", "stop_timeout = 1s"],
        ),
        (
            "ABIDE_PLUGINS__ECHO__PATH",
            "gone.wasm",
            [
                "environment variable ABIDE_PLUGINS__ECHO__PATH: plugins.echo.path",
                "gone.wasm",
            ],
        ),
    ] {
        let error = rejection(&with_echo(""), &[(name, value)]);
        for part in parts {
            assert!(error.contains(part), "`{part}` is missing from:\n{error}");
        }
    }
}

#[test]
fn unreadable_files_come_with_a_remedy() {
    let folder = Folder::new();
    let error = Config::load(&folder.file(), &Env::new()).expect_err("there is none");
    assert!(matches!(error, ConfigError::Unreadable { .. }));
    assert!(
        error.to_string().contains("`abide init` writes one"),
        "{error}"
    );
    let error = Config::load(folder.path(), &Env::new()).expect_err("a folder");
    assert!(error.to_string().contains("readable file"), "{error}");
    std::fs::write(folder.file(), vec![b'#'; (1 << 20) + 1]).expect("writes");
    let error = Config::load(&folder.file(), &Env::new()).expect_err("too large");
    assert!(error.to_string().contains("make it smaller"), "{error}");
    std::fs::write(folder.file(), with_echo("")).expect("writes");
    let loaded = Config::load(&folder.file(), &Env::new()).expect("loads");
    assert_eq!(loaded.bytes, with_echo("").into_bytes());
}

#[test]
fn places_can_be_read_by_programs() {
    let folder = Folder::new();
    std::fs::write(folder.path().join("other.wasm"), COMPONENT).expect("writes");
    let error = folder
        .validate(&with_echo("[daemon]\n  prob = 1"), &[])
        .expect_err("refused");
    let [problem] = error.problems() else {
        panic!("one problem: {error}");
    };
    let Place::Line {
        line,
        column,
        width,
        ..
    } = &problem.place
    else {
        panic!("a line: {error}");
    };
    assert_eq!((*line, *column, *width), (2, 3, 4));
}
