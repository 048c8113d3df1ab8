//! `abide plugin new`: writes a crate that builds and passes its tests.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::CliError;
use super::global::Global;
use super::out::Out;
use super::plugin_args::New;

/// The template of a new plugin's crate, which is part of the SDK.
const TEMPLATE: [(&str, &str); 3] = [
    (
        "Cargo.toml",
        include_str!("../../../guest-sdk/template/Cargo.toml.tmpl"),
    ),
    (
        "src/lib.rs",
        include_str!("../../../guest-sdk/template/src/lib.rs"),
    ),
    (
        "src/tests.rs",
        include_str!("../../../guest-sdk/template/src/tests.rs"),
    ),
];

pub(super) fn new(global: &Global, args: &New) -> Result<(), CliError> {
    let sdk = sdk(args.sdk.as_deref())?;
    let folder = PathBuf::from(&args.name);
    fs::create_dir(&folder).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => CliError::Failed(format!(
            "there is a `{}` here already; choose another name, or go elsewhere",
            folder.display()
        )),
        _ => CliError::file("create", &folder)(source),
    })?;
    for (name, text) in TEMPLATE {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(CliError::file("create", parent))?;
        }
        fs::write(&path, fill(text, &args.name, &sdk)).map_err(CliError::file("write", &path))?;
    }
    let name = &args.name;
    let built = name.replace('-', "_");
    let mut out = Out::new(global.no_color);
    out.line(format!(
        "{name}/ is a plugin: src/lib.rs is all there is to it.

  cd {name}
  cargo test                                        # on a mock host, natively
  rustup target add wasm32-wasip2                   # once
  cargo build --release --target wasm32-wasip2

Then name it in abide.toml:

  [plugins.{name}]
  path = \"{name}/target/wasm32-wasip2/release/{built}.wasm\"

and talk with it:

  abide chat first --plugin {name}"
    ))?;
    Ok(())
}

/// Fills the two placeholders of a template.
fn fill(text: &str, name: &str, sdk: &Path) -> String {
    let path = toml::Value::String(sdk.display().to_string());
    text.replace("{{name}}", name)
        .replace("{{sdk}}", &format!("{{ path = {path} }}"))
}

/// Returns the guest SDK's directory: the named one, or the one beside this program.
fn sdk(named: Option<&Path>) -> Result<PathBuf, CliError> {
    let is_sdk = |folder: &Path| folder.join("Cargo.toml").is_file() && folder.join("src").is_dir();
    if let Some(named) = named {
        return match named.canonicalize() {
            Ok(folder) if is_sdk(&folder) => Ok(folder),
            _ => Err(CliError::Usage(format!(
                "--sdk {} is not the folder of the guest SDK: it has no Cargo.toml and src",
                named.display()
            ))),
        };
    }
    let program = std::env::current_exe()
        .ok()
        .and_then(|path| path.canonicalize().ok());
    let candidates = program
        .iter()
        .flat_map(|path| path.ancestors().skip(1).take(3))
        .map(|folder| folder.join("guest-sdk"));
    candidates
        .into_iter()
        .find(|folder| is_sdk(folder))
        .ok_or_else(|| {
            CliError::Usage(
                "the guest SDK does not lie beside this abide; name its folder with --sdk PATH \
             (guest-sdk/ in Abide's sources)"
                    .to_owned(),
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_whole() {
        for (name, text) in TEMPLATE {
            let filled = fill(text, "my-bot", Path::new("/opt/a \"b\"/sdk"));
            assert!(
                !filled.contains("{{name}}") && !filled.contains("{{sdk}}"),
                "{name}"
            );
        }
        let cargo: toml::Table = toml::from_str(&fill(
            TEMPLATE[0].1,
            "my-bot",
            Path::new("/opt/a \"b\"/sdk"),
        ))
        .expect("the template is TOML");
        assert_eq!(cargo["package"]["name"].as_str(), Some("my-bot"));
        assert_eq!(
            cargo["dependencies"]["abide-plugin"]["path"].as_str(),
            Some("/opt/a \"b\"/sdk")
        );
    }

    #[test]
    fn a_folder_that_is_no_sdk_is_refused() {
        let error = sdk(Some(Path::new("/nowhere")))
            .expect_err("no folder")
            .to_string();
        assert!(error.contains("--sdk /nowhere"), "{error}");
    }
}
