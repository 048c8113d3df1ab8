//! A daemon's configuration, as a value that a test changes and writes.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::FakeModel;

/// The variable that has [`Setup::token`].
pub(crate) const TOKEN_ENV: &str = "ABIDE_TESTS_TOKEN";

/// One `[plugins.NAME]` section.
#[derive(Clone, Debug)]
pub struct Plugin {
    pub name: String,
    /// The path of its component.
    pub path: PathBuf,
    /// Lines of `[plugins.NAME.capabilities]`.
    pub capabilities: Vec<String>,
    /// Lines of `[plugins.NAME.limits]`.
    pub limits: Vec<String>,
}

impl Plugin {
    /// Returns the guest of that name, under that name, without any capability.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            path: guest(name),
            capabilities: Vec::new(),
            limits: Vec::new(),
        }
    }

    /// Has its component at this path.
    #[must_use]
    pub fn at(mut self, path: PathBuf) -> Self {
        self.path = path;
        self
    }

    /// Grants the model `local` and the tools of the server `t`.
    #[must_use]
    pub fn with_model_and_tools(mut self) -> Self {
        self.capabilities = vec!["llm = [\"local\"]".to_owned(), "tools = [\"t\"]".to_owned()];
        self
    }

    /// Grants the tools of the server `t`.
    #[must_use]
    pub fn with_tools(mut self) -> Self {
        self.capabilities = vec!["tools = [\"t\"]".to_owned()];
        self
    }

    /// Adds a line of limits.
    #[must_use]
    pub fn limit(mut self, line: &str) -> Self {
        self.limits.push(line.to_owned());
        self
    }
}

/// The content of `abide.toml`, and how to start the daemon with it.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The port on the loopback.
    pub port: u16,
    /// The token that `[daemon]` names, by a variable.
    pub token: Option<String>,
    /// `data_dir`.
    pub data_dir: String,
    /// `shutdown_grace_period`.
    pub grace: String,
    /// `on_config_change`.
    pub on_change: String,
    /// All plugins except the spare one.
    pub plugins: Vec<Plugin>,
    /// `base_url` of `[llm.local]`.
    pub model: Option<String>,
    /// A number in the name of a plugin that no session uses: changing it changes the configuration
    /// in a way that needs a restart.
    pub spare: u32,
    /// The spare plugin's component, if it is not `echo`'s.
    pub spare_path: Option<PathBuf>,
    /// A comment on the first line; changing it has no effect.
    pub comment: String,
    /// Further lines of `[daemon]`.
    pub daemon: Vec<String>,
    /// Further lines at the end.
    pub rest: Vec<String>,
    /// Further arguments of `abide serve`.
    pub args: Vec<String>,
    /// Further variables of the daemon's environment.
    pub env: Vec<(String, String)>,
    /// The daemon's binary, if it is not the tested one.
    pub binary: Option<PathBuf>,
    /// The user and group of the daemon, if they are not those of the test. Requires root. Its
    /// directory is chowned to them and gets a copy of the binary; guests must be where they can
    /// read them.
    pub user: Option<u32>,
    /// The daemon's standard error, if it is not the log file in its folder.
    pub stderr: Option<Arc<OwnedFd>>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            port: free_port(),
            token: None,
            data_dir: "data".to_owned(),
            grace: "5s".to_owned(),
            on_change: "auto".to_owned(),
            plugins: vec![Plugin::new("echo")],
            model: None,
            spare: 0,
            spare_path: None,
            comment: "a test's configuration".to_owned(),
            daemon: Vec::new(),
            rest: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
            binary: None,
            user: None,
            stderr: None,
        }
    }
}

impl Setup {
    /// Adds the assistant, which may use this model.
    #[must_use]
    pub fn assistant(self, model: &FakeModel) -> Self {
        self.assistant_at(model.base_url())
    }

    /// Adds the assistant, which may use the model at this `base_url`.
    #[must_use]
    pub fn assistant_at(mut self, base_url: String) -> Self {
        self.model = Some(base_url);
        self.plugins.push(Plugin {
            capabilities: vec!["llm = [\"local\"]".to_owned()],
            ..Plugin::new("assistant")
        });
        self
    }

    /// Adds the tests' tool server as `t`. Its tools append their effects to `log`.
    #[must_use]
    pub fn recording_tools(mut self, server: &Path, log: &Path) -> Self {
        self.rest.push(format!(
            "[mcp.t]\ncommand = [{server:?}]\nenv = {{ ABIDE_TOOLS_LOG = \"ABIDE_TOOLS_LOG\" }}"
        ));
        let log = log.display().to_string();
        self.env.push(("ABIDE_TOOLS_LOG".to_owned(), log));
        self
    }

    /// Adds a plugin.
    #[must_use]
    pub fn plugin(mut self, plugin: Plugin) -> Self {
        self.plugins.push(plugin);
        self
    }

    /// Sets the grace period.
    #[must_use]
    pub fn grace(mut self, grace: &str) -> Self {
        self.grace = grace.to_owned();
        self
    }

    /// Sets `on_config_change`.
    #[must_use]
    pub fn on_change(mut self, on_change: &str) -> Self {
        self.on_change = on_change.to_owned();
        self
    }

    /// Returns the text of the file.
    pub fn toml(&self) -> String {
        let mut text = format!(
            "# {}\n[daemon]\nlisten = \"127.0.0.1:{}\"\ndata_dir = \"{}\"\n\
             shutdown_grace_period = \"{}\"\non_config_change = \"{}\"\n",
            self.comment, self.port, self.data_dir, self.grace, self.on_change
        );
        let mut line = |line: &str| {
            text.push_str(line);
            text.push('\n');
        };
        if self.token.is_some() {
            line(&format!("token_env = \"{TOKEN_ENV}\""));
        }
        self.daemon.iter().for_each(|daemon| line(daemon));
        let spare = Plugin {
            name: format!("spare{}", self.spare),
            path: self.spare_path.clone().unwrap_or_else(|| guest("echo")),
            ..Plugin::new("echo")
        };
        for plugin in self.plugins.iter().chain([&spare]) {
            let Plugin { name, path, .. } = plugin;
            line(&format!("\n[plugins.{name}]\npath = {path:?}"));
            for (section, lines) in [
                ("capabilities", &plugin.capabilities),
                ("limits", &plugin.limits),
            ] {
                if !lines.is_empty() {
                    line(&format!("[plugins.{name}.{section}]"));
                    lines.iter().for_each(|text| line(text));
                }
            }
        }
        if let Some(url) = &self.model {
            let _ = write!(
                text,
                "\n[llm.local]\nbase_url = \"{url}\"\nmodel = \"fake\"\n"
            );
        }
        for line in &self.rest {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

/// Returns a port that is free now. It is below the kernel's range of ephemeral ports, so that no
/// outgoing connection takes it before the daemon does.
pub fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let offset = (process::id() as u16).wrapping_mul(97).wrapping_add(n) % COUNT;
        let port = FIRST + offset;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Returns cargo's target directory.
pub fn target() -> PathBuf {
    let executable = env::current_exe().expect("a process knows its executable");
    let release = executable
        .ancestors()
        .find(|folder| folder.ends_with("release") || folder.ends_with("debug"));
    release
        .and_then(Path::parent)
        .expect("cargo builds into a folder per profile")
        .to_path_buf()
}

fn existing(path: PathBuf, variable: &str) -> PathBuf {
    assert!(
        path.exists(),
        "{} is missing: run `make build` first, or point {variable} to where it is",
        path.display()
    );
    path.canonicalize().unwrap_or(path)
}

/// Returns the path of the daemon's binary: `ABIDE_BIN`, or what cargo has built.
pub fn abide_binary() -> PathBuf {
    let path = env::var_os("ABIDE_BIN").map(PathBuf::from);
    existing(
        path.unwrap_or_else(|| target().join("release/abide")),
        "ABIDE_BIN",
    )
}

/// Returns the path of the tests' tool server, which is built next to this program.
pub fn tool_server() -> PathBuf {
    existing(
        target().join("release/abide-test-tools"),
        "CARGO_TARGET_DIR",
    )
}

/// Returns the path of a guest's component: in the directory `ABIDE_GUESTS`, or what cargo has
/// built.
pub fn guest(name: &str) -> PathBuf {
    let folder = env::var_os("ABIDE_GUESTS").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| target().join("wasm32-wasip2/guest"));
    existing(folder.join(format!("{name}.wasm")), "ABIDE_GUESTS")
}

/// Returns the component of the guest `scripted` as a variant of it, see its `component.rs`.
pub fn variant(name: &str) -> Vec<u8> {
    const PLAIN: &[u8] = b"variant:plain           ";
    let mut bytes = fs::read(guest("scripted")).expect("the guests are built");
    let mut windows = bytes.windows(PLAIN.len());
    let at = windows.position(|window| window == PLAIN);
    let at = at.expect("it has the name of its variant");
    assert!(
        !windows.any(|window| window == PLAIN),
        "the name stands once"
    );
    let name = format!("variant:{name:16}");
    assert_eq!(name.len(), PLAIN.len(), "{name} is too long");
    bytes[at..at + PLAIN.len()].copy_from_slice(name.as_bytes());
    bytes
}
