//! Names of variants, as they appear in the tree.

/// `RamDisk` becomes `ram_disk`, `IOError` becomes `io_error`, `Utf8` stays one word.
pub(crate) fn snake_case(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut snake = String::with_capacity(name.len() + 4);
    for (index, &c) in chars.iter().enumerate() {
        if c.is_uppercase() && index > 0 && chars[index - 1] != '_' {
            let after_lower = !chars[index - 1].is_uppercase();
            let before_lower = chars.get(index + 1).is_some_and(|next| next.is_lowercase());
            if after_lower || before_lower {
                snake.push('_');
            }
        }
        snake.extend(c.to_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::snake_case;

    #[test]
    fn words_are_split_where_a_reader_would() {
        for (name, expected) in [
            ("Ram", "ram"),
            ("RamDisk", "ram_disk"),
            ("IOError", "io_error"),
            ("ReadIO", "read_io"),
            ("Utf8", "utf8"),
            ("Sha256Sum", "sha256_sum"),
            ("already_snake", "already_snake"),
            ("A", "a"),
        ] {
            assert_eq!(snake_case(name), expected);
        }
    }
}
