//! Documents that somebody got wrong. Each is refused, by `check` and by `serve` alike, with a message that
//! says what was wrong, where, and if possible what was meant.

use crate::support::daemon::platter;
use crate::support::tool::outcome;
use crate::support::write;

/// The exit code for whatever is wrong with a document.
const WRONG_CONFIGURATION: i32 = 3;

/// Checks that the document is refused, and that the message holds each of `clues`.
#[track_caller]
fn is_refused(document: &str, clues: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("disk.json"), document);
    write(&folder.path().join("odd.raw"), vec![0; 1000]);
    write(&folder.path().join("good.raw"), vec![0; 4096]);
    for command in ["check", "serve"] {
        let mut platter = platter(folder.path());
        // Were the document taken, the socket must not end up among the user's own.
        platter.env("XDG_RUNTIME_DIR", folder.path());
        let refused = outcome(platter.args([command, "disk.json"]));
        assert_eq!(
            refused.status.code(),
            Some(WRONG_CONFIGURATION),
            "{command}"
        );
        let text = &refused.stderr;
        assert!(!text.contains("panicked"), "{text}");
        for clue in clues {
            assert!(text.contains(clue), "{command}: no `{clue}` in: {text}");
        }
    }
}

/// A document with one export of this disk.
fn exporting(disk: &str) -> String {
    format!(r#"{{ "exports": [ {{ "name": "vm", "disk": {disk} }} ] }}"#)
}

fn layered(layers: &str) -> String {
    exporting(&format!(
        r#"{{ "type": "layered", "layers": [ {layers} ] }}"#
    ))
}

#[test]
fn a_document_that_is_cut_off_names_its_line() {
    is_refused(
        "{ \"exports\": [\n  { \"name\": \"vm\",\n",
        &["disk.json:3"],
    );
}

#[test]
fn an_unknown_type_names_the_one_that_was_meant() {
    is_refused(
        &exporting(r#"{ "type": "flie", "path": "good.raw" }"#),
        &["flie", "file", "exports[0].disk"],
    );
}

#[test]
fn an_unknown_layer_type_names_its_place() {
    is_refused(
        &layered(r#"{ "type": "ram" }, { "type": "rum" }"#),
        &["rum", "ram", "layers[1]"],
    );
}

#[test]
fn an_unknown_field_names_the_one_that_was_meant() {
    is_refused(
        &exporting(r#"{ "type": "file", "pth": "good.raw" }"#),
        &["pth", "path", "exports[0].disk"],
    );
}

#[test]
fn a_missing_field_is_named() {
    is_refused(
        &exporting(r#"{ "type": "file" }"#),
        &["path", "exports[0].disk"],
    );
}

#[test]
fn a_value_of_the_wrong_kind_names_its_place() {
    is_refused(
        &exporting(r#"{ "type": "file", "path": 5 }"#),
        &["exports[0].disk.path", "string"],
    );
}

#[test]
fn a_size_that_is_none_names_its_place() {
    is_refused(
        &layered(r#"{ "type": "ram", "size": "1 potato" }"#),
        &["1 potato", "layers[0].size"],
    );
}

#[test]
fn a_missing_image_is_named_with_the_way_to_make_one() {
    is_refused(
        &exporting(r#"{ "type": "file", "path": "nowhere.raw" }"#),
        &["nowhere.raw", "create"],
    );
}

#[test]
fn an_image_that_is_no_multiple_of_a_sector_is_named_with_both_sizes() {
    is_refused(
        &exporting(r#"{ "type": "file", "path": "odd.raw" }"#),
        &["odd.raw", "1000", "512"],
    );
}

#[test]
fn a_folder_is_no_image() {
    is_refused(
        &exporting(r#"{ "type": "file", "path": "." }"#),
        &["directory"],
    );
}

#[test]
fn a_stack_without_a_layer_is_refused() {
    is_refused(&layered(""), &["layer", "exports[0].disk"]);
}

#[test]
fn memory_without_a_size_and_with_nothing_below_is_refused() {
    is_refused(&layered(r#"{ "type": "ram" }"#), &["size", "layer"]);
}

#[test]
fn a_read_only_image_on_top_of_a_writable_stack_is_refused() {
    let layer =
        r#"{ "type": "disk", "disk": { "type": "file", "path": "good.raw", "read_only": true } }"#;
    is_refused(&layered(layer), &["read-only", "layers[0].disk.read_only"]);
}

#[test]
fn two_exports_of_one_name_are_refused() {
    let disk = r#"{ "type": "layered", "layers": [ { "type": "ram", "size": "1M" } ] }"#;
    let export = format!(r#"{{ "name": "vm", "disk": {disk} }}"#);
    is_refused(
        &format!(r#"{{ "exports": [ {export}, {export} ] }}"#),
        &["exports[1].name", "exports[0]"],
    );
}

#[test]
fn a_name_that_no_client_can_ask_for_is_refused() {
    let disk = r#"{ "type": "layered", "layers": [ { "type": "ram", "size": "1M" } ] }"#;
    for name in ["x".repeat(5000), "a\\u0000b".to_owned()] {
        let document = format!(r#"{{ "exports": [ {{ "name": "{name}", "disk": {disk} }} ] }}"#);
        is_refused(&document, &["4096", "zero byte"]);
    }
}

#[test]
fn of_endless_mistakes_the_first_are_said() {
    let mistakes = vec![r#"{ "type": "rum" }"#; 100_000].join(",\n");
    is_refused(
        &layered(&mistakes),
        &["disk.json:1: ", "disk.json:32: ", "the first 32"],
    );
    let addresses = vec![r#""carrier:pigeon""#; 100_000].join(",\n");
    let disk = r#"{ "type": "layered", "layers": [ { "type": "ram", "size": "1M" } ] }"#;
    let document =
        format!(r#"{{ "exports": [ {{ "disk": {disk} }} ], "listen": [ {addresses} ] }}"#);
    is_refused(&document, &["listen[0]", "listen[31]", "the first 32"]);
}

#[test]
fn an_address_that_is_none_is_refused() {
    let disk = r#"{ "type": "layered", "layers": [ { "type": "ram", "size": "1M" } ] }"#;
    let document = format!(
        r#"{{ "exports": [ {{ "name": "vm", "disk": {disk} }} ], "listen": ["carrier:pigeon"] }}"#
    );
    is_refused(&document, &["carrier:pigeon", "unix:"]);
}

#[test]
fn a_document_nested_without_end_is_refused() {
    let open = r#"{ "type": "disk", "disk": { "type": "layered", "layers": [ "#;
    is_refused(&layered(&open.repeat(20_000)), &["disk.json"]);
    let close = "] } }";
    is_refused(
        &layered(&format!("{}{}", open.repeat(5_000), close.repeat(5_000))),
        &["disk.json"],
    );
}

#[test]
fn a_missing_document_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let refused = outcome(platter(folder.path()).args(["serve", "nowhere.json"]));
    assert_eq!(refused.status.code(), Some(WRONG_CONFIGURATION));
    assert!(
        refused.stderr.contains("nowhere.json"),
        "{}",
        refused.stderr
    );
}
