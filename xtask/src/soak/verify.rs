//! Looks at everything while nobody works: each byte of each export has somebody who knows it.

use std::path::Path;

use super::client::Employed;
use super::content::SECTOR_BYTES;
use super::daemon;
use super::exports::{
    BASE_IMAGE, EXPORTS, OVERLAY, SIZE_BYTES, UNTOUCHED_PART, uncovered, unwritten,
};
use super::fio::compare;
use super::mortal::slice;
use super::wire::{Command, Wire};
use super::world::World;
use crate::Fallible;

/// Reads all exports and compares them with what the clients know. Returns what was read.
pub(crate) fn verify(world: &World, clients: &[Employed]) -> Fallible<Vec<Vec<u8>>> {
    let mut contents = Vec::new();
    for (export, about) in EXPORTS.iter().enumerate() {
        let content = read(world, about.name)
            .map_err(|error| format!("{}: cannot be read: {error}", about.name))?;
        verify_one(export, &content, clients)
            .map_err(|what| format!("{}, at rest: {what}", about.name))?;
        world
            .tally
            .add("bytes verified at rest", content.len() as u64);
        contents.push(content);
    }
    Ok(contents)
}

fn verify_one(export: usize, content: &[u8], clients: &[Employed]) -> Fallible {
    let mut parts = vec![UNTOUCHED_PART];
    compare(
        &unwritten(export, UNTOUCHED_PART),
        slice(content, &UNTOUCHED_PART),
        UNTOUCHED_PART.start,
    )
    .map_err(|what| format!("where nobody writes, {what}"))?;
    for client in clients {
        let mut client = client.client();
        let verified = client.verify(export, content);
        parts.extend(verified.map_err(|what| format!("{}: {what}", client.name()))?);
    }
    let gaps = uncovered(0..content.len() as u64 / SECTOR_BYTES, &parts);
    match gaps.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "nobody knows what the sectors {gaps:?} should hold"
        )),
    }
}

fn read(world: &World, export: &str) -> std::io::Result<Vec<u8>> {
    let mut wire = Wire::connect(&daemon::socket(&world.folder), export)?;
    let content = wire.read(0, wire.size_bytes())?;
    wire.disconnect()?;
    Ok(content)
}

/// Has every export flushed, so that nothing is kept back.
pub(crate) fn flush(world: &World) -> Fallible {
    for about in &EXPORTS {
        let flushed =
            Wire::connect(&daemon::socket(&world.folder), about.name).and_then(|mut wire| {
                wire.request(Command::Flush, 0, 0, &[])?;
                wire.disconnect()
            });
        flushed.map_err(|error| format!("{}: cannot be flushed: {error}", about.name))?;
    }
    Ok(())
}

/// Compares the images with what the exports held before the daemon ended.
pub(crate) fn verify_images(folder: &Path, contents: &[Vec<u8>]) -> Fallible {
    let images = EXPORTS.iter().zip(contents);
    let images = images.filter_map(|(about, content)| Some((about.image?, content)));
    for (image, content) in images {
        verify_image(folder, image, content)?;
    }
    verify_image(
        folder,
        BASE_IMAGE,
        &unwritten(OVERLAY, 0..SIZE_BYTES / SECTOR_BYTES),
    )
}

fn verify_image(folder: &Path, image: &str, content: &[u8]) -> Fallible {
    let path = folder.join(image);
    let found =
        std::fs::read(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    compare(content, &found, 0).map_err(|what| format!("{}, after the end: {what}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soak::exports::{RAM, make_images};

    #[test]
    fn a_planted_byte_in_an_image_is_found_also_in_one_that_is_only_read() {
        let folder = tempfile::tempdir().unwrap();
        make_images(folder.path()).unwrap();
        let contents: Vec<_> = (0..EXPORTS.len())
            .map(|export| unwritten(export, 0..SIZE_BYTES / SECTOR_BYTES))
            .collect();
        assert_eq!(verify_images(folder.path(), &contents), Ok(()));
        for image in ["cached.raw", BASE_IMAGE] {
            let path = folder.path().join(image);
            let good = std::fs::read(&path).unwrap();
            let mut bad = good.clone();
            bad[1_000_000] ^= 0x10;
            std::fs::write(&path, bad).unwrap();
            let error = verify_images(folder.path(), &contents).unwrap_err();
            assert!(
                error.contains(image) && error.contains("sector 1953"),
                "{error}"
            );
            std::fs::write(&path, good).unwrap();
        }
    }

    #[test]
    fn a_sector_that_nobody_knows_is_a_failure() {
        let content = unwritten(RAM, 0..SIZE_BYTES / SECTOR_BYTES);
        let error = verify_one(RAM, &content, &[]).unwrap_err();
        assert!(error.contains("nobody knows"), "{error}");
    }
}
