//! Files that are on a disk before any guest: they are only read, again and again, and a cache gets filled with them.

use std::fs;
use std::path::Path;

use super::ledger::Found;
use super::look;
use crate::soak::random::Random;
use crate::{Fallible, workspace};

/// Their folder on the disk. `init.sh` reads what is there.
const HOME: &str = "first";
const COUNT: u64 = 40;
/// A sector, so that it can be recognised.
const BYTES_MIN: u64 = 512;
const BYTES_MAX: u64 = 64 << 10;

/// Makes them in `root`, which is emptied before; their names tell their sums.
pub(crate) fn make(root: &Path, seed: u64) -> Fallible<Found> {
    let failed = |error| format!("cannot make files in {}: {error}", root.display());
    if root.exists() {
        fs::remove_dir_all(root).map_err(failed)?;
    }
    let home = root.join(HOME);
    fs::create_dir_all(&home).map_err(failed)?;
    let mut random = Random::of(seed, HOME);
    for index in 0..COUNT {
        let words = random.between(BYTES_MIN / 8, BYTES_MAX / 8);
        let bytes: Vec<u8> = (0..words)
            .flat_map(|_| random.number().to_le_bytes())
            .collect();
        fs::write(home.join(index.to_string()), bytes).map_err(failed)?;
    }
    let mut files = Found::new();
    for (file, sum) in look::sums(root)? {
        let named = format!("{file}.{sum}");
        fs::rename(root.join(&file), root.join(&named)).map_err(failed)?;
        files.insert(named, sum);
    }
    Ok(files)
}

/// What one of them holds.
pub(crate) fn any(root: &Path) -> Fallible<Vec<u8>> {
    let files = workspace::files_below(&root.join(HOME), "")?;
    let file = files.first().ok_or("no files were made")?;
    fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_has_the_sum_that_its_name_tells() {
        let root = tempfile::tempdir().unwrap();
        make(root.path(), 1).unwrap();
        let made = make(root.path(), 2).unwrap();
        assert_eq!(look::sums(root.path()).unwrap(), made);
        assert_eq!(made.len() as u64, COUNT);
        super::super::ledger::check_names(&made).unwrap();
    }
}
