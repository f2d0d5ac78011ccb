//! Wrong configurations, and the exact words they are refused with.

use disk_resolver::{CONFIG_LEN_MAX, Config, LayerSpec, resolver};
use futures_lite::future::block_on;
use std::path::Path;

/// What a user reads who serves `text` as `d.json` from `dir`.
fn refused_in(dir: &Path, text: &str) -> String {
    let opened = Config::from_text("d.json", text, dir)
        .and_then(|config| block_on(config.open(&resolver(), false)));
    opened.expect_err(text).to_string()
}

fn layers_refused(specs: &[&str]) -> String {
    let parsed: Result<Vec<LayerSpec>, _> = specs.iter().map(|spec| spec.parse()).collect();
    let specs = match parsed {
        Ok(specs) => specs,
        Err(error) => return error.to_string(),
    };
    let opened = Config::from_layers(&resolver(), specs)
        .and_then(|config| block_on(config.open(&resolver(), false)));
    opened.expect_err("this must be refused").to_string()
}

#[test]
fn a_wrong_configuration_is_refused_with_line_path_and_remedy() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("odd.raw"), [0; 1000]).unwrap();
    for (text, expected) in [
        // Not JSON, or not a configuration.
        ("", "d.json:1: EOF while parsing a value (column 1)"),
        (
            "{\n  \"type\": \"file\",\n}",
            "d.json:3: trailing comma (column 1)",
        ),
        (
            "[]",
            "d.json:1: a configuration is an object: a disk, which has the key \"type\", or a document with \"exports\"",
        ),
        (
            "{ \"disk\": {} }",
            "d.json:1: this is neither a disk, which has the key \"type\", nor a document, which has the key \"exports\"",
        ),
        (
            "\n{ \"layers\": [] }",
            "d.json:2: the key \"type\" is missing; a disk made of layers is written {\"type\": \"layered\", \"layers\": [...]}",
        ),
        (
            "{ \"type\": \"file\",\n\"path\": \"a\",\n\"path\": \"b\" }",
            "d.json:3: the key \"path\" occurs twice in this object (column 6)",
        ),
        // The document.
        (
            "{ \"export\": [] }",
            "d.json:1: export: unknown key; did you mean \"exports\"?",
        ),
        (
            "{ \"exports\": [] }",
            "d.json:1: exports: there is nothing to serve: name at least one export",
        ),
        (
            "{ \"exports\": [\n{ \"name\": \"a\", \"disk\": { \"type\": \"ram\" } },\n{ \"name\": \"a\", \"disk\": { \"type\": \"ram\" } } ] }",
            "d.json:3: exports[1].name: exports[0] has this name too; clients choose an export by its name",
        ),
        (
            "{ \"exports\": [\n{ \"nmae\": \"a\" } ] }",
            "d.json:2: exports[0].nmae: unknown key; did you mean \"name\"?",
        ),
        (
            "{ \"exports\": [\n{ \"name\": \"a\" } ] }",
            "d.json:2: exports[0].disk: this key is missing",
        ),
        (
            "{ \"exports\": [\n{ \"disk\": { \"type\": \"file\", \"path\": \"a\" }, \"read_only\": \"no\" } ] }",
            "d.json:2: exports[0].read_only: this should be true or false, not \"no\"",
        ),
        (
            "{ \"exports\": [ { \"disk\": \"base.raw\" } ] }",
            "d.json:1: exports[0].disk: this should be the description of a disk: an object with the key \"type\", not \"base.raw\"",
        ),
        // Types and keys.
        (
            "{ \"type\": \"fiel\", \"path\": \"a\" }",
            "d.json:1: type: unknown type of disk \"fiel\"; did you mean \"file\"?",
        ),
        (
            "{ \"type\": \"qcow2\", \"path\": \"a\" }",
            "d.json:1: type: unknown type of disk \"qcow2\"; there are: delay, fault, file, layered, nbd, throttle",
        ),
        (
            "{ \"type\": \"ram\", \"size\": \"1G\" }",
            "d.json:1: type: \"ram\" is a type of layer, not of disk; write {\"type\": \"layered\", \"layers\": [...]} with the layer in it",
        ),
        (
            "{ \"type\": \"layered\",\n  \"layers\": [\n    { \"type\": \"ram\" },\n    { \"type\": \"disk\",\n      \"disk\": { \"type\": \"file\",\n                \"pth\": \"a.raw\" } } ] }",
            "d.json:6: layers[1].disk.pth: unknown key; did you mean \"path\"?",
        ),
        (
            "{ \"type\": \"layered\", \"layers\": [ { \"type\": \"ram\", \"readcache\": true } ] }",
            "d.json:1: layers[0].readcache: unknown key; did you mean \"read_cache\"?",
        ),
        (
            "{ \"type\": \"layered\", \"layers\": [\n{ \"type\": \"ram\", \"size\": \"10 GB\" } ] }",
            "d.json:2: layers[0].size: \"10 GB\" is not a size: write a whole number of bytes, or one with a unit such as \"512M\" \
             or \"10G\" (K, M, G, T, P: powers of 1024)",
        ),
        (
            "{ \"type\": \"layered\", \"layers\": { \"type\": \"ram\" } }",
            "d.json:1: layers: this should be an array, not an object",
        ),
        (
            "{ \"type\": \"file\" }",
            "d.json:1: path: this key is missing",
        ),
    ] {
        assert_eq!(refused_in(dir.path(), text), expected, "{text}");
    }
}

#[test]
fn a_good_configuration_of_an_impossible_disk_is_refused_where_it_fails() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("odd.raw"), [0; 1000]).unwrap();
    for (text, path, words) in [
        (
            "{ \"type\": \"file\",\n \"path\": \"missing.raw\" }",
            "d.json:2: path: ",
            "missing.raw",
        ),
        (
            "{ \"type\": \"file\",\n \"path\": \"odd.raw\" }",
            // Which key is to blame is up to the type.
            "d.json:",
            "1000",
        ),
        (
            "{ \"type\": \"file\",\n \"path\": \".\" }",
            "d.json:2: path: ",
            "directory",
        ),
        (
            "{ \"type\": \"layered\",\n \"layers\": [] }",
            "d.json:2: layers: ",
            "layer",
        ),
        (
            "{ \"type\": \"layered\",\n \"layers\": [{ \"type\": \"ram\" }] }",
            "d.json:2: layers",
            "size",
        ),
        (
            "{ \"type\": \"layered\",\n \"layers\": [{ \"type\": \"ram\", \"size\": 513 }] }",
            "d.json:2: layers",
            "513",
        ),
        (
            "{ \"type\": \"layered\",\n \"layers\": [{ \"type\": \"ram\", \"size\": \"1M\", \"sector_size\": 100 }] }",
            "d.json:2: layers",
            "100",
        ),
        (
            "{ \"type\": \"layered\",\n \"layers\": [{ \"type\": \"ram\", \"size\": \"1M\", \"write_through\": true }] }",
            "d.json:2: layers[0]",
            "write_through needs a layer below",
        ),
    ] {
        let message = refused_in(dir.path(), text);
        assert!(message.starts_with(path), "{text}: {message}");
        assert!(message.contains(words), "{text}: {message}");
    }
}

#[test]
fn a_wrong_layer_of_the_command_line_is_refused_by_its_own_text() {
    for (specs, expected) in [
        (
            &[""][..],
            "layer \"\": name a type, as in \"ram\", \"ram:1G\" or \"file:base.raw\"",
        ),
        (&["ram:"], "layer \"ram:\": nothing follows the colon"),
        (
            &["ram", "base.qcow2"],
            "layer \"base.qcow2\": there is no type \"base.qcow2\"; there are: disk:PATH, durable:PATH, ram[:SIZE], delay:PATH, fault:PATH, file:PATH, nbd:URI, throttle:PATH. A raw image is written \
             file:base.qcow2",
        ),
        (
            &["rum:1G"],
            "layer \"rum:1G\": there is no type \"rum\"; there are: disk:PATH, durable:PATH, ram[:SIZE], delay:PATH, fault:PATH, file:PATH, nbd:URI, throttle:PATH",
        ),
        (
            &["layered:x"],
            "layer \"layered:x\": layered takes no value behind a colon",
        ),
        (
            &["ram:1G,size=2G"],
            "layer \"ram:1G,size=2G\": size is given twice",
        ),
        (&["ram,a=1,a=2"], "layer \"ram,a=1,a=2\": a is given twice"),
        (
            &["ram,"],
            "layer \"ram,\": a key is missing; options are written \",key=value\", and a comma in a value twice",
        ),
        (
            &["ram:1G", "ram,sise=1"],
            "layer \"ram,sise=1\": sise: unknown key; did you mean \"size\"?",
        ),
        (
            &["durable"],
            "layer \"durable\": store: this key is missing: write durable:PATH, or as JSON for a disk of another type",
        ),
        (
            &["file,ro"],
            "layer \"file,ro\": path: this key is missing: write file:PATH",
        ),
        (
            &["ram,ro"],
            "layer \"ram,ro\": read_only: unknown key; the keys here are: size, sector_size, read_cache, write_through",
        ),
        (
            &["ram:much"],
            "layer \"ram:much\": size: \"much\" is not a size: write a whole number of bytes, or one with a unit such as \
             \"512M\" or \"10G\" (K, M, G, T, P: powers of 1024)",
        ),
        (
            &["ram,sector_size=4k"],
            "layer \"ram,sector_size=4k\": sector_size: this should be a whole number from 0 to 4294967295, not \"4k\"",
        ),
        (
            &["file:a.raw,create=yes"],
            "layer \"file:a.raw,create=yes\": create: this should be true or false, not \"yes\"",
        ),
        (
            &["{\"type\": \"ram\""],
            "layer \"{\\\"type\\\": \\\"ram\\\"\": EOF while parsing an object (column 14)",
        ),
        (
            &["{\"size\": \"1G\"}"],
            "layer \"{\\\"size\\\": \\\"1G\\\"}\": type: this key is missing",
        ),
        (&[], "the layers: a layered disk needs at least one layer"),
    ] {
        assert_eq!(layers_refused(specs), expected, "{specs:?}");
    }
}

#[test]
fn what_is_no_text_is_told_apart_from_a_wrong_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.img");
    let remedy = "a configuration is a JSON document. If this is a disk image, describe it: {\"type\": \"file\", \"path\": ...}, \
                  or --layer file:PATH on the command line";
    for (content, reason) in [
        (Vec::new(), "the file is empty"),
        (b" \n".to_vec(), "the file is empty"),
        (vec![0; 512], "this is not text"),
        (vec![0xff; 512], "this is not text in UTF-8"),
        (vec![b' '; CONFIG_LEN_MAX + 1], "this is longer than 16 MiB"),
    ] {
        std::fs::write(&path, content).unwrap();
        let message = Config::read(&path).unwrap_err().to_string();
        assert_eq!(message, format!("{}: {reason}; {remedy}", path.display()));
    }
    let missing = dir.path().join("missing.json");
    assert_eq!(
        Config::read(&missing).unwrap_err().to_string(),
        format!(
            "{}: cannot be read: No such file or directory (os error 2)",
            missing.display()
        )
    );
    assert!(
        Config::read(dir.path())
            .unwrap_err()
            .to_string()
            .contains("cannot be read")
    );
}

#[test]
fn a_wrong_address_is_blamed_on_its_line() {
    let text = "{ \"exports\": [{ \"disk\": { \"type\": \"file\", \"path\": \"a\" } }],\n\"listen\": [\n\"unix:a\",\n\"b\" ] }";
    let config = Config::from_text("d.json", text, "").unwrap();
    assert_eq!(
        config.wrong_address(1, "write unix:PATH").to_string(),
        "d.json:4: listen[1]: write unix:PATH"
    );
}

#[test]
fn no_configuration_however_hostile_does_harm() {
    let dir = tempfile::tempdir().unwrap();
    let deep_layers = "{\"type\":\"layered\",\"layers\":[".repeat(100_000);
    let long_key = format!(
        "{{ \"type\": \"file\", \"{}\": 1 }}",
        "k\\n".repeat(1 << 20)
    );
    let long_type = format!("{{ \"type\": \"{}\" }}", "t".repeat(1 << 20));
    for text in [
        "[".repeat(1 << 20),
        deep_layers,
        long_key,
        long_type,
        "{ \"type\": \"file\", \"path\": \"a\\u0000b\" }".to_owned(),
        "{ \"type\": \"file\", \"path\": \"a\\nb\\u001b[2J\" }".to_owned(),
        "{ \"type\": \"file\", \"path\": \"a\", \"sector_size\": 1e400 }".to_owned(),
        "{ \"type\": \"layered\", \"layers\": [{ \"type\": \"ram\", \"size\": 18446744073709551615 }] }".to_owned(),
        "{ \"type\": \"layered\", \"layers\": [{ \"type\": \"ram\", \"size\": 18446744073709551104 }] }".to_owned(),
    ] {
        let message = refused_in(dir.path(), &text);
        assert!(message.len() < 1000, "a message fits a terminal: {} bytes", message.len());
        assert!(!message.contains(char::is_control), "{message:?}");
    }
}

#[test]
fn a_read_only_layer_is_seen_without_opening_it_where_it_would_be_written() {
    let mistakes = |read_only: bool, text: &str| -> Vec<String> {
        let config = Config::from_text("c.json", text, "").unwrap();
        let mistakes = config.check(&resolver(), read_only);
        mistakes.iter().map(ToString::to_string).collect()
    };
    let file = r#"{ "type": "file", "path": "a.raw", "read_only": true }"#;
    let layered = |top: &str| {
        format!(r#"{{ "type": "layered", "layers": [{top}, {{ "type": "ram", "size": "1M" }}] }}"#)
    };
    let nested = layered(&format!(
        r#"{{ "type": "disk", "disk": {} }}"#,
        layered(file)
    ));
    let through = |below: &str| {
        let top = r#"{ "type": "ram", "write_through": true }"#;
        format!(r#"{{ "type": "layered", "layers": [{top}, {below}] }}"#)
    };
    let faulty = |disk: &str| format!(r#"{{ "type": "fault", "disk": {disk} }}"#);
    let throttled = |disk: &str| format!(r#"{{ "type": "throttle", "disk": {disk} }}"#);
    let delayed = |disk: &str| format!(r#"{{ "type": "delay", "seconds": 1, "disk": {disk} }}"#);
    for (text, path) in [
        (layered(file), "layers[0].read_only"),
        (layered(&faulty(file)), "layers[0].disk.read_only"),
        (faulty(&layered(file)), "disk.layers[0].read_only"),
        (delayed(&layered(file)), "disk.layers[0].read_only"),
        (throttled(&layered(file)), "disk.layers[0].read_only"),
        (
            through(&faulty(&layered(file))),
            "layers[1].disk.layers[0].read_only",
        ),
        (nested, "layers[0].disk.layers[0].read_only"),
        (through(file), "layers[1].read_only"),
        (through(&layered(file)), "layers[1].layers[0].read_only"),
    ] {
        let found = mistakes(false, &text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with(&format!("c.json:1: {path}: the layer is read-only")),
            "{found:?}"
        );
        assert!(mistakes(true, &text).is_empty());
    }
    // Alone it is a read-only disk, and below others it is not written.
    assert!(mistakes(false, file).is_empty());
    assert!(mistakes(false, &faulty(file)).is_empty());
    let below = format!(r#"{{ "type": "layered", "layers": [{{ "type": "ram" }}, {file}] }}"#);
    assert!(mistakes(false, &below).is_empty());
    assert!(mistakes(false, &through(&below)).is_empty());
}

#[test]
fn a_layer_that_is_no_text_for_a_terminal_is_refused_in_text_for_one() {
    for spec in [
        "base\u{1b}[31m.raw",
        "a\0.b",
        "a\n/b",
        "x,k\u{7f}=1,k\u{7f}=2",
        "ram:\r",
    ] {
        let message = layers_refused(&[spec]);
        assert!(!message.contains(char::is_control), "{message:?}");
    }
}
