//! Who may call: access tokens, roles, and the record of what operators do.

mod roles;
mod tokens;

use std::process::{Command, Output, Stdio};

use abide_tests::{Client, Daemon, Setup, abide_binary};
use serde_json::{Value, json};

/// The token that the configuration names.
const CONFIGURED: &str = "the-token-of-the-configuration";

/// A daemon that asks for tokens, and past its probation, so that it can keep some.
struct Guarded {
    daemon: Daemon,
    /// The holder of the configuration's token.
    admin: Client,
}

impl Guarded {
    async fn start(change: impl FnOnce(Setup) -> Setup) -> Self {
        let setup = change(Setup {
            token: Some(CONFIGURED.to_owned()),
            daemon: vec!["probation = \"100ms\"".to_owned()],
            ..Setup::default()
        });
        let daemon = Daemon::start(setup).await;
        daemon.until_past_probation().await;
        let admin = daemon.client();
        Self { daemon, admin }
    }

    /// Makes a token. Returns its secret.
    async fn secret(&self, request: Value) -> String {
        let made = self.admin.post("/v1/tokens", &request).await;
        let made = made.expect("an answer").expect(201);
        made["secret"].as_str().expect("a secret").to_owned()
    }

    /// Makes a token of that role for these sessions. Returns a client that has it.
    async fn holder(&self, name: &str, role: &str, approve: bool, sessions: &[&str]) -> Client {
        let request = json!({"name": name, "role": role, "approve": approve, "sessions": sessions});
        self.admin.with_token(&self.secret(request).await)
    }

    /// Runs the command line, as somebody with this token.
    fn abide(&self, token: &str, args: &[&str]) -> Output {
        let output = Command::new(abide_binary())
            .args(args)
            .current_dir(self.daemon.folder())
            .env("ABIDE_TOKEN", token)
            .stdin(Stdio::null())
            .output();
        output.expect("the binary runs")
    }

    async fn audit(&self) -> Vec<Value> {
        let page = self.admin.get("/v1/audit").await.expect("an answer");
        let items = page.expect(200)["items"].take();
        items.as_array().cloned().expect("items")
    }
}
