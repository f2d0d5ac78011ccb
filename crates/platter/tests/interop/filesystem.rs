//! A real file system on a throw-away layer: made by `mke2fs` from real files, changed through NBD, judged by
//! `e2fsck`, while the image below stays as it was.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::support::tool::skip;
use crate::support::{
    Daemon, LOOK_INTERVAL, MIB, Random, assert_same_bytes, peers, read, run, write,
};

/// Regular files by their path below a folder.
type Files = BTreeMap<PathBuf, Vec<u8>>;

fn files_below(folder: &Path) -> Files {
    let mut files = Files::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(next) = pending.pop() {
        for entry in std::fs::read_dir(next).expect("a folder can be listed") {
            let path = entry.expect("a folder can be listed").path();
            // Made by mke2fs, for e2fsck.
            if path.ends_with("lost+found") {
                continue;
            }
            if path.is_dir() {
                pending.push(path);
            } else {
                files.insert(
                    path.strip_prefix(folder).expect("it is below").to_owned(),
                    read(&path),
                );
            }
        }
    }
    files
}

/// Puts a copy of the project's own sources into `folder/files`.
fn copy_sources(folder: &Path) -> Files {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Files::new();
    for one in std::fs::read_dir(here).expect("the crates can be listed") {
        let one = one.expect("the crates can be listed").path();
        let name = Path::new(one.file_name().expect("a crate has a name"));
        if one.join("Cargo.toml").exists() {
            let sources = files_below(&one.join("src")).into_iter();
            files.extend(sources.map(|(path, bytes)| (name.join(path), bytes)));
        }
    }
    assert!(files.len() > 20, "these are not the sources");
    for (name, bytes) in &files {
        let path = folder.join("files").join(name);
        std::fs::create_dir_all(path.parent().expect("it is in a folder"))
            .expect("a folder can be made");
        write(&path, bytes);
    }
    files
}

/// The programs that every test here needs.
struct Ext4 {
    mke2fs: PathBuf,
    debugfs: PathBuf,
    e2fsck: PathBuf,
    nbdcopy: PathBuf,
}

/// A served file system, and what must be in it.
struct World {
    tools: Ext4,
    daemon: Daemon,
    base: Vec<u8>,
    files: Files,
}

impl World {
    /// Makes the image and serves it below a layer in memory.
    fn new(tools: Ext4) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = copy_sources(folder.path());
        let image = folder.path().join("base.raw");
        run(Command::new(&tools.mke2fs)
            .args(["-q", "-t", "ext4", "-d"])
            .arg(folder.path().join("files"))
            .arg(&image)
            .arg("96M"));
        let base = read(&image);
        let daemon = Daemon::serve_in(folder, ["--layer", "ram", "--layer", "file:base.raw,ro"]);
        Self {
            tools,
            daemon,
            base,
            files,
        }
    }

    /// Changes the file system in `image` with debugfs: adds, replaces and removes files.
    fn change(&mut self, image: &Path) {
        let removed = self.files.keys().next().expect("there are files").clone();
        let replaced = self
            .files
            .keys()
            .next_back()
            .expect("there are files")
            .clone();
        self.files.remove(&removed);
        let mut script = format!(
            "rm /{}\nrm /{}\nmkdir /new\n",
            removed.display(),
            replaced.display()
        );
        for (seed, name, len) in [
            (1, replaced, 1234),
            (2, "new/large".into(), 9 * MIB + 5),
            (3, "new/small".into(), 1),
        ] {
            let source = self.daemon.folder().join(format!("source-{seed}"));
            let bytes = Random::new(seed).bytes(len);
            write(&source, &bytes);
            script += &format!(
                "cd /{}\n",
                name.parent().expect("it is in a folder").display()
            );
            script += &format!(
                "write {} {}\n",
                source.display(),
                name.file_name().expect("it has a name").display()
            );
            self.files.insert(name, bytes);
        }
        let commands = self.daemon.folder().join("commands");
        write(&commands, script);
        run(Command::new(&self.tools.debugfs)
            .arg("-w")
            .arg("-f")
            .arg(&commands)
            .arg(image));
    }

    /// Reads the disk back and checks everything: the file system, each file, and the image below.
    fn judge(self) {
        let Self {
            tools,
            daemon,
            base,
            files,
        } = self;
        let back = daemon.folder().join("back.raw");
        run(Command::new(&tools.nbdcopy).arg(daemon.uri()).arg(&back));
        run(Command::new(&tools.e2fsck).arg("-fn").arg(&back));
        let dumped = tempfile::tempdir().unwrap();
        let request = format!("rdump / {}", dumped.path().display());
        run(Command::new(&tools.debugfs)
            .arg("-R")
            .arg(request)
            .arg(&back));
        let found = files_below(dumped.path());
        assert_eq!(
            found.keys().collect::<Vec<_>>(),
            files.keys().collect::<Vec<_>>()
        );
        for (name, bytes) in &files {
            assert!(
                &found[name] == bytes,
                "{} came back with other bytes",
                name.display()
            );
        }
        let folder = daemon.stop();
        assert_same_bytes(&read(&folder.path().join("base.raw")), &base);
    }
}

#[test]
fn a_changed_file_system_that_is_copied_in_comes_back_clean_and_the_base_stays() {
    let Some([mke2fs, debugfs, e2fsck, nbdcopy]) =
        peers(["mke2fs", "debugfs", "e2fsck", "nbdcopy"])
    else {
        return;
    };
    let mut world = World::new(Ext4 {
        mke2fs,
        debugfs,
        e2fsck,
        nbdcopy,
    });
    let work = world.daemon.folder().join("work.raw");
    run(Command::new(&world.tools.nbdcopy)
        .arg(world.daemon.uri())
        .arg(&work));
    world.change(&work);
    run(Command::new(&world.tools.nbdcopy)
        .arg(&work)
        .arg(world.daemon.uri()));
    world.judge();
}

/// The daemon's disk as a file that any program can open.
struct Mount {
    child: Child,
    folder: TempDir,
    fusermount: PathBuf,
}

impl Mount {
    fn new(nbdfuse: &Path, fusermount: PathBuf, daemon: &mut Daemon) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(nbdfuse);
        command
            .arg(folder.path().join("disk"))
            .arg(daemon.uri())
            .stdin(Stdio::null());
        let mut mount = Self {
            child: command.spawn().expect("nbdfuse starts"),
            folder,
            fusermount,
        };
        daemon.wait_until(|_| {
            let status = mount.child.try_wait().expect("a child can be waited for");
            assert!(status.is_none(), "nbdfuse ended: {}", status.unwrap());
            mount.disk().exists()
        });
        mount
    }

    fn disk(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// Takes the file away; when this returns, all that was written to it has reached the daemon.
    fn unmount(mut self) {
        run(Command::new(&self.fusermount)
            .arg("-u")
            .arg(self.folder.path()));
        let status = self.child.wait().expect("a child can be waited for");
        assert!(status.success(), "nbdfuse ended with {status}");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_some()) {
            return;
        }
        // A failed test: leave no mount behind. An error changes nothing about the failure.
        let _ = Command::new(&self.fusermount)
            .arg("-uz")
            .arg(self.folder.path())
            .status();
        let _ = self.child.kill();
        let _ = self.child.wait();
        std::thread::sleep(LOOK_INTERVAL);
    }
}

#[test]
fn a_file_system_changed_in_place_through_fuse_comes_back_clean_and_the_base_stays() {
    let tools = [
        "mke2fs",
        "debugfs",
        "e2fsck",
        "nbdcopy",
        "nbdfuse",
        "fusermount3",
    ];
    let Some([mke2fs, debugfs, e2fsck, nbdcopy, nbdfuse, fusermount]) = peers(tools) else {
        return;
    };
    if !Path::new("/dev/fuse").exists() {
        return skip("needs /dev/fuse, which this machine does not have");
    }
    let mut world = World::new(Ext4 {
        mke2fs,
        debugfs,
        e2fsck,
        nbdcopy,
    });
    let mount = Mount::new(&nbdfuse, fusermount, &mut world.daemon);
    world.change(&mount.disk());
    run(Command::new(&world.tools.e2fsck)
        .arg("-fn")
        .arg(mount.disk()));
    mount.unmount();
    world.judge();
}
