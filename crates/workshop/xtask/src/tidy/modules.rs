//! The modules of a crate and what each imports, read from the source.
//!
//! A module is one file. It imports the file that defines an item it names. A re-export (`pub use`) defines nothing:
//! the module that re-exports does not import the item, and a module that names the item by the re-export imports its
//! origin.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};

use crate::repository::Repository;

/// The path of a module below the crate's root, as `["consumer", "worker"]`.
type ModulePath = Vec<String>;

/// The imports of each file of one crate from the others, by the files' paths below the root of the repository.
pub(super) type Imports = BTreeMap<String, BTreeSet<String>>;

/// Reads the modules below `src`, the path of a crate's source directory. A file that does not parse is no module: the
/// compiler reports it.
pub(super) fn imports(repository: &Repository, src: &str) -> Imports {
    let modules: BTreeMap<ModulePath, Module> = repository
        .files
        .iter()
        .filter_map(|(file, text)| Some((module_path(file.strip_prefix(src)?.strip_prefix('/')?)?, file, text)))
        .filter_map(|(path, file, text)| Some((path.clone(), Module::read(file, path, &syn::parse_file(text).ok()?))))
        .collect();
    let origins = |module: &Module| {
        let found = module.named.iter().filter_map(|item| origin(&modules, item, 0));
        found.filter(|origin| *origin != module.file).map(str::to_owned).collect()
    };
    modules.values().map(|module| (module.file.clone(), origins(module))).collect()
}

/// `consumer/worker.rs` is `consumer::worker`. Test modules and programs are not modules of the crate.
fn module_path(file: &str) -> Option<ModulePath> {
    let parts = file.strip_suffix(".rs")?.split('/').map(str::to_owned).collect::<Vec<_>>();
    let (last, parents) = parts.split_last()?;
    if last == "tests" || parents.iter().any(|part| part == "bin" || part == "tests") {
        return None;
    }
    let is_parent = last == "mod" || (parents.is_empty() && (last == "lib" || last == "main"));
    Some(if is_parent { parents.to_vec() } else { parts })
}

/// The file that defines the item of this path.
fn origin<'a>(modules: &'a BTreeMap<ModulePath, Module>, item: &[String], depth: usize) -> Option<&'a str> {
    // Re-exports of re-exports end somewhere; glob re-exports of each other would not.
    const DEEPEST: usize = 8;
    let length = (0..=item.len()).rev().find(|length| modules.contains_key(&item[..*length]))?;
    let module = modules.get(&item[..length])?;
    let Some(name) = item.get(length).filter(|_| depth < DEEPEST) else { return Some(&module.file) };
    let target = module.exported.get(name).map(|target| [target, &item[length + 1..]].concat());
    target.map_or(Some(&module.file), |target| origin(modules, &target, depth + 1))
}

struct Module {
    file: String,
    /// The paths from the crate's root that it names.
    named: BTreeSet<Vec<String>>,
    /// The names that it re-exports, and the paths to which they lead.
    exported: BTreeMap<String, Vec<String>>,
}

impl Module {
    fn read(file: &str, path: ModulePath, source: &syn::File) -> Self {
        let children = source.items.iter().filter_map(|item| match item {
            syn::Item::Mod(child) if child.content.is_none() => Some(child.ident.to_string()),
            _ => None,
        });
        let mut reader = Reader {
            children: children.collect(),
            path,
            module: Self { file: file.to_owned(), named: BTreeSet::new(), exported: BTreeMap::new() },
        };
        reader.visit_file(source);
        reader.module
    }
}

struct Reader {
    /// The place in the source: the file's module, and the modules that are written within it.
    path: ModulePath,
    /// Modules of this file with a file of their own.
    children: BTreeSet<String>,
    module: Module,
}

impl Reader {
    /// The path from the crate's root, if it leads into this crate.
    fn absolute(&self, segments: &[String]) -> Option<Vec<String>> {
        let (first, rest) = segments.split_first()?;
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" => Some([&self.path, rest].concat()),
            "super" => {
                let ups = segments.iter().take_while(|segment| *segment == "super").count();
                let kept = self.path.len().checked_sub(ups)?;
                Some([&self.path[..kept], &segments[ups..]].concat())
            }
            child if self.children.contains(child) => Some([&self.path, segments].concat()),
            _ => None,
        }
    }

    fn name(&mut self, segments: &[String]) {
        self.module.named.extend(self.absolute(segments));
    }

    fn read_use(&mut self, tree: &syn::UseTree, before: &[String], exports: bool) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.read_use(&path.tree, &with(&path.ident), exports),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.read_use(item, before, exports)),
            syn::UseTree::Glob(_) => self.name(before),
            syn::UseTree::Name(name) if name.ident == "self" => self.take(before, before.last().cloned(), exports),
            syn::UseTree::Name(name) => self.take(&with(&name.ident), Some(name.ident.to_string()), exports),
            syn::UseTree::Rename(rename) => {
                self.take(&with(&rename.ident), Some(rename.rename.to_string()), exports);
            }
        }
    }

    fn take(&mut self, segments: &[String], name: Option<String>, exports: bool) {
        match (name, self.absolute(segments)) {
            (Some(name), Some(target)) if exports => {
                self.module.exported.insert(name, target);
            }
            (_, Some(target)) => {
                self.module.named.insert(target);
            }
            _ => {}
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_for_tests(item) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.content.is_some() {
            self.path.push(item.ident.to_string());
            visit::visit_item_mod(self, item);
            self.path.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let exports = !matches!(item.vis, syn::Visibility::Inherited);
        self.read_use(&item.tree, &[], exports);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1 {
            self.name(&segments);
        }
        visit::visit_path(self, path);
    }

    // `pub(super)` and `pub(in crate::a)` name no item.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}
}

fn is_for_tests(item: &syn::Item) -> bool {
    let attributes = match item {
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        _ => return false,
    };
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(files: &[(&str, &str)]) -> Repository {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        Repository { files, ..Repository::default() }
    }

    fn imported(files: &[(&str, &str)], file: &str) -> Vec<String> {
        let all = imports(&repository(files), "crates/a/src");
        all.get(file).into_iter().flatten().cloned().collect()
    }

    #[test]
    fn an_item_is_imported_from_the_file_that_defines_it() {
        let files = [
            ("crates/a/src/lib.rs", "mod b; mod c; pub use b::deep::B;"),
            ("crates/a/src/b/mod.rs", "mod deep; pub(crate) use deep::{B as Renamed, *};"),
            ("crates/a/src/b/deep.rs", "pub struct B;"),
            ("crates/a/src/c.rs", "use crate::B; fn f(b: super::b::Renamed) { crate::g() }"),
        ];
        assert_eq!(imported(&files, "crates/a/src/c.rs"), ["crates/a/src/b/deep.rs", "crates/a/src/lib.rs"]);
        assert_eq!(imported(&files, "crates/a/src/lib.rs"), [""; 0], "a re-export is no import");
    }

    #[test]
    fn a_parent_that_uses_its_child_imports_it_and_tests_do_not_count() {
        let files = [
            ("crates/a/src/lib.rs", "mod b; fn f() { b::g() } #[cfg(test)] mod tests { use crate::c::C; }"),
            ("crates/a/src/b.rs", "pub(super) fn g() {} mod inner { use super::super::f; }"),
            ("crates/a/src/c.rs", "pub struct C;"),
        ];
        assert_eq!(imported(&files, "crates/a/src/lib.rs"), ["crates/a/src/b.rs"]);
        assert_eq!(imported(&files, "crates/a/src/b.rs"), ["crates/a/src/lib.rs"]);
    }
}
