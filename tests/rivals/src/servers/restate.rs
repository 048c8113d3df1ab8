//! Restate on a single node, and the service that it calls.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use abide_tests::{Client, PATIENCE, free_port, target};
use serde_json::json;

use super::attend::attend;
use super::program::ChildProgram;

/// Pause before the registration is retried while the server starts.
const PAUSE: Duration = Duration::from_millis(20);

/// The running server and service.
pub(crate) struct Restate {
    pub(crate) server: ChildProgram,
    pub(crate) service: ChildProgram,
}

impl Restate {
    /// Starts both on a directory, and registers the service with the server, whose ingress listens
    /// on `port`.
    pub(crate) async fn start(program: &Path, port: u16, folder: &Path) -> Result<Self, String> {
        let config = folder.join("restate.toml");
        let (node, admin, service) = (free_port(), free_port(), free_port());
        let text = config_text(port, node, admin);
        std::fs::write(&config, text).map_err(|error| format!("{}: {error}", config.display()))?;
        let address = format!("127.0.0.1:{service}");
        let args = vec![address.clone().into()];
        let service = ChildProgram::start("service", service_program()?, args, folder)?;
        let args = vec![
            "--no-logo".into(),
            "--config-file".into(),
            config.into_os_string(),
            "--base-dir".into(),
            folder.join("data").into_os_string(),
        ];
        let mut this = Self {
            server: ChildProgram::start("restate", program.to_owned(), args, folder)?,
            service,
        };
        attend(|| this.check(), register(admin, &address)).await?;
        Ok(this)
    }

    /// Returns an error if one of both has exited.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        self.server.check()?;
        self.service.check()
    }
}

/// Registers the service with the server, once that accepts requests.
async fn register(admin: u16, address: &str) -> Result<(), String> {
    let client = Client::new(admin);
    // An existing store still contains the address of an earlier service that no longer runs:
    // `force` replaces it.
    let body = json!({"uri": format!("http://{address}"), "force": true});
    let began = Instant::now();
    loop {
        let reply = client.post("/deployments", &body).await;
        match reply {
            Ok(reply) if (200..300).contains(&reply.status) => return Ok(()),
            reply if began.elapsed() > PATIENCE => {
                return Err(format!("Restate does not take the service: {reply:?}"));
            }
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Returns the configuration of a single node as documented, with everything that would disturb a
/// measurement disabled. It has twice as many partitions as cores: with the default of 24, Restate
/// is a quarter slower on two cores, because each partition's log is appended to separately.
fn config_text(ingress: u16, node: u16, admin: u16) -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let partitions = 2 * cores;
    format!(
        "node-name = \"chat\"\n\
         disable-telemetry = true\n\
         log-filter = \"warn\"\n\
         listen-mode = \"tcp\"\n\
         bind-ip = \"127.0.0.1\"\n\
         advertised-host = \"127.0.0.1\"\n\
         bind-port = {node}\n\
         default-num-partitions = {partitions}\n\
         [ingress]\n\
         bind-port = {ingress}\n\
         [admin]\n\
         bind-port = {admin}\n\
         disable-web-ui = true\n"
    )
}

/// Returns the path of the service, which is built separately from this program.
fn service_program() -> Result<PathBuf, String> {
    let program = target().join("release/restate-chat");
    if !program.exists() {
        return Err(format!(
            "{} is missing: `make bench-peers` builds it first",
            program.display()
        ));
    }
    Ok(program)
}
