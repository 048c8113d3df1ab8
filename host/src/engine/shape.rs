//! What a component imports and exports, by name. It is read from the component's bytes before they are
//! compiled, and from its type after that, and checked in one way: by
//! [`contract::check`](super::contract::check).

use wasmparser::component_types::ComponentEntityType;
use wasmparser::types::TypesRef;
use wasmparser::{Parser, Payload, ValidPayload, Validator, WasmFeatures};
use wasmtime::component::types::ComponentItem;

use super::error::LoadError;

/// The names of a component's imports and exports, in their order.
pub(super) struct Shape {
    pub(super) imports: Vec<String>,
    pub(super) exports: Vec<Export>,
}

/// An export of a component.
pub(super) struct Export {
    pub(super) name: String,
    /// What it has itself, if it is an interface.
    pub(super) members: Option<Vec<String>>,
}

impl Shape {
    /// Reads it from a component's bytes. All of them are validated but the bodies of functions, which
    /// the compiler validates. Takes time and memory in proportion to the bytes.
    ///
    /// # Errors
    /// [`LoadError::Compile`] if they are no component.
    pub(super) fn of_bytes(bytes: &[u8]) -> Result<Self, LoadError> {
        Self::parse(bytes).map_err(|error| LoadError::Compile {
            reason: error.to_string(),
        })
    }

    fn parse(bytes: &[u8]) -> Result<Self, wasmparser::BinaryReaderError> {
        // What the compiler does not know, it refuses itself.
        let mut validator = Validator::new_with_features(WasmFeatures::all());
        let (mut imports, mut exports, mut depth) = (Vec::new(), Vec::new(), 0_u32);
        let mut whole = None;
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload?;
            match &payload {
                Payload::Version { .. } => depth += 1,
                Payload::End(_) => depth -= 1,
                Payload::ComponentImportSection(section) if depth == 1 => {
                    for import in section.clone() {
                        imports.push(import?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(section) if depth == 1 => {
                    for export in section.clone() {
                        exports.push(export?.name.name.to_owned());
                    }
                }
                _ => {}
            }
            if let ValidPayload::End(types) = validator.payload(&payload)? {
                // The last one is that of the component itself.
                whole = Some(types);
            }
        }
        let types = whole.as_ref().map(|types| types.as_ref());
        let exports = exports.into_iter().map(|name| Export {
            members: types.and_then(|types| members(types, &name)),
            name,
        });
        Ok(Self {
            imports,
            exports: exports.collect(),
        })
    }

    /// Reads it from a compiled component's type.
    pub(super) fn of_compiled(component: &wasmtime::component::Component) -> Self {
        let (engine, ty) = (component.engine(), component.component_type());
        let imports = ty.imports(engine).map(|(name, _)| name.to_owned());
        let exports = ty.exports(engine).map(|(name, export)| Export {
            name: name.to_owned(),
            members: match export.ty {
                ComponentItem::ComponentInstance(interface) => {
                    let members = interface.exports(engine);
                    Some(members.map(|(name, _)| name.to_owned()).collect())
                }
                _ => None,
            },
        });
        Self {
            imports: imports.collect(),
            exports: exports.collect(),
        }
    }
}

/// Returns what the exported interface `name` has, if it is one.
fn members(types: TypesRef<'_>, name: &str) -> Option<Vec<String>> {
    match types.component_item_for_export(name)?.ty {
        ComponentEntityType::Instance(id) => Some(types[id].exports.keys().cloned().collect()),
        _ => None,
    }
}
