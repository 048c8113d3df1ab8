use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::super::{Config, Env, SecretRef, Transport, json_schema, reference, starter};
use super::{COMPONENT, Folder, environment, parsed, with_echo};
use crate::domain::{Digest, Limits, Retention};

const EXAMPLE: &str = r#"
[daemon]
listen = "127.0.0.1:7420"         # beyond loopback only with a token
data_dir = "data"
shutdown_grace_period = "20s"
on_config_change = "auto"

[plugins.assistant]
path = "assistant.wasm"
[plugins.assistant.capabilities]
llm = ["local"]
tools = ["files"]                 # names or patterns
[plugins.assistant.limits]
memory = "64MiB"
turn_timeout = "10m"

[llm.local]                       # any OpenAI-compatible server
base_url = "http://127.0.0.1:8080/v1"
model = "smollm2"
api_key_env = "OPENAI_API_KEY"

[mcp.files]                       # any MCP server
command = ["npx", "@modelcontextprotocol/server-filesystem", "notes"]
"#;

#[test]
fn the_documented_example_loads() {
    let folder = Folder::new();
    std::fs::write(folder.path().join("assistant.wasm"), COMPONENT).expect("writes");
    let config = folder
        .validate(EXAMPLE, &[("OPENAI_API_KEY", "sk-1")])
        .expect("loads");
    assert_eq!(config.digest, Digest::of(EXAMPLE.as_bytes()));
    assert_eq!(config.daemon.data_dir, folder.path().join("data"));
    assert_eq!(config.daemon.listen[0].to_string(), "127.0.0.1:7420");
    let assistant = &config.plugins["assistant"];
    assert_eq!(assistant.limits, Limits::default());
    assert_eq!(assistant.capabilities.llm.first_name(), Some("local"));
    let local = &config.llm["local"];
    assert_eq!(
        local.api_key,
        Some(SecretRef::Env("OPENAI_API_KEY".to_owned()))
    );
    let Transport::Command { program, args, .. } = &config.mcp["files"].transport else {
        panic!("a command");
    };
    assert_eq!((program.as_str(), args.len()), ("npx", 2));
    assert!(
        config
            .files()
            .contains(&folder.path().join("assistant.wasm"))
    );
}

#[test]
fn defaults_are_those_of_the_domain() {
    let config = parsed(&with_echo(""));
    assert_eq!(config.plugins["echo"].limits, Limits::default());
    assert_eq!(config.retention, Retention::default());
    assert!(config.daemon.grace_period < config.daemon.stop_budget());
    assert!(config.daemon.stop_budget() < config.daemon.stop_timeout);
}

#[test]
fn the_environment_overrides() {
    let env = environment(&[
        ("ABIDE_DAEMON__LISTEN", "[\"127.0.0.1:1\", \"127.0.0.1:2\"]"),
        ("ABIDE_DAEMON__TURNS_MAX", "7"),
        ("ABIDE_PLUGINS__MY_ECHO__LIMITS__MEMORY", "2097152"),
        ("ABIDE_PLUGINS__MY_ECHO__LIMITS__TURN_TIMEOUT", "5s"),
        ("ABIDE_LLM__LOCAL__BASE_URL", "http://127.0.0.1:8080/v1/"),
        ("ABIDE_LLM__LOCAL__MODEL", "17"),
        ("ABIDE_DAEMON__TOKEN_ENV", "THE_TOKEN"),
        // Not overrides: reserved names, those that Kubernetes sets, unrelated ones.
        ("ABIDE_URL", "http://127.0.0.1:7420"),
        ("ABIDE_SUPERVISOR_FD", "3"),
        ("ABIDE_DAEMON_SERVICE_HOST", "10.0.0.1"),
        ("ABIDE_PORT", "tcp://10.0.0.1:7420"),
    ]);
    let text = "[plugins.my-echo]\npath = \"echo.wasm\"\nlimits = { inbox = 3 }";
    let config = Config::parse(text.as_bytes(), Path::new("/a/abide.toml"), &env)
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.daemon.listen.len(), 2);
    assert_eq!(config.daemon.turns_max, 7);
    let limits = &config.plugins["my-echo"].limits;
    assert_eq!((limits.memory_bytes, limits.inbox), (2 << 20, 3));
    assert_eq!(limits.turn_timeout, Duration::from_secs(5));
    assert_eq!(config.llm["local"].base_url, "http://127.0.0.1:8080/v1");
    assert_eq!(config.llm["local"].model, "17");
    assert_eq!(
        config.daemon.token,
        Some(SecretRef::Env("THE_TOKEN".to_owned()))
    );
}

#[test]
fn variables_that_hold_secrets_may_be_called_like_ours() {
    let text = with_echo("[daemon]\ntoken_env = \"ABIDE_DAEMON__SECRET\"");
    let env = environment(&[("ABIDE_DAEMON__SECRET", "s3cr3t")]);
    let config = Config::parse(text.as_bytes(), Path::new("/a/abide.toml"), &env).expect("parses");
    let token = config.daemon.token.expect("a token");
    assert_eq!(token.read(&env).expect("is set").expose(), "s3cr3t");
}

#[test]
fn the_starter_runs_as_it_is() {
    let folder = Folder::new();
    let text = starter(&[("echo", "echo.wasm")]);
    let config = folder.validate(&text, &[]).expect("runs as it is");
    assert_eq!(config.plugins.len(), 1);
    // The examples in its comments are valid as well.
    let shown: String = text
        .lines()
        .map(|line| {
            line.strip_prefix("# ")
                .filter(|l| l.starts_with('[') || l.contains(" = "))
                .unwrap_or(line)
        })
        .filter(|line| !line.starts_with("once"))
        .map(|line| format!("{line}\n"))
        .collect();
    let config = folder.validate(&shown, &[("OPENAI_API_KEY", "x"), ("WEB_TOKEN", "x")]);
    let config = config.unwrap_or_else(|error| panic!("{error}\n{shown}"));
    assert_eq!((config.llm.len(), config.mcp.len()), (1, 2));
}

#[test]
fn the_reference_is_a_configuration_with_all_defaults() {
    let text = reference();
    for key in [
        "listen",
        "log_lines",
        "[mcp.NAME]",
        "probation",
        "token_file",
        "dead_letters",
    ] {
        assert!(text.contains(key), "{key} is missing from\n{text}");
    }
    // Uncommented, every key is known and every default of the daemon is valid.
    let mut section = String::new();
    let lines: Vec<String> = text
        .lines()
        .map(|line| {
            if line.starts_with('[') {
                section = line.to_owned();
            }
            let is_key = line.strip_prefix("# ").is_some_and(|key| {
                let name = key.split(" = ").next().unwrap_or_default();
                key.contains(" = ") && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
            });
            let is_daemon = !section.contains("NAME");
            let is_given = line.contains("\"…\"");
            match line.strip_prefix("# ") {
                Some(key) if is_key && is_daemon && !is_given => key.to_owned(),
                _ => line.to_owned(),
            }
        })
        .collect();
    let text = lines
        .join("\n")
        .replace("\"…\"", "\"http://x\"")
        .replace("[mcp.NAME]", "[mcp.NAME]\nurl = \"http://x\"");
    let config = parsed(&text);
    assert_eq!(config.daemon, parsed(&with_echo("")).daemon);
}

#[test]
fn the_schema_names_every_section() {
    let schema = json_schema();
    for section in ["daemon", "retention", "store", "plugins", "llm", "mcp"] {
        assert!(
            schema["properties"][section]["description"].is_string(),
            "{section}"
        );
    }
    assert_eq!(schema["additionalProperties"], false);
}

proptest! {
    #[test]
    fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Config::parse(&bytes, Path::new("/a/abide.toml"), &Env::new());
    }

    #[test]
    fn damaged_files_and_variables_never_panic(
        at in 0..EXAMPLE.len(),
        junk in "[\\[\\]=\"'#.,{}\\n a-z0-9_é-]{0,12}",
        name in "(DAEMON|PLUGINS|LLM|MCP|STORE)__[A-Z_]{0,20}",
        value in "[\\[\\]\"a-z0-9{}=., ]{0,10}",
    ) {
        let text = format!("{}{junk}{}", &EXAMPLE[..at], &EXAMPLE[at..]);
        let env = Env::from([(format!("ABIDE_{name}"), value)]);
        if let Err(error) = Config::parse(text.as_bytes(), Path::new("/a/abide.toml"), &env) {
            prop_assert!(!error.to_string().is_empty());
            prop_assert!(!error.problems().is_empty());
        }
    }
}
