//! `abide plugin check`: checks whether a component can be a plugin, by opening a throw-away
//! session on it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::error::CliError;
use super::global::Global;
use super::out::{Out, Tone, hint};
use super::plugin_args::CheckFile;
use super::plugin_trial::{self, Subject};
use super::table::{Cell, table};
use super::text::size;
use crate::config::{Config, PluginConfig, plugin_bytes, process_env};
use crate::daemon::OfflineTrial;
use crate::domain::{Capabilities, Digest, SessionId, UnixMillis};
use crate::engine::{CompileLimits, Compiler, Context, Engine, EngineOptions, GuestJob};

/// The name of that session, and of its plugin.
const PROBE: &str = "check";

/// Runs the command: checks the kind, contract, imports, limits, `open`, and the snapshot's round
/// trip.
pub(super) async fn run(global: &Global, args: CheckFile) -> Result<(), CliError> {
    let file = &args.file;
    let failed =
        |error: &dyn std::fmt::Display| CliError::Failed(format!("{}: {error}", file.display()));
    let bytes = plugin_bytes(file).map_err(CliError::file("read", file))?;
    let scratch = Scratch::new()?;
    let (config, unread) = Config::as_far_as_it_goes(&global.config, &process_env());
    if let Some(error) = unread {
        hint(format!(
            "{error}; what it does not say has its default here"
        ));
    }
    // As the daemon's: what a component needs of the pool, and how long it may take to compile, decide
    // whether it can be served.
    let engine = Engine::new(EngineOptions {
        turns_max: config.daemon.turns_max,
        compiler: Compiler::OwnProcess(Arc::default()),
        compile_limits: CompileLimits {
            timeout: config.daemon.compile_timeout,
            memory_bytes: config.daemon.compile_memory_bytes,
            ..CompileLimits::default()
        },
        ..EngineOptions::new(scratch.0.join("cache"), scratch.0.join("components"))
    })
    .map_err(|error| CliError::Failed(error.to_string()))?;
    let component = engine.load(&bytes).map_err(|error| failed(&error))?;
    let plugin = plugin(&config, file, args.plugin.as_deref())?;
    let limits = plugin.map(|(_, plugin)| plugin.limits.clone());
    let limits = limits.unwrap_or_default();
    let job = GuestJob {
        component: component.clone(),
        context: Context {
            session: SessionId::new(PROBE).map_err(|error| failed(&error))?,
            plugin: PROBE.to_owned(),
            args: args.args.unwrap_or_default().to_string(),
        },
        limits: limits.clone(),
        grants: Capabilities::default(),
        timers: Vec::new(),
        now: UnixMillis::now(),
        seed: 0,
    };
    let product = engine.check(&job).await.map_err(|error| failed(&error))?;
    let digest = Digest::of(&bytes);
    let length = bytes.len();
    let found = match &args.against {
        None => None,
        Some(against) => {
            let subject = Subject {
                bytes,
                component: OfflineTrial {
                    engine: &engine,
                    component: component.clone(),
                    limits: limits.clone(),
                    grants: plugin
                        .map(|(_, it)| it.capabilities.clone())
                        .unwrap_or_default(),
                },
                name: plugin.map(|(name, _)| name.to_owned()),
                config: &config,
            };
            Some(plugin_trial::run(global, subject, against).await?)
        }
    };

    let mut out = Out::new(global.no_color);
    let snapshot = product.data.len() as u64;
    if args.json.json {
        out.json(&json!({
            "file": file,
            "bytes": length,
            "digest": digest,
            "contract": component.contract(),
            "schema": product.schema,
            "snapshot_bytes": snapshot,
            "limits_of": plugin.map(|(name, _)| name),
            "trial": found,
        }))?;
        return found.map_or(Ok(()), |found| plugin_trial::verdict(file, &found));
    }
    let rows: Vec<Vec<Cell>> = [
        ("size", size(length as u64)),
        ("digest", digest.short()),
        (
            "contract",
            format!("abide:session@{}", component.contract()),
        ),
        (
            "opens",
            format!(
                "within {} of memory, {}",
                size(limits.memory_bytes),
                match plugin {
                    Some((name, _)) => format!("the limits of [plugins.{name}]"),
                    None => "the default limits".to_owned(),
                }
            ),
        ),
        (
            "snapshot",
            format!(
                "schema {}, {} of at most {}; restored and taken again, it is the same bytes",
                product.schema,
                size(snapshot),
                size(limits.snapshot_bytes)
            ),
        ),
    ]
    .into_iter()
    .map(|(name, value)| vec![name.into(), value.into()])
    .collect();
    let fit = out.paint(Tone::Good, "fit to be a plugin");
    out.line(format!("{}: {fit}", file.display()))?;
    out.text(&table(&out, 2, &[], &rows))?;
    if let Some(found) = found {
        plugin_trial::show(&mut out, &found)?;
        plugin_trial::verdict(file, &found)?;
    }
    Ok(())
}

/// Returns the configured plugin whose limits the component is checked under: the one that was named, or
/// the one whose file it is.
fn plugin<'a>(
    config: &'a Config,
    file: &Path,
    named: Option<&str>,
) -> Result<Option<(&'a str, &'a PluginConfig)>, CliError> {
    let mut plugins = config
        .plugins
        .iter()
        .map(|(name, plugin)| (name.as_str(), plugin));
    if let Some(named) = named {
        let found = plugins.find(|(name, _)| *name == named);
        return match found {
            Some(found) => Ok(Some(found)),
            None => Err(CliError::Failed(format!(
                "there is no [plugins.{named}] in {}; leave --plugin out for the default limits",
                config.file.display()
            ))),
        };
    }
    let real = |path: &Path| path.canonicalize().ok();
    let file = real(file);
    Ok(plugins.find(|(_, plugin)| file.is_some() && real(&plugin.path) == file))
}

/// A directory for compiled code, which is removed after the check.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, CliError> {
        let path = std::env::temp_dir().join(super::send::new_key());
        match std::fs::create_dir(&path) {
            Ok(()) => Ok(Self(path)),
            Err(source) => Err(CliError::File {
                doing: "create",
                path,
                source,
            }),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left to the system's clean-up of temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
