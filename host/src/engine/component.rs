//! Components that are ready to be instantiated, and the reasons why bytes cannot be loaded as one.

use wasmtime::component::Linker;

use super::bindings::PluginPre;
use super::contract;
use super::error::{COMPONENT_MAX_BYTES, LoadError};
use super::pool::{self, MEMORIES_PER_TURN, TABLES_PER_TURN};
use super::shape::Shape;
use super::store_data::StoreData;
use crate::domain::Digest;

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
        let contract = contract::check(&Shape::of_compiled(compiled))?;
        let shares = shares(compiled, turns_max)?;
        let pre = linker
            .instantiate_pre(compiled)
            .map_err(|error| LoadError::ImportType {
                reason: format!("{error:#}"),
            })?;
        let pre = PluginPre::new(pre).map_err(|error| LoadError::Export {
            name: contract::guest(contract),
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
