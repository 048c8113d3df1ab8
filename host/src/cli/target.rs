//! Finds the daemon's address. A broken configuration must not hide the daemon that can report what
//! is broken, so only the few keys needed here are read, and all others are ignored.

use std::io::ErrorKind;
use std::path::Path;

use serde::Deserialize;

use super::client::DaemonAddress;
use super::error::CliError;
use super::global::Global;
use super::out::hint;
use crate::config::config_bytes;

/// The address that a daemon listens on by default.
const LISTEN_DEFAULT: &str = "127.0.0.1:7420";

#[derive(Debug, Default, Deserialize)]
struct ConfigAddress {
    #[serde(default)]
    daemon: Keys,
}

#[derive(Debug, Default, Deserialize)]
struct Keys {
    listen: Option<ListenKeys>,
    token_env: Option<String>,
    token_file: Option<std::path::PathBuf>,
}

/// One address or several, of which the first is used.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum ListenKeys {
    One(String),
    Several(Vec<String>),
}

impl ListenKeys {
    fn first(&self) -> Option<&str> {
        match self {
            Self::One(address) => Some(address),
            Self::Several(addresses) => addresses.first().map(String::as_str),
        }
    }
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn named(global: &Global) -> Option<String> {
    global.url.clone().or_else(|| env("ABIDE_URL"))
}

/// Returns whether the daemon is named by a URL, rather than found through its configuration.
pub(crate) fn is_named(global: &Global) -> bool {
    named(global).is_some()
}

/// Returns the address of the daemon that the options, the environment and the configuration name.
pub(crate) fn find(global: &Global) -> Result<DaemonAddress, CliError> {
    let named = named(global);
    let file = global.config.display();
    let (mut keys, hint) = match config_bytes(&global.config) {
        Ok(bytes) => match keys_in(&String::from_utf8_lossy(&bytes)) {
            (keys, None) => (keys, String::new()),
            (keys, Some(reason)) => {
                if named.is_none() {
                    let at = match &keys.listen {
                        Some(_) => "asking at the address that stands before that",
                        None => "asking at the default address",
                    };
                    hint(format!("warning: {file} cannot be read ({reason}); {at}"));
                }
                let hint = format!(" (`{file}` is broken: `abide config check` says where)");
                (keys, hint)
            }
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {
            (Keys::default(), hint_without_file(global))
        }
        Err(error) => {
            let hint = format!(" ({file} cannot be read: {error}; name the daemon with --url)");
            (Keys::default(), hint)
        }
    };
    keys.listen = env("ABIDE_DAEMON__LISTEN")
        .map(ListenKeys::One)
        .or(keys.listen);
    keys.token_env = env("ABIDE_DAEMON__TOKEN_ENV").or(keys.token_env);
    keys.token_file = env("ABIDE_DAEMON__TOKEN_FILE")
        .map(Into::into)
        .or(keys.token_file);

    let (url, hint) = match &named {
        Some(url) => (checked(url)?, String::new()),
        None => {
            let listen = keys.listen.as_ref().and_then(ListenKeys::first);
            let listen = listen.unwrap_or(LISTEN_DEFAULT);
            (from_listen(listen), hint)
        }
    };
    Ok(DaemonAddress {
        url,
        token: token(global, &keys, env)?,
        hint,
    })
}

/// Returns the keys of a file, and what is wrong with it: then those that stand before the mistake.
fn keys_in(text: &str) -> (Keys, Option<String>) {
    let (mut rest, mut wrong) = (text, None);
    loop {
        let error = match toml::from_str::<ConfigAddress>(rest) {
            Ok(file) => return (file.daemon, wrong),
            Err(error) => error,
        };
        // What is before the line of the mistake, and shorter each time.
        let at = error.span().map_or(0, |span| span.start.min(rest.len()));
        let before = rest.get(..at).unwrap_or_default();
        let line = before.rfind('\n').map_or(0, |end| end + 1);
        wrong.get_or_insert_with(|| error.message().to_owned());
        if line == 0 {
            return (Keys::default(), wrong);
        }
        rest = match line < rest.len() {
            true => &rest[..line],
            // The mistake is the end itself.
            false => rest[..line - 1].rfind('\n').map_or("", |end| &rest[..=end]),
        };
    }
}

fn hint_without_file(global: &Global) -> String {
    format!(
        " (there is no {}; name another with --config, or the daemon with --url)",
        global.config.display()
    )
}

fn token(
    global: &Global,
    keys: &Keys,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Option<String>, CliError> {
    if let Some(name) = &global.token_env {
        let unset = || {
            CliError::Usage(format!(
                "--token-env names {name}, which is not set; export it first"
            ))
        };
        return env(name).map(Some).ok_or_else(unset);
    }
    if let Some(token) = env("ABIDE_TOKEN").or_else(|| env(keys.token_env.as_ref()?)) {
        return Ok(Some(token));
    }
    let Some(file) = &keys.token_file else {
        return Ok(None);
    };
    let folder = global.config.parent().unwrap_or(Path::new(""));
    let path = folder.join(file);
    match std::fs::read_to_string(&path) {
        Ok(token) => Ok(Some(token.trim().to_owned())),
        Err(source) => Err(CliError::File {
            doing: "read the token from",
            path,
            source,
        }),
    }
}

/// Checks a URL typed by the user, and removes trailing slashes.
fn checked(url: &str) -> Result<String, CliError> {
    let url = url.trim_end_matches('/');
    if url.starts_with("http://") || url.starts_with("https://") {
        Ok(url.to_owned())
    } else {
        Err(CliError::Usage(format!(
            "`{url}` is no URL of a daemon; write it as http://127.0.0.1:7420"
        )))
    }
}

/// Turns a listen address into a URL to connect to: a wildcard address is reached over loopback.
fn from_listen(listen: &str) -> String {
    let reachable = match listen.parse::<std::net::SocketAddr>() {
        Ok(address) if address.ip().is_unspecified() => {
            let host = if address.is_ipv4() {
                "127.0.0.1"
            } else {
                "[::1]"
            };
            format!("{host}:{}", address.port())
        }
        _ => listen.to_owned(),
    };
    format!("http://{reachable}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_are_reached_over_loopback() {
        assert_eq!(from_listen("0.0.0.0:80"), "http://127.0.0.1:80");
        assert_eq!(from_listen("[::]:80"), "http://[::1]:80");
        assert_eq!(from_listen("10.0.0.7:80"), "http://10.0.0.7:80");
    }

    #[test]
    fn other_keys_are_not_judged() {
        let file: ConfigAddress =
            toml::from_str("[daemon]\nlisten = '127.0.0.1:1'\nwrong = 3\n[nonsense]\n")
                .expect("a TOML document");
        let first = |file: &ConfigAddress| Some(file.daemon.listen.as_ref()?.first()?.to_owned());
        assert_eq!(first(&file).as_deref(), Some("127.0.0.1:1"));
        let file: ConfigAddress =
            toml::from_str("daemon.listen = ['127.0.0.1:2', '[::1]:2']").expect("TOML");
        assert_eq!(first(&file).as_deref(), Some("127.0.0.1:2"));
    }

    #[test]
    fn keys_before_a_mistake_are_read() {
        let good = "[daemon]\nlisten = '127.0.0.1:1'\n";
        for bad in [
            "[llm.a]\nx = \n",
            "y = 'z",
            "\u{fffd}\n",
            "[daemon]\n",
            "a = 1\na = 2\n[b\n",
        ] {
            let (keys, wrong) = keys_in(&format!("{good}{bad}"));
            let listen = keys.listen.as_ref().and_then(ListenKeys::first);
            assert_eq!(listen, Some("127.0.0.1:1"), "{bad:?}");
            assert!(wrong.is_some(), "{bad:?}");
        }
        assert!(keys_in(good).1.is_none());
        for bad in ["= 1", "[daemon]\nlisten = 3\n", "x"] {
            let (keys, wrong) = keys_in(bad);
            assert!(keys.listen.is_none() && wrong.is_some(), "{bad:?}");
        }
    }

    #[test]
    fn only_urls_are_urls() {
        assert!(checked("127.0.0.1:7420").is_err());
        assert_eq!(checked("http://h:1/").ok().as_deref(), Some("http://h:1"));
    }
}
