//! A daemon's configuration, as a value that a test changes and writes.

use std::env;
use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::FakeModel;

/// One `[plugins.NAME]` section.
#[derive(Clone, Debug)]
pub struct Plugin {
    /// Its name.
    pub name: String,
    /// Its component.
    pub path: PathBuf,
    /// Lines of `[plugins.NAME.capabilities]`.
    pub capabilities: Vec<String>,
    /// Lines of `[plugins.NAME.limits]`.
    pub limits: Vec<String>,
}

impl Plugin {
    /// The guest of that name, under that name, with nothing granted.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            path: guest(name),
            capabilities: Vec::new(),
            limits: Vec::new(),
        }
    }

    /// With a line of limits.
    #[must_use]
    pub fn limit(mut self, line: &str) -> Self {
        self.limits.push(line.to_owned());
        self
    }
}

/// What stands in `abide.toml`.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The port on the loopback.
    pub port: u16,
    /// `data_dir`.
    pub data_dir: String,
    /// `shutdown_grace_period`.
    pub grace: String,
    /// `on_config_change`.
    pub on_change: String,
    /// Plugins, the spare one excepted.
    pub plugins: Vec<Plugin>,
    /// `base_url` of `[llm.local]`.
    pub model: Option<String>,
    /// Changing it changes the configuration in a way that needs a restart: it names a plugin
    /// that no session uses.
    pub spare: u32,
    /// The spare plugin's component, if not `echo`'s.
    pub spare_path: Option<PathBuf>,
    /// A comment on the first line; changing it changes nothing.
    pub comment: String,
    /// Further lines of `[daemon]`.
    pub daemon: Vec<String>,
    /// Further lines at the end.
    pub rest: Vec<String>,
    /// Further variables of the daemon's environment.
    pub env: Vec<(String, String)>,
    /// The user and group that the daemon runs as, if not ours. Takes root. Its folder is given to
    /// them, and a copy of the binary lies in it; guests must be where they can read them.
    pub user: Option<u32>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            port: free_port(),
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
            env: Vec::new(),
            user: None,
        }
    }
}

impl Setup {
    /// With the assistant, which may use this model.
    #[must_use]
    pub fn assistant(self, model: &FakeModel) -> Self {
        self.assistant_at(model.base_url())
    }

    /// With the assistant, which may use the model at this `base_url`.
    #[must_use]
    pub fn assistant_at(mut self, base_url: String) -> Self {
        self.model = Some(base_url);
        self.plugins.push(Plugin {
            capabilities: vec!["llm = [\"local\"]".to_owned()],
            ..Plugin::new("assistant")
        });
        self
    }

    /// With a further plugin.
    #[must_use]
    pub fn plugin(mut self, plugin: Plugin) -> Self {
        self.plugins.push(plugin);
        self
    }

    /// With this grace period.
    #[must_use]
    pub fn grace(mut self, grace: &str) -> Self {
        self.grace = grace.to_owned();
        self
    }

    /// With this `on_config_change`.
    #[must_use]
    pub fn on_change(mut self, on_change: &str) -> Self {
        self.on_change = on_change.to_owned();
        self
    }

    /// The file's text.
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

/// A port that nobody holds now. Below those that the kernel gives to outgoing connections, so
/// that none of the clients takes it before the daemon does.
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

/// The folder that cargo builds into.
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

/// The daemon's binary: `ABIDE_BIN`, or what cargo has built.
pub fn abide_binary() -> PathBuf {
    let path = env::var_os("ABIDE_BIN").map(PathBuf::from);
    existing(
        path.unwrap_or_else(|| target().join("release/abide")),
        "ABIDE_BIN",
    )
}

/// The tool server of the tests, which is built beside this program.
pub fn tool_server() -> PathBuf {
    existing(
        target().join("release/abide-test-tools"),
        "CARGO_TARGET_DIR",
    )
}

/// A guest's component: in the folder `ABIDE_GUESTS`, or what cargo has built.
pub fn guest(name: &str) -> PathBuf {
    let folder = env::var_os("ABIDE_GUESTS").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| target().join("wasm32-wasip2/guest"));
    existing(folder.join(format!("{name}.wasm")), "ABIDE_GUESTS")
}
