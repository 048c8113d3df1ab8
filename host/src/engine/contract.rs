//! The versions of the contract, and the imports that are linked for each.
//!
//! A released version is frozen in its own directory of `wit/`. A component's type names the
//! version that it was built for, so the version is known before any of its code runs.

use super::error::LoadError;
use super::shape::Shape;

const PACKAGE: &str = "abide:session/";
/// The interface that a guest must export.
const GUEST: &str = "guest";
/// The functions that [`GUEST`] must have.
const EXPORTS: [&str; 4] = ["open", "turn", "snapshot", "restore"];
/// The versions that this host serves, oldest first.
pub const CONTRACTS: [&str; 1] = ["0.1.0"];

/// The contract's interfaces that a guest may import.
const IMPORTS: [&str; 8] = [
    "types", "llm", "tools", "http", "inbox", "output", "timer", "log",
];

/// The linked interfaces of WASI 0.2, as `package/interface`.
const WASI: [&str; 27] = [
    "cli/environment",
    "cli/exit",
    "cli/stdin",
    "cli/stdout",
    "cli/stderr",
    "cli/terminal-input",
    "cli/terminal-output",
    "cli/terminal-stdin",
    "cli/terminal-stdout",
    "cli/terminal-stderr",
    "clocks/monotonic-clock",
    "clocks/wall-clock",
    "filesystem/preopens",
    "filesystem/types",
    "io/error",
    "io/poll",
    "io/streams",
    "random/insecure",
    "random/insecure-seed",
    "random/random",
    "sockets/instance-network",
    "sockets/ip-name-lookup",
    "sockets/network",
    "sockets/tcp",
    "sockets/tcp-create-socket",
    "sockets/udp",
    "sockets/udp-create-socket",
];

/// Checks what a component imports and exports, and returns the version of the contract that it was built
/// for.
pub(super) fn check(shape: &Shape) -> Result<&'static str, LoadError> {
    let version = version(
        shape.exports.iter().map(|export| export.name.as_str()),
        shape.imports.iter().map(String::as_str),
    )?;
    if let Some(name) = shape.imports.iter().find(|name| !is_linked(name, version)) {
        return Err(LoadError::Import { name: name.clone() });
    }
    let guest = guest(version);
    let lacks = |name: String| LoadError::Export {
        name,
        remedy: format!("build it against wit/v{version}"),
    };
    let found = shape.exports.iter().find(|export| export.name == guest);
    let Some(functions) = found.and_then(|export| export.members.as_ref()) else {
        return Err(lacks(guest));
    };
    match EXPORTS
        .iter()
        .find(|name| !functions.iter().any(|has| has == *name))
    {
        Some(function) => Err(lacks(format!("{guest}#{function}"))),
        None => Ok(version),
    }
}

/// Returns the name of the interface that a guest of contract `version` exports.
pub(super) fn guest(version: &str) -> String {
    format!("{PACKAGE}{GUEST}@{version}")
}

/// Returns the version of the contract that a component was built for, from the names of its
/// exports (or, if it exports no guest, of its imports).
fn version<'a>(
    exports: impl Iterator<Item = &'a str>,
    mut imports: impl Iterator<Item = &'a str>,
) -> Result<&'static str, LoadError> {
    let mut exports = exports.filter_map(|name| name.strip_prefix(PACKAGE)?.split_once('@'));
    let found = match exports.find(|(interface, _)| *interface == GUEST) {
        Some((_, version)) => version,
        None => match imports.find_map(|name| name.strip_prefix(PACKAGE)?.split_once('@')) {
            // Built for a served contract, but without a guest.
            Some((_, version)) if CONTRACTS.contains(&version) => {
                return Err(missing_guest());
            }
            Some((_, version)) => version,
            None => return Err(missing_guest()),
        },
    };
    CONTRACTS
        .into_iter()
        .find(|served| *served == found)
        .ok_or_else(|| LoadError::Contract {
            built_for: found.to_owned(),
            served: CONTRACTS.join(", "),
        })
}

/// Returns whether an import of this name is linked for guests of contract `version`.
fn is_linked(import: &str, version: &str) -> bool {
    let Some((path, built_for)) = import.split_once('@') else {
        return false;
    };
    if let Some(interface) = path.strip_prefix(PACKAGE) {
        return built_for == version && IMPORTS.contains(&interface);
    }
    let Some(interface) = path.strip_prefix("wasi:") else {
        return false;
    };
    let minor = built_for.strip_prefix("0.2.").unwrap_or_default();
    minor.parse::<u32>().is_ok() && WASI.contains(&interface)
}

/// Returns the error for a component that exports no guest at all.
fn missing_guest() -> LoadError {
    LoadError::Export {
        name: guest(CONTRACTS[CONTRACTS.len() - 1]),
        remedy: "a plugin implements it, by `abide_plugin::export!` or by hand".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_linked_is_linked() {
        for (import, expected) in [
            ("abide:session/llm@0.1.0", true),
            ("abide:session/llm@0.2.0", false),
            ("abide:session/llm", false),
            ("abide:session/secrets@0.1.0", false),
            ("wasi:io/poll@0.2.0", true),
            ("wasi:io/poll@0.2.12", true),
            ("wasi:sockets/udp-create-socket@0.2.3", true),
            ("wasi:io/poll@0.3.0", false),
            ("wasi:io/poll@0.2.0-rc", false),
            ("wasi:http/outgoing-handler@0.2.0", false),
            ("other", false),
        ] {
            assert_eq!(is_linked(import, "0.1.0"), expected, "{import}");
        }
    }

    #[test]
    fn the_version_is_read_from_the_names() {
        let version = |export, import| version([export].into_iter(), [import].into_iter());
        let none = "wasi:io/poll@0.2.0";
        assert_eq!(
            version("abide:session/guest@0.1.0", none).ok(),
            Some("0.1.0")
        );
        assert!(matches!(
            version("abide:session/guest@0.9.0", none),
            Err(LoadError::Contract { built_for, .. }) if built_for == "0.9.0"
        ));
        assert!(matches!(
            version("run", "abide:session/log@0.9.0"),
            Err(LoadError::Contract { .. })
        ));
        assert!(matches!(
            version("run", none),
            Err(LoadError::Export { .. })
        ));
    }
}
