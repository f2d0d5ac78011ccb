//! `nbdcopy` fills exports that are added for it and reads them back; then they are removed. Some copies are killed half way.

use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Client, Step, Trouble};
use super::content::SECTOR_BYTES;
use super::fio::compare;
use super::random::Random;
use super::tool::{self, End};
use super::world::World;

pub(crate) struct Copier {
    index: usize,
    random: Random,
}

impl Copier {
    pub(crate) fn new(seed: u64, index: usize) -> Self {
        Self {
            index,
            random: Random::of(seed, &format!("nbdcopy {index}")),
        }
    }

    fn file(&self, what: &str) -> String {
        format!("guest-{}.{what}", self.index)
    }

    fn export(&self) -> String {
        format!("guest {}", self.index)
    }

    /// Data with holes.
    fn content(&mut self) -> Vec<u8> {
        const PIECE_BYTES: usize = 32 << 10;
        let piece_count = self.random.between(16, 256);
        let mut content = Vec::new();
        for _ in 0..piece_count {
            let is_hole = self.random.one_in(4);
            let words = std::iter::repeat_with(|| if is_hole { 0 } else { self.random.number() });
            content.extend(words.take(PIECE_BYTES / 8).flat_map(u64::to_le_bytes));
        }
        let odd_sectors = self.random.below(8) * SECTOR_BYTES;
        content.truncate(content.len() - usize::try_from(odd_sectors).expect("is small"));
        content
    }

    /// The disk of an export of this size; and whether what is written is in the image.
    fn disk(&mut self, size_bytes: usize) -> (Value, bool) {
        let image = self.file("raw");
        let file = json!({ "type": "file", "path": image, "create": true, "size": size_bytes });
        let ram = json!({ "type": "ram", "size": size_bytes });
        let layered = |layers: Value| json!({ "type": "layered", "layers": layers });
        match self.random.below(4) {
            0 => (layered(json!([ram])), false),
            1 => (file, true),
            2 => (
                layered(
                    json!([{ "type": "ram", "read_cache": true, "write_through": true }, file]),
                ),
                true,
            ),
            _ => {
                let slow = json!({ "action": { "delay": { "fixed_ms": 2.0 } }, "every": 9 });
                let fault = json!({ "type": "fault", "disk": file, "rules": [slow] });
                (fault, true)
            }
        }
    }

    fn copy(&self, world: &World, from: &str, to: &str, options: &[&str]) -> Command {
        let full = |end: &str| match end {
            "" => world.uri(&self.export().replace(' ', "%20")),
            file => file.to_owned(),
        };
        let mut command = Command::new("nbdcopy");
        command.args(options).arg(full(from)).arg(full(to));
        command
    }

    /// Fills the export, and compares what comes back.
    fn use_export(&mut self, world: &World, content: &[u8]) -> Step<End> {
        let (source, result) = (self.file("source"), self.file("result"));
        write(&world.folder.join(&source), content)?;
        let name = format!("nbdcopy-{}", self.index);
        let dies = self.random.one_in(5);
        let kill_after = dies.then(|| Duration::from_millis(self.random.between(2, 40)));
        let options = *self.random.pick(&[
            &["--flush"][..],
            &["--flush", "--synchronous"],
            &["--flush", "--connections=1", "--requests=8"],
            &["--flush", "--destination-is-zero"],
        ]);
        let mut there = self.copy(world, &source, "", options);
        if tool::run(world, &name, &mut there, kill_after)? == End::Killed {
            return Ok(End::Killed);
        }
        let mut back = self.copy(world, "", &result, &[]);
        tool::run(world, &name, &mut back, None)?;
        compare_file(content, &world.folder.join(&result), "what nbdcopy read")?;
        world.tally.add("runs of nbdcopy", 2);
        Ok(End::Success)
    }
}

impl Client for Copier {
    fn name(&self) -> String {
        format!("nbdcopy {}", self.index)
    }

    fn step(&mut self, world: &World) -> Step {
        let image = world.folder.join(self.file("raw"));
        // Left by a step that was cut off.
        let _ = std::fs::remove_file(&image);
        let content = self.content();
        let (disk, is_in_image) = self.disk(content.len());
        let export = self.export();
        let mut control = world.control()?;
        let add = json!({ "op": "add_export", "base": world.folder,
                          "export": { "name": export, "disk": disk } });
        control.ask(&add).map_err(Trouble::Cut)?;
        let used = self.use_export(world, &content);
        let remove = json!({ "op": "remove_export", "name": export });
        let removed = control.ask(&remove).map_err(Trouble::Cut);
        let used = used?;
        removed?;
        world.tally.add("exports added and removed", 1);
        if used == End::Success && is_in_image {
            compare_file(&content, &image, "the image of a removed export")?;
            // Nobody holds the image any more.
            let disk = json!({ "type": "file", "path": self.file("raw") });
            let again = json!({ "op": "add_export", "base": world.folder,
                                "export": { "name": export, "disk": disk } });
            control.ask(&again).map_err(Trouble::Cut)?;
            control.ask(&remove).map_err(Trouble::Cut)?;
        }
        Ok(())
    }

    fn restarted(&mut self, _world: &World) -> Step {
        Ok(())
    }

    fn settle(&mut self, _world: &World) -> Step {
        Ok(())
    }

    /// It has no part in the exports that stay.
    fn verify(&mut self, _export: usize, _content: &[u8]) -> Result<Vec<Range<u64>>, String> {
        Ok(Vec::new())
    }
}

fn write(path: &Path, content: &[u8]) -> Step {
    let written = std::fs::write(path, content);
    written.map_err(|error| Trouble::Wrong(format!("cannot write {}: {error}", path.display())))
}

/// A file has to hold exactly this.
fn compare_file(content: &[u8], path: &Path, what: &str) -> Step {
    let found = std::fs::read(path)
        .map_err(|error| Trouble::Wrong(format!("cannot read {}: {error}", path.display())))?;
    compare(content, &found, 0)
        .map_err(|difference| Trouble::Wrong(format!("{what} ({}): {difference}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planted_byte_in_a_copy_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("copy");
        let mut content = Copier::new(1, 0).content();
        write(&path, &content).unwrap();
        assert!(compare_file(&content, &path, "a copy").is_ok());
        content[4000] ^= 1;
        let Err(Trouble::Wrong(message)) = compare_file(&content, &path, "a copy") else {
            panic!("the byte was not found");
        };
        assert!(message.contains("sector 7"), "{message}");
    }
}
