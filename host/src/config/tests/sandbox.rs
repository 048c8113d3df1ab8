//! The sandboxes of tool servers: what cannot be given to a server from which it is hidden.

use super::bad_input::{refused, rejection};
use super::with_echo;

#[test]
fn what_a_sandbox_hides_is_not_given_to_its_server() {
    refused(
        &with_echo("[mcp.f]\nurl = \"http://x\"\nsandbox = true"),
        &["mcp.f.sandbox: `sandbox` is for a `command`"],
    );
    for given in [
        "command = [\"x\", \"./data/mine\"]",
        "command = [\"x\", \"--db=data/x.db\"]",
        "command = [\"x\", \"./abide.toml\"]",
        "command = [\"data/x\"]",
        "command = [\"x\"]\nenv = { F = { value = \"./data/x\" } }",
    ] {
        refused(
            &with_echo(&format!("[mcp.f]\n{given}\nsandbox = true")),
            &["which the server's `sandbox` hides", "mcp.f."],
        );
        let open = rejection(&with_echo(&format!("[mcp.f]\n{given}\n[mcp.g]")), &[]);
        assert!(!open.contains("mcp.f"), "{open}");
    }
}
