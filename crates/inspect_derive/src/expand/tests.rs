//! Wrong attributes: the message, and the text that the error points at.

use super::expand;
use syn::DeriveInput;

/// The error for `source`, and the text at the place it points to.
fn refused(source: &str) -> (String, String) {
    let input: DeriveInput = syn::parse_str(source).unwrap();
    let error = expand(&input).expect_err("this must be refused");
    let (start, end) = (error.span().start(), error.span().end());
    assert_eq!((start.line, end.line), (1, 1), "sources here have one line");
    (
        error.to_string(),
        source[start.column..end.column].to_owned(),
    )
}

#[test]
fn an_unknown_attribute_is_pointed_at_and_the_allowed_ones_are_listed() {
    let (message, place) = refused("struct S { #[inspect(heks)] a: u32 }");
    assert_eq!(place, "heks");
    assert!(
        message.starts_with("`heks` is not an `inspect` attribute of a field; allowed are `skip`"),
        "{message}"
    );
    let (message, place) = refused("#[inspect(skip)] struct S;");
    assert_eq!(place, "skip");
    assert!(
        message.starts_with("`skip` is not an `inspect` attribute of a type; allowed are `extra"),
        "{message}"
    );
    let (message, place) = refused("enum E { #[inspect(hex)] A }");
    assert_eq!(place, "hex");
    assert!(message.ends_with("of a variant; allowed are `rename = \"...\"`"));
}

#[test]
fn attributes_that_contradict_each_other_are_refused() {
    for (source, expected) in [
        ("struct S { #[inspect(hex, debug)] a: u32 }", "debug"),
        ("struct S { #[inspect(skip, hex)] a: u32 }", "skip"),
        (
            "struct S { #[inspect(flatten, rename = \"b\")] a: T }",
            "flatten",
        ),
        ("struct S { #[inspect(flatten, hex)] a: u32 }", "hex"),
        (
            "struct S { #[inspect(skip)] #[inspect(skip)] a: u32 }",
            "skip",
        ),
        (
            "#[inspect(transparent)] struct S { a: u32, b: u32 }",
            "transparent",
        ),
        ("#[inspect(transparent)] enum E { A }", "transparent"),
        (
            "#[inspect(transparent)] struct S(#[inspect(rename = \"b\")] u32);",
            "\"b\"",
        ),
        ("#[inspect(tag = \"t\")] struct S;", "\"t\""),
        ("#[inspect(transparent, extra = f)] struct S(u32);", "f"),
        ("#[inspect(extra = f)] enum E { A }", "f"),
        ("union U { a: u32 }", "U"),
    ] {
        let (message, place) = refused(source);
        assert_eq!(place, expected, "{source}: {message}");
    }
}

#[test]
fn a_variant_with_data_asks_for_a_tag() {
    let (message, place) = refused("enum E { A, B(u32) }");
    assert_eq!(place, "B(u32)");
    assert!(message.contains("#[inspect(tag = \"...\")]"), "{message}");
}

#[test]
fn a_malformed_value_is_pointed_at() {
    let (_, place) = refused("struct S { #[inspect(rename = 3)] a: u32 }");
    assert_eq!(place, "3");
    let (_, place) = refused("struct S { #[inspect(with = \"|x\")] a: u32 }");
    assert_eq!(place, "\"|x\"");
    refused("struct S { #[inspect(with)] a: u32 }");
    refused("struct S { #[inspect(hex = \"yes\")] a: u32 }");
    refused("struct S { #[inspect] a: u32 }");
}
