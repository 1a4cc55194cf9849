//! The repository as the checks see it: small plain data, so that a test can make a bad one.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

use crate::failure::Failure;

/// The data that the checks read.
#[derive(Default)]
pub(crate) struct Repository {
    /// The oldest supported toolchain, as the workspace states it: `1.95`.
    pub(crate) rust_version: String,
    pub(crate) members: Vec<Member>,
    /// The crates that a build with default features compiles.
    pub(crate) default_build: Vec<Built>,
    /// All packages that are not ours, of every feature and target.
    pub(crate) foreign: Vec<Foreign>,
    /// The Markdown and Rust files: their paths below the root, with `/` between the parts, and their text.
    pub(crate) files: BTreeMap<String, String>,
    /// Every path that a link may lead to, directories included.
    pub(crate) paths: HashSet<String>,
}

/// A crate of the workspace.
#[derive(Default)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) version: String,
    /// The path below the root: `crates/broker`.
    pub(crate) directory: String,
    /// Normal and build dependencies; tests may use any.
    pub(crate) dependencies: Vec<Dependency>,
    /// The names of its other dependencies, which only its tests, examples and benchmarks use.
    pub(crate) for_tests: Vec<String>,
    /// Whether it is published.
    pub(crate) is_published: bool,
}

pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) optional: bool,
}

/// A package that is not ours.
pub(crate) struct Foreign {
    pub(crate) name: String,
    pub(crate) version: String,
    /// An SPDX expression.
    pub(crate) licence: Option<String>,
}

/// A crate of the default build, and the chain of crates that brings it in.
pub(crate) struct Built {
    pub(crate) name: String,
    pub(crate) chain: Vec<String>,
}

impl Repository {
    /// Reads the workspace in which this command was built.
    pub(crate) fn load() -> Result<Self, Failure> {
        let metadata = MetadataCommand::new().other_options(["--locked".to_owned()]).exec().map_err(|error| {
            format!("cargo metadata failed; does `cargo check` pass, and is Cargo.lock up to date? {error}")
        })?;
        let root = metadata.workspace_root.clone().into_std_path_buf();
        let mut repository = Self {
            rust_version: rust_version(&metadata)?,
            members: members(&metadata),
            default_build: default_build(&metadata),
            foreign: foreign(&metadata),
            ..Self::default()
        };
        repository.read(&root, "")?;
        Ok(repository)
    }

    fn read(&mut self, root: &Path, below: &str) -> Result<(), Failure> {
        let directory = root.join(below);
        let entries = std::fs::read_dir(&directory).map_err(|error| cannot_read(&directory, &error))?;
        for entry in entries {
            let entry = entry.map_err(|error| cannot_read(&directory, &error))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
            let kind = entry.file_type().map_err(|error| cannot_read(&entry.path(), &error))?;
            if kind.is_dir() {
                if !matches!(name.as_str(), "target" | ".git" | "node_modules") {
                    self.read(root, &path)?;
                }
            } else if name.ends_with(".md") || name.ends_with(".rs") {
                let text = std::fs::read_to_string(entry.path()).map_err(|error| cannot_read(&entry.path(), &error))?;
                self.files.insert(path.clone(), text);
            }
            self.paths.insert(path);
        }
        Ok(())
    }
}

fn cannot_read(path: &Path, error: &std::io::Error) -> Failure {
    format!("cannot read {}: {error}", PathBuf::from(path).display()).into()
}

fn rust_version(metadata: &Metadata) -> Result<String, Failure> {
    let versions: HashSet<_> =
        metadata.workspace_packages().iter().map(|package| package.rust_version.clone()).collect();
    let version = versions.iter().next().cloned().flatten();
    match version {
        Some(version) if versions.len() == 1 => Ok(format!("{}.{}", version.major, version.minor)),
        _ => {
            Err("the crates state different toolchains, or none: each Cargo.toml needs `rust-version.workspace = true`"
                .into())
        }
    }
}

fn members(metadata: &Metadata) -> Vec<Member> {
    let member = |package: &cargo_metadata::Package| Member {
        name: package.name.to_string(),
        version: package.version.to_string(),
        directory: directory(metadata, package),
        dependencies: package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind != DependencyKind::Development)
            .map(|dependency| Dependency { name: dependency.name.clone(), optional: dependency.optional })
            .collect(),
        for_tests: package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind == DependencyKind::Development)
            .map(|dependency| dependency.name.clone())
            .collect(),
        is_published: package.publish.as_ref().is_none_or(|registries| !registries.is_empty()),
    };
    metadata.workspace_packages().into_iter().map(member).collect()
}

fn foreign(metadata: &Metadata) -> Vec<Foreign> {
    let is_foreign = |package: &&cargo_metadata::Package| !metadata.workspace_members.contains(&package.id);
    let foreign = |package: &cargo_metadata::Package| Foreign {
        name: package.name.to_string(),
        version: package.version.to_string(),
        licence: package.license.clone(),
    };
    metadata.packages.iter().filter(is_foreign).map(foreign).collect()
}

fn directory(metadata: &Metadata, package: &cargo_metadata::Package) -> String {
    let manifest = package.manifest_path.strip_prefix(&metadata.workspace_root).unwrap_or(&package.manifest_path);
    manifest.parent().map(|parent| parent.as_str().replace('\\', "/")).unwrap_or_default()
}

/// All crates that the workspace's crates and their tests reach. An adapter counts only if a default feature
/// includes it: an adapter that needs more than a Rust toolchain says so on its own page.
fn default_build(metadata: &Metadata) -> Vec<Built> {
    let names: BTreeMap<&PackageId, String> =
        metadata.packages.iter().map(|package| (&package.id, package.name.to_string())).collect();
    let nodes: BTreeMap<&PackageId, &cargo_metadata::Node> =
        metadata.resolve.iter().flat_map(|resolve| &resolve.nodes).map(|node| (&node.id, node)).collect();
    let roots = metadata
        .workspace_packages()
        .into_iter()
        .filter(|package| !directory(metadata, package).starts_with("adapters/"));

    let mut queue: VecDeque<(&PackageId, Vec<String>)> = roots.map(|package| (&package.id, Vec::new())).collect();
    let mut seen: HashSet<&PackageId> = queue.iter().map(|(id, _)| *id).collect();
    let mut built = Vec::new();
    while let Some((id, mut chain)) = queue.pop_front() {
        let name = names.get(id).cloned().unwrap_or_else(|| id.to_string());
        chain.push(name.clone());
        for dependency in nodes.get(id).into_iter().flat_map(|node| &node.deps) {
            if seen.insert(&dependency.pkg) {
                queue.push_back((&dependency.pkg, chain.clone()));
            }
        }
        built.push(Built { name, chain });
    }
    built
}
