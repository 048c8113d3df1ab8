//! `abide plugin check`: checks whether a component can be a plugin, by opening a throw-away
//! session on it.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;

use super::args::CheckFile;
use super::error::CliError;
use super::global::Global;
use super::out::{Out, Tone};
use super::table::{Cell, table};
use super::text::size;
use crate::config::plugin_bytes;
use crate::domain::{Capabilities, Digest, Limits, SessionId, UnixMillis};
use crate::engine::{Compiler, Context, Engine, EngineOptions, GuestJob};

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
    let engine = Engine::new(EngineOptions {
        turns_max: 1,
        compiler: Compiler::OwnProcess(Arc::default()),
        ..EngineOptions::new(scratch.0.join("cache"), scratch.0.join("components"))
    })
    .map_err(|error| CliError::Failed(error.to_string()))?;
    let component = engine.load(&bytes).map_err(|error| failed(&error))?;
    let limits = Limits::default();
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

    let mut out = Out::new(global.no_color);
    let snapshot = product.data.len() as u64;
    if args.json.json {
        return Ok(out.json(&json!({
            "file": file,
            "bytes": bytes.len(),
            "digest": Digest::of(&bytes),
            "contract": component.contract(),
            "schema": product.schema,
            "snapshot_bytes": snapshot,
        }))?);
    }
    let rows: Vec<Vec<Cell>> = [
        ("size", size(bytes.len() as u64)),
        ("digest", Digest::of(&bytes).short()),
        (
            "contract",
            format!("abide:session@{}", component.contract()),
        ),
        (
            "opens",
            format!("within {} of memory", size(limits.memory_bytes)),
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
    Ok(())
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
