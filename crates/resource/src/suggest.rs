//! "Did you mean ...?"

/// Names longer than this are not compared: a name from outside can have any length.
const NAME_LEN_MAX: usize = 64;

/// The candidate that `name` was probably meant to be, if one is near.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if name.len() > NAME_LEN_MAX {
        return None;
    }
    let plain = normal(name);
    candidates
        .into_iter()
        .map(|candidate| {
            let distance = strsim::damerau_levenshtein(&plain, &normal(candidate));
            (distance, candidate)
        })
        .filter(|&(distance, candidate)| {
            // One slip in three letters; a name of one or two letters has to match but for its case.
            distance <= candidate.len().max(name.len()) / 3
        })
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// Spelling that should not count: case, and how words are joined.
fn normal(name: &str) -> String {
    name.to_lowercase().replace(['-', ' '], "_")
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_of_the_finger_is_recognised() {
        let names = ["ram", "file", "layered", "read_cache", "sector_size"];
        for (name, expected) in [
            ("fiel", Some("file")),
            ("pile", Some("file")),
            ("RAM", Some("ram")),
            ("readCache", Some("read_cache")),
            ("read-cache", Some("read_cache")),
            ("sectorsize", Some("sector_size")),
            ("layer", Some("layered")),
            ("qcow2", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, names), expected, "{name}");
        }
        assert_eq!(nearest(&"file".repeat(1 << 20), names), None);
    }
}
