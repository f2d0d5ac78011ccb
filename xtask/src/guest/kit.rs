//! What a guest is made of: QEMU, a kernel with its modules, and busybox.
//!
//! They are Debian's packages, unpacked in a folder of ours and never installed: no root is needed, and a QEMU that conflicts with
//! what is installed can be used all the same. A QEMU that is installed is taken instead.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::workspace::Workspace;
use crate::{Fallible, peers, run};

const QEMU: &str = "qemu-system-x86_64";
const QEMU_PACKAGE: &str = "qemu-system-x86";
const BUSYBOX_PACKAGE: &str = "busybox-static";

/// Packages that stand for the newest kernel: Debian's, and Ubuntu's.
const KERNEL_PACKAGES: [&str; 2] = ["linux-image-cloud-amd64", "linux-image-virtual"];

/// In the folder once all of it is there.
const COMPLETE: &str = "complete";

#[derive(Debug)]
pub(crate) struct Kit {
    /// Where the packages are unpacked.
    root: PathBuf,
    pub(crate) kernel: PathBuf,
    pub(crate) busybox: PathBuf,
}

impl Kit {
    /// The kit, if it is there. Otherwise fetches it if it may.
    pub(crate) fn find(workspace: &Workspace, may_fetch: bool) -> Fallible<Option<Self>> {
        let folder = workspace.target.join("guest/kit");
        if !folder.join(COMPLETE).is_file() {
            if !may_fetch {
                return Ok(None);
            }
            fetch(&folder)?;
        }
        let root = folder.join("root");
        let kernel = first_in(&root.join("boot"), "vmlinuz-")?;
        let busybox = ["bin/busybox", "usr/bin/busybox"];
        let busybox = busybox.map(|path| root.join(path));
        let busybox = busybox.into_iter().find(|path| path.is_file());
        let busybox = busybox.ok_or("the package of busybox has no busybox in it")?;
        Ok(Some(Self {
            root,
            kernel,
            busybox,
        }))
    }

    /// The folder of the kernel's modules.
    pub(crate) fn modules(&self) -> Fallible<PathBuf> {
        let folders = ["usr/lib/modules", "lib/modules"].map(|path| self.root.join(path));
        let folder = folders.iter().find(|path| path.is_dir());
        first_in(folder.ok_or("the kernel has no modules")?, "")
    }

    /// A command that starts QEMU.
    pub(crate) fn qemu(&self) -> Command {
        if let Some(installed) = peers::find(QEMU) {
            return Command::new(installed);
        }
        let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];
        let libraries = libraries.map(|path| self.root.join(path));
        let libraries = std::env::join_paths(libraries).expect("no folder has a colon in it");
        let mut command = Command::new(self.root.join("usr/bin").join(QEMU));
        command.env("LD_LIBRARY_PATH", libraries);
        for data in ["usr/share/qemu", "usr/share/seabios"] {
            command.arg("-L").arg(self.root.join(data));
        }
        command
    }
}

/// The first file in `folder` whose name begins so.
fn first_in(folder: &Path, prefix: &str) -> Fallible<PathBuf> {
    let failed = |error| format!("cannot list {}: {error}", folder.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            found.push(entry.path());
        }
    }
    found.sort();
    let none = || format!("{} has no {prefix}*", folder.display());
    found.into_iter().next().ok_or_else(none)
}

fn fetch(folder: &Path) -> Fallible {
    if peers::find("apt-get").is_none() || peers::find("dpkg-deb").is_none() {
        return Err(
            "the guest is made of Debian packages, and there is no apt-get to get them".into(),
        );
    }
    let packages = match packages() {
        Ok(packages) => packages,
        // There may be no lists yet, or old ones.
        Err(_) => {
            peers::update()?;
            packages()?
        }
    };
    println!("fetching for the guest: {}", packages.join(" "));
    let made = |error| format!("cannot make {}: {error}", folder.display());
    if folder.exists() {
        std::fs::remove_dir_all(folder).map_err(made)?;
    }
    let archives = folder.join("packages");
    let root = folder.join("root");
    std::fs::create_dir_all(&archives).map_err(made)?;
    std::fs::create_dir_all(&root).map_err(made)?;
    let download = || {
        let mut command = Command::new("apt-get");
        command.args(["-q", "download"]).args(&packages);
        run::output(command.current_dir(&archives))
    };
    if download().is_err() {
        peers::update()?;
        download()?;
    }
    for archive in crate::workspace::files_below(&archives, ".deb")? {
        run::output(
            Command::new("dpkg-deb")
                .arg("--extract")
                .args([&archive, &root]),
        )?;
    }
    std::fs::write(folder.join(COMPLETE), packages.join("\n")).map_err(made)
}

/// All that has to be fetched, the libraries that are missing here included.
fn packages() -> Fallible<Vec<String>> {
    let mut packages = vec![BUSYBOX_PACKAGE.to_owned()];
    packages.extend(kernel_packages()?);
    if peers::find(QEMU).is_none() {
        let plan = run::output(Command::new("apt-get").args([
            "install",
            "--simulate",
            "--no-install-recommends",
            QEMU_PACKAGE,
        ]))?;
        packages.extend(to_install(&plan));
    }
    Ok(packages)
}

/// The packages that a simulated installation would unpack.
fn to_install(plan: &str) -> Vec<String> {
    let lines = plan.lines().filter_map(|line| line.strip_prefix("Inst "));
    let names = lines.filter_map(|line| line.split_whitespace().next());
    names.map(str::to_owned).collect()
}

/// The newest kernel's package, and that of its modules where it is another.
fn kernel_packages() -> Fallible<Vec<String>> {
    let depends = |package: &str| {
        run::output(Command::new("apt-cache").args(["depends", package]))
            .map(|text| depends_on(&text))
    };
    let kernel = KERNEL_PACKAGES.iter().find_map(|package| {
        let mut names = depends(package).ok()?.into_iter();
        names.find(|name| name.starts_with("linux-image-"))
    });
    let kernel = kernel.ok_or("no package has a kernel for the guest")?;
    let mut modules = depends(&kernel)?;
    modules.retain(|name| name.starts_with("linux-modules-"));
    Ok(std::iter::once(kernel).chain(modules).collect())
}

/// The names that a package depends on, as `apt-cache depends` tells them.
fn depends_on(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.trim().trim_start_matches('|'));
    let names = lines.filter_map(|line| line.strip_prefix("Depends: "));
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unpacked_is_what_would_be_installed() {
        let plan = "Reading...\nRemv qemu-utils [10]\nInst seabios (1.16 Debian:12 [all])\n\
                    Inst libfdt1 [1.0] (1.6 Debian:12 [amd64])\nConf seabios (1.16)\n";
        assert_eq!(to_install(plan), ["seabios", "libfdt1"]);
    }

    #[test]
    fn a_kernel_is_found_through_the_package_that_stands_for_it() {
        let text = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-57-cloud-amd64\n |Depends: kmod\n  Suggests: x\n";
        assert_eq!(
            depends_on(text),
            ["linux-image-6.1.0-57-cloud-amd64", "kmod"]
        );
    }
}
