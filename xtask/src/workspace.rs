//! What the tools know about the workspace: read from `cargo metadata`, kept as plain values so that
//! a test can plant whatever it likes.

use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand, TargetKind};

use crate::Fallible;

/// The checkout and its crates.
pub(crate) struct Workspace {
    /// Where the root manifest lies.
    pub(crate) root: PathBuf,
    /// Where cargo puts what it builds.
    pub(crate) target: PathBuf,
    pub(crate) crates: Vec<Crate>,
}

/// One crate of the workspace.
pub(crate) struct Crate {
    pub(crate) name: String,
    pub(crate) manifest: PathBuf,
    /// The first file of each library and binary.
    pub(crate) roots: Vec<Root>,
    /// Names of the packages it needs to be built and used; what only its tests need is left out.
    pub(crate) dependencies: Vec<String>,
}

/// The first file of a library or binary.
pub(crate) struct Root {
    pub(crate) file: PathBuf,
    pub(crate) kind: RootKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum RootKind {
    Library,
    Binary,
}

impl Workspace {
    /// Reads the workspace this tool was built in. Touches no network: dependencies are taken as
    /// declared, not as resolved.
    pub(crate) fn load() -> Fallible<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
        let metadata = MetadataCommand::new()
            .manifest_path(manifest)
            .no_deps()
            .exec()
            .map_err(|error| format!("cannot read the workspace: {error}"))?;
        Ok(Self {
            root: metadata.workspace_root.into_std_path_buf(),
            target: metadata.target_directory.into_std_path_buf(),
            crates: metadata
                .packages
                .into_iter()
                .map(Crate::from_package)
                .collect(),
        })
    }

    /// A path as people name it: from the root of the checkout.
    pub(crate) fn relative<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }
}

impl Crate {
    fn from_package(package: cargo_metadata::Package) -> Self {
        let dependencies = package.dependencies.into_iter();
        let roots = package.targets.into_iter();
        Self {
            name: package.name.to_string(),
            manifest: package.manifest_path.into_std_path_buf(),
            roots: roots.filter_map(Root::from_target).collect(),
            dependencies: dependencies
                .filter(|dependency| dependency.kind != DependencyKind::Development)
                .map(|dependency| dependency.name)
                .collect(),
        }
    }

    /// The crate's folder.
    pub(crate) fn folder(&self) -> &Path {
        self.manifest.parent().expect("a manifest lies in a folder")
    }
}

impl Root {
    fn from_target(target: cargo_metadata::Target) -> Option<Self> {
        let kind = target.kind.iter().find_map(|kind| match kind {
            TargetKind::Lib | TargetKind::RLib | TargetKind::ProcMacro => Some(RootKind::Library),
            TargetKind::Bin => Some(RootKind::Binary),
            _ => None,
        })?;
        Some(Self {
            file: target.src_path.into_std_path_buf(),
            kind,
        })
    }
}

/// Every file below `folder` whose name ends in `suffix`, sorted. Leaves out what is built (`target`)
/// and hidden folders other than `.github`.
pub(crate) fn files_below(folder: &Path, suffix: &str) -> Fallible<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_path_buf()];
    while let Some(folder) = pending.pop() {
        let failed = |error| format!("cannot list {}: {error}", folder.display());
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if entry.file_type().map_err(failed)?.is_dir() {
                let hidden = name.starts_with('.') && name != ".github";
                if !hidden && name != "target" {
                    pending.push(entry.path());
                }
            } else if name.ends_with(suffix) {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Reads a text file; the error names it.
pub(crate) fn read(path: &Path) -> Fallible<String> {
    std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_knows_its_crates_and_what_they_are_built_from() {
        let workspace = Workspace::load().unwrap();
        let own = workspace
            .crates
            .iter()
            .find(|one| one.name == "xtask")
            .unwrap();
        assert!(own.dependencies.contains(&"clap".to_owned()));
        assert!(own.roots.iter().any(|root| root.kind == RootKind::Binary));
        assert_eq!(
            workspace.relative(&own.manifest).to_string(),
            "xtask/Cargo.toml"
        );
    }

    #[test]
    fn built_and_hidden_folders_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        for path in [
            "a.md",
            "sub/b.md",
            ".github/c.md",
            "target/d.md",
            ".git/e.md",
            "f.rs",
        ] {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let names: Vec<_> = files_below(folder.path(), ".md")
            .unwrap()
            .iter()
            .map(|path| {
                path.strip_prefix(folder.path())
                    .unwrap()
                    .display()
                    .to_string()
            })
            .collect();
        assert_eq!(names, [".github/c.md", "a.md", "sub/b.md"]);
    }
}
