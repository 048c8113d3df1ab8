//! Dependencies between the host's files: which file uses an item of which other file. Files that
//! use each other, directly or through others, can only be understood together.
//!
//! A path is followed through re-exports to the file that defines the item. Unit tests, module
//! declarations and re-exports do not count as uses.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, File, Item, UseTree, Visibility};

/// A module's path from the crate's root.
type ModulePath = Vec<String>;

/// The definitions and dependencies of one file.
#[derive(Default)]
struct Module {
    /// The names of the items that the file defines.
    items: BTreeSet<String>,
    /// The paths that the file's `use` declarations import, by their local name.
    imports: BTreeMap<String, Vec<String>>,
    /// The paths that the file's code uses.
    uses: BTreeSet<Vec<String>>,
}

/// Returns one line for each dependency that is part of a cycle. `files` are paths below `src`,
/// with their texts.
pub(super) fn circles<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let modules: BTreeMap<ModulePath, (String, Module)> = files
        .map(|(path, text)| (module_path(path), (path.to_owned(), read(path, text))))
        .collect();
    let mut edges: BTreeMap<&ModulePath, BTreeSet<&ModulePath>> = BTreeMap::new();
    for (from, (_, module)) in &modules {
        let used = module.uses.iter();
        let used = used.filter_map(|path| resolve(&modules, from, path, 0));
        edges.insert(from, used.filter(|to| *to != from).collect());
    }
    only_circles(&mut edges);
    let name = |module: &ModulePath| modules[module].0.clone();
    edges
        .iter()
        .flat_map(|(from, to)| to.iter().map(move |to| (from, to)))
        .map(|(from, to)| format!("{} -> {}", name(from), name(to)))
        .collect()
}

/// Removes files that use nothing or are used by nothing, until only cycles, and paths from one
/// cycle to another, are left.
fn only_circles(edges: &mut BTreeMap<&ModulePath, BTreeSet<&ModulePath>>) {
    loop {
        let used: BTreeSet<&ModulePath> = edges.values().flatten().copied().collect();
        let before = edges.len();
        edges.retain(|from, to| !to.is_empty() && used.contains(from));
        let left: BTreeSet<&ModulePath> = edges.keys().copied().collect();
        for to in edges.values_mut() {
            to.retain(|to| left.contains(to));
        }
        if edges.len() == before {
            return;
        }
    }
}

fn module_path(path: &str) -> ModulePath {
    let mut names: Vec<String> = path
        .trim_end_matches(".rs")
        .split('/')
        .map(str::to_owned)
        .collect();
    if let Some("mod" | "lib") = names.last().map(String::as_str) {
        names.pop();
    }
    names
}

fn read(path: &str, text: &str) -> Module {
    let file: File = syn::parse_file(text).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut module = Module::default();
    for item in &file.items {
        module.declare(item);
    }
    module.visit_file(&file);
    module
}

/// Finds the module whose file defines what a path, used in module `from`, names.
fn resolve<'a>(
    modules: &'a BTreeMap<ModulePath, (String, Module)>,
    from: &ModulePath,
    path: &[String],
    depth: usize,
) -> Option<&'a ModulePath> {
    // Re-exports are followed through at most a few files, because glob imports may be cyclic.
    if depth > 8 {
        return None;
    }
    let mut rest = path;
    let mut module = match rest.first()?.as_str() {
        "crate" => Vec::new(),
        "self" | "super" => from.clone(),
        first => {
            let child = [from.as_slice(), &[first.to_owned()]].concat();
            if !modules.contains_key(&child) {
                let import = modules[from].1.imports.get(first)?;
                if import.first().map(String::as_str) == Some(first) {
                    return None;
                }
                let path = [import.as_slice(), &rest[1..]].concat();
                return resolve(modules, from, &path, depth + 1);
            }
            from.clone()
        }
    };
    while let Some(first) = rest.first() {
        match first.as_str() {
            "super" => {
                module.pop();
            }
            "crate" | "self" => {}
            name => {
                module.push(name.to_owned());
                if !modules.contains_key(&module) {
                    module.pop();
                    break;
                }
            }
        }
        rest = &rest[1..];
    }
    let (found, (_, file)) = modules.get_key_value(&module)?;
    let Some(name) = rest.first() else {
        return Some(found);
    };
    if file.items.contains(name) {
        return Some(found);
    }
    let Some(import) = file.imports.get(name) else {
        return Some(found);
    };
    let path = [import.as_slice(), &rest[1..]].concat();
    resolve(modules, found, &path, depth + 1).or(Some(found))
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Ident>()
                .is_ok_and(|name| name == "test")
    })
}

impl Module {
    fn declare(&mut self, item: &Item) {
        let name = match item {
            Item::Const(item) => &item.ident,
            Item::Enum(item) => &item.ident,
            Item::Fn(item) => &item.sig.ident,
            Item::Static(item) => &item.ident,
            Item::Struct(item) => &item.ident,
            Item::Trait(item) => &item.ident,
            Item::Type(item) => &item.ident,
            Item::Use(item) if !is_test(&item.attrs) => {
                let is_private = matches!(item.vis, Visibility::Inherited);
                return self.import(&item.tree, &mut Vec::new(), is_private);
            }
            _ => return,
        };
        self.items.insert(name.to_string());
    }

    /// Only a private import counts as a use: a re-export serves the files that import it.
    fn import(&mut self, tree: &UseTree, before: &mut Vec<String>, is_private: bool) {
        let (name, alias) = match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.import(&path.tree, before, is_private);
                before.pop();
                return;
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.import(tree, before, is_private);
                }
                return;
            }
            UseTree::Name(name) => (name.ident.to_string(), name.ident.to_string()),
            UseTree::Rename(name) => (name.ident.to_string(), name.rename.to_string()),
            UseTree::Glob(_) => (String::from("self"), String::from("*")),
        };
        let mut path = before.clone();
        let alias = match (name.as_str(), path.last()) {
            // `use a::b::{self}` brings `b` into scope.
            ("self", Some(last)) if alias == "self" => last.clone(),
            _ => alias,
        };
        if name != "self" {
            path.push(name);
        }
        if is_private {
            self.uses.insert(path.clone());
        }
        self.imports.insert(alias, path);
    }

    /// Collects the paths in a macro's tokens, which are not parsed: those that begin at a module.
    fn scan(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) if path.is_empty() || colons == 2 => {
                    path.push(name.to_string());
                    colons = 0;
                    continue;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && colons < 2 => {
                    colons += 1;
                    continue;
                }
                TokenTree::Group(group) => self.scan(group.stream()),
                _ => {}
            }
            self.note(std::mem::take(&mut path));
            colons = 0;
        }
        self.note(path);
    }

    fn note(&mut self, path: Vec<String>) {
        if path.len() > 1 {
            self.uses.insert(path);
        }
    }
}

impl<'ast> Visit<'ast> for Module {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes: &[Attribute] = match item {
            // Imports have been read already; declaring a module is not a use of it.
            Item::Use(_) => return,
            Item::Mod(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            _ => &[],
        };
        if !is_test(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.note(path.segments.iter().map(|s| s.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, macro_: &'ast syn::Macro) {
        self.scan(macro_.tokens.clone());
    }

    /// Skips visibilities: `pub(in a::b)` names a module without using it.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}
}

#[test]
fn two_files_that_use_each_other_are_found() {
    let files = [
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a.rs", "use crate::b::Later; pub struct Early;"),
        ("b/mod.rs", "mod inner; pub use inner::Later;"),
        (
            "b/inner.rs",
            "pub struct Later; fn f() { log!(x = crate::a::Early) }",
        ),
        ("c.rs", "use crate::a::Early; pub(in crate::b) struct C;"),
    ];
    assert_eq!(
        circles(files.into_iter()),
        ["a.rs -> b/inner.rs", "b/inner.rs -> a.rs"]
    );
}

#[test]
fn unit_tests_and_reexports_are_no_dependencies() {
    let files = [
        ("lib.rs", "mod a;"),
        ("a/mod.rs", "mod b; pub use b::B; pub struct A;"),
        ("a/b.rs", "use super::A; pub struct B(A);"),
        (
            "a/c.rs",
            "#[cfg(test)] mod tests { use crate::a::b::B; } pub fn c() {}",
        ),
    ];
    assert_eq!(circles(files.into_iter()), Vec::<String>::new());
}
