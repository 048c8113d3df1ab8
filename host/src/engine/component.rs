//! Components that are ready to be instantiated, and the reasons why bytes cannot be loaded as one.

use std::path::PathBuf;

use wasmtime::component::Linker;
use wasmtime::component::types::ComponentItem;

use super::bindings::PluginPre;
use super::contract;
use super::pool::{self, MEMORIES_PER_TURN, TABLES_PER_TURN};
use super::store_data::StoreData;
use crate::domain::Digest;

/// The maximum size of a component, in bytes.
pub const COMPONENT_MAX_BYTES: usize = 256 << 20;

/// The magic number of every WebAssembly file.
const WASM: [u8; 4] = *b"\0asm";
/// The version that follows the magic number in a core module.
const CORE: [u8; 4] = [1, 0, 0, 0];

/// A guest's component: compiled, checked against the contract and linked.
pub struct Component {
    pub(super) pre: PluginPre<StoreData>,
    /// The number of pool shares that an instance takes.
    pub(super) shares: u32,
    digest: Digest,
    contract: &'static str,
    bytes: u64,
}

impl std::fmt::Debug for Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (digest, contract) = (self.digest, self.contract);
        write!(f, "Component({digest:?}, contract {contract})")
    }
}

/// The reason why a component cannot be loaded. None of its code has run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is not WebAssembly.
    #[error("this is not a WebAssembly file; build the plugin for `wasm32-wasip2`")]
    NotWasm,
    /// The file is a core module, not a component.
    #[error(
        "this is a core WebAssembly module, not a component; build the plugin for \
         `wasm32-wasip2`, or make a component of it with `wasm-tools component new`"
    )]
    CoreModule,
    /// The component is larger than [`COMPONENT_MAX_BYTES`].
    #[error("the component has {bytes} bytes; at most {COMPONENT_MAX_BYTES} are loaded")]
    TooLarge {
        /// The component's size.
        bytes: usize,
    },
    /// The component lacks an export of the contract, or has it with another type.
    #[error("the component does not export `{name}` as the contract has it; {remedy}")]
    Export { name: String, remedy: String },
    /// The component was built for a contract version that this host does not serve.
    #[error(
        "the component was built for contract abide:session@{built_for}, this version of Abide \
         serves {served}; build it against one of these, or install the Abide that it needs"
    )]
    Contract {
        /// The version in the component's type.
        built_for: String,
        /// The versions that this host serves.
        served: String,
    },
    /// The component imports an interface that is not linked.
    #[error(
        "the component imports `{name}`, which Abide does not offer: guests get abide:session and \
         WASI 0.2 (`wasi:cli/imports`), nothing else"
    )]
    Import { name: String },
    /// An import has another type than what is linked under its name.
    #[error("an import of the component does not fit what Abide offers under its name: {reason}")]
    ImportType {
        /// The import and the difference.
        reason: String,
    },
    /// The component cannot be compiled.
    #[error("the component cannot be compiled: {reason}")]
    Compile { reason: String },
    /// An instance would need more memories or tables than the whole pool has.
    #[error(
        "an instance of the component needs {memories} memories and {tables} tables, which is more \
         than the whole pool holds; raise the number of turns that may run at once"
    )]
    NeedsTooMuch {
        /// The number of linear memories.
        memories: u32,
        /// The number of tables.
        tables: u32,
    },
    /// The stored file cannot be read or written.
    #[error("cannot read or write `{path}`: {reason}")]
    File { path: PathBuf, reason: String },
    /// The stored file does not match its digest.
    #[error(
        "the component kept at `{path}` is damaged (its SHA-256 is {found}); put the original file \
         back, or remove it to use the configured one"
    )]
    Damaged {
        path: PathBuf,
        /// The digest of its bytes.
        found: Digest,
    },
}

impl LoadError {
    /// Returns the error for a component that exports no guest at all.
    pub(super) fn missing_guest() -> Self {
        let newest = contract::CONTRACTS[contract::CONTRACTS.len() - 1];
        Self::Export {
            name: format!("{}{}@{newest}", contract::PACKAGE, contract::GUEST),
            remedy: "a plugin implements it, by `abide_plugin::export!` or by hand".into(),
        }
    }
}

/// Refuses bytes that are not a component before they reach the compiler.
pub(super) fn check_kind(bytes: &[u8]) -> Result<(), LoadError> {
    if bytes.len() > COMPONENT_MAX_BYTES {
        return Err(LoadError::TooLarge { bytes: bytes.len() });
    }
    match (bytes.get(..4), bytes.get(4..8)) {
        (Some(magic), Some(kind)) if magic == WASM && kind == CORE => Err(LoadError::CoreModule),
        (Some(magic), Some(_)) if magic == WASM => Ok(()),
        _ => Err(LoadError::NotWasm),
    }
}

impl Component {
    /// Checks a compiled component against the contract and links it.
    pub(super) fn link(
        linker: &Linker<StoreData>,
        compiled: &wasmtime::component::Component,
        digest: Digest,
        bytes: u64,
        turns_max: u32,
    ) -> Result<Self, LoadError> {
        let (engine, ty) = (linker.engine(), compiled.component_type());
        let contract = contract::version(
            ty.exports(engine).map(|(name, _)| name),
            ty.imports(engine).map(|(name, _)| name),
        )?;
        if let Some((name, _)) = ty
            .imports(engine)
            .find(|(name, _)| !contract::is_linked(name, contract))
        {
            return Err(LoadError::Import { name: name.into() });
        }
        let guest = format!("{}{}@{contract}", contract::PACKAGE, contract::GUEST);
        let export = |name: String| LoadError::Export {
            name,
            remedy: format!("build it against wit/v{contract}"),
        };
        match ty.get_export(engine, &guest).map(|export| export.ty) {
            Some(ComponentItem::ComponentInstance(interface)) => {
                for function in contract::EXPORTS {
                    if interface.get_export(engine, function).is_none() {
                        return Err(export(format!("{guest}#{function}")));
                    }
                }
            }
            _ => return Err(export(guest)),
        }
        let shares = shares(compiled, turns_max)?;
        let pre = linker
            .instantiate_pre(compiled)
            .map_err(|error| LoadError::ImportType {
                reason: format!("{error:#}"),
            })?;
        let pre = PluginPre::new(pre).map_err(|error| LoadError::Export {
            name: guest,
            remedy: format!("{error:#}"),
        })?;
        Ok(Self {
            pre,
            shares,
            digest,
            contract,
            bytes,
        })
    }

    /// Returns the SHA-256 of the component's bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the version of the contract that the component was built for.
    pub fn contract(&self) -> &'static str {
        self.contract
    }

    /// Returns the component's size in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.bytes
    }
}

/// Returns the number of pool shares that an instance takes.
fn shares(compiled: &wasmtime::component::Component, turns_max: u32) -> Result<u32, LoadError> {
    let (memories, tables) = match compiled.resources_required() {
        Some(needs) => (needs.num_memories, needs.num_tables),
        // Unknown only if the component instantiates an imported module. None is linked, so such a
        // component was already refused.
        None => (0, 0),
    };
    let shares = pool::shares(memories, tables);
    if shares > turns_max {
        return Err(LoadError::NeedsTooMuch { memories, tables });
    }
    debug_assert!(shares * MEMORIES_PER_TURN >= memories && shares * TABLES_PER_TURN >= tables);
    Ok(shares)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_apart_by_their_first_bytes() {
        assert!(matches!(check_kind(b""), Err(LoadError::NotWasm)));
        assert!(matches!(
            check_kind(b"\x7fELF...."),
            Err(LoadError::NotWasm)
        ));
        assert!(matches!(
            check_kind(b"\0asm\x01\0\0\0"),
            Err(LoadError::CoreModule)
        ));
        assert!(check_kind(b"\0asm\x0d\0\x01\0").is_ok());
    }
}
