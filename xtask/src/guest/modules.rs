//! Which files of a kernel's modules have to be loaded, and in which order.
//!
//! Each module names those that it needs. The index that usually answers this is made when a kernel is installed, which ours is not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Fallible, workspace};

/// A module that is to be loaded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Module {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

/// How modules are compressed, and what takes that back.
const COMPRESSIONS: [(&str, &str); 4] = [
    (".ko", ""),
    (".ko.xz", "xz"),
    (".ko.zst", "zstd"),
    (".ko.gz", "gzip"),
];

/// The modules `wanted` and all that they need, each after those that it needs. What the kernel has built in is left out.
pub(crate) fn to_load(folder: &Path, wanted: &[&str]) -> Fallible<Vec<Module>> {
    let mut files = BTreeMap::new();
    for (suffix, program) in COMPRESSIONS {
        for file in workspace::files_below(folder, suffix)? {
            files.insert(name_of(&file), (file, program));
        }
    }
    let built_in = workspace::read(&folder.join("modules.builtin"))?;
    let built_in: Vec<_> = built_in
        .lines()
        .map(|line| name_of(Path::new(line)))
        .collect();
    let mut loaded = Vec::new();
    for name in wanted {
        add(&mut loaded, name, &files, &built_in)?;
    }
    Ok(loaded)
}

fn add(
    loaded: &mut Vec<Module>,
    name: &str,
    files: &BTreeMap<String, (PathBuf, &str)>,
    built_in: &[String],
) -> Fallible {
    if built_in.iter().any(|one| one == name) || loaded.iter().any(|one| one.name == name) {
        return Ok(());
    }
    let (file, program) = files
        .get(name)
        .ok_or_else(|| format!("the guest's kernel has no module {name}"))?;
    let bytes = contents(file, program)?;
    for needed in needs(&bytes) {
        add(loaded, &needed, files, built_in)?;
    }
    loaded.push(Module {
        name: name.to_owned(),
        bytes,
    });
    Ok(())
}

/// `virtio_blk` of `kernel/drivers/block/virtio-blk.ko.xz`: dashes and underscores are the same.
fn name_of(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let name = name.split_once(".ko").map_or(&*name, |(name, _)| name);
    name.replace('-', "_")
}

fn contents(file: &Path, program: &str) -> Fallible<Vec<u8>> {
    let failed = |error| format!("cannot read {}: {error}", file.display());
    if program.is_empty() {
        return std::fs::read(file).map_err(failed);
    }
    let output = Command::new(program).arg("-dc").arg(file).output();
    let output = output.map_err(failed)?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(format!("`{program}` cannot unpack {}", file.display())),
    }
}

/// The modules that a module says it needs: after `depends=` in a list of strings that end with a zero.
fn needs(module: &[u8]) -> Vec<String> {
    let strings = module.split(|byte| *byte == 0);
    let mut lists = strings.filter_map(|string| string.strip_prefix(b"depends="));
    let list = String::from_utf8_lossy(lists.next().unwrap_or_default());
    let names = list.split(',').filter(|name| !name.is_empty());
    names.map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(modules: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (file, needed) in modules {
            let text = format!("code\0license=GPL\0depends={needed}\0name=x\0");
            std::fs::write(folder.path().join(file), text).unwrap();
        }
        std::fs::write(folder.path().join("modules.builtin"), "kernel/fs/ext4.ko\n").unwrap();
        folder
    }

    fn names(folder: &Path, wanted: &[&str]) -> Fallible<Vec<String>> {
        let modules = to_load(folder, wanted)?;
        Ok(modules.into_iter().map(|one| one.name).collect())
    }

    #[test]
    fn a_module_comes_after_those_that_it_needs_and_once() {
        let kernel = kernel(&[
            ("virtio-blk.ko", "virtio,virtio-ring"),
            ("virtio_ring.ko", "virtio"),
            ("virtio.ko", ""),
        ]);
        assert_eq!(
            names(kernel.path(), &["virtio_blk", "virtio_ring", "ext4"]).unwrap(),
            ["virtio", "virtio_ring", "virtio_blk"]
        );
    }

    #[test]
    fn a_module_that_is_nowhere_is_named() {
        let kernel = kernel(&[("virtio_blk.ko", "virtio")]);
        let error = names(kernel.path(), &["virtio_blk"]).unwrap_err();
        assert!(error.contains("no module virtio"), "{error}");
    }
}
