//! Holds conversations with a small real model behind chat templates that refuse what those of
//! Qwen, Mistral and Gemma refuse: a restart in the middle of a turn, a truncated answer, a trimmed
//! history, a burst of messages, a stopped turn. The model's server must accept every request.
//!
//! The content of the model's answers does not matter: the model is too small for that.

mod relay;
mod scenes;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;

use abide_tests::{Daemon, Plugin, Setup};

use relay::Relay;
use server::ModelServer;

/// The names of the templates' files.
const TEMPLATES: [&str; 3] = ["qwen", "mistral", "gemma"];

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [scripts, folder] = arguments.as_slice() else {
        eprintln!("usage: abide-real-model SCRIPTS FOLDER (`make real-model` knows both)");
        return ExitCode::FAILURE;
    };
    let (scripts, folder) = (PathBuf::from(scripts), PathBuf::from(folder));
    let mut wrong = 0;
    println!(
        "{:10} {:24} {:>8} {:>8}  verdict",
        "template", "scene", "requests", "refused"
    );
    for template in TEMPLATES {
        let file = scripts.join(format!("templates/{template}.jinja"));
        let server = ModelServer::start(&scripts, &folder, &file).await;
        let relay = Relay::start(server.base_url()).await;
        let setup = Setup {
            plugins: vec![Plugin {
                capabilities: vec!["llm = [\"local\"]".to_owned()],
                ..Plugin::new("assistant")
            }],
            model: Some(relay.base_url()),
            ..Setup::default().grace("50ms")
        };
        let mut daemon = Daemon::start(setup).await;
        for scene in scenes::SCENES {
            let before = relay.seen();
            let result = scenes::play(scene, &mut daemon).await;
            let seen = relay.seen() - before;
            let refused = relay.refused();
            let refused = &refused[before.refused..];
            let verdict = match (&result, refused) {
                (Ok(()), []) if seen.requests > 0 => "ok".to_owned(),
                (Ok(()), []) => "WRONG: nothing was asked".to_owned(),
                (Ok(()), [first, ..]) => format!("WRONG: refused: {first}"),
                (Err(error), _) => format!("WRONG: {error}"),
            };
            wrong += usize::from(verdict != "ok");
            println!(
                "{template:10} {:24} {:>8} {:>8}  {verdict}",
                scene.name(),
                seen.requests,
                refused.len()
            );
        }
        if wrong > 0 {
            eprintln!("--- the daemon's log ---\n{}", daemon.log());
        }
    }
    if wrong == 0 {
        println!("\nverdict: every request was taken");
        return ExitCode::SUCCESS;
    }
    println!("\nverdict: WRONG, {wrong} scenes");
    ExitCode::FAILURE
}
