//! Disks opened from what users write.

use disk_backend::Disk;
use disk_resolver::{Config, LayerSpec, layer_spec_forms, open_disk, resolver, schema};
use futures_lite::future::block_on;
use guestmem::GuestMemory;
use scsi_buffers::OwnedRequestBuffers;
use serde_json::{Value, json};
use std::path::Path;

fn read(disk: &Disk, sector: u64) -> Vec<u8> {
    let len = disk.sector_size() as usize;
    let memory = GuestMemory::allocate(len);
    let buffers = OwnedRequestBuffers::linear(0, len, true);
    block_on(disk.read_vectored(&buffers.buffer(&memory), sector)).unwrap();
    let mut bytes = vec![0; len];
    memory.read_at(0, &mut bytes).unwrap();
    bytes
}

fn write(disk: &Disk, sector: u64, byte: u8) -> Result<(), disk_backend::DiskError> {
    let len = disk.sector_size() as usize;
    let memory = GuestMemory::allocate(len);
    memory.fill_at(0, byte, len).unwrap();
    let buffers = OwnedRequestBuffers::linear(0, len, false);
    block_on(disk.write_vectored(&buffers.buffer(&memory), sector, false))
}

fn image(dir: &Path, name: &str, byte: u8) {
    std::fs::write(dir.join(name), vec![byte; 64 << 10]).unwrap();
}

/// The only disk of a configuration.
fn open(config: &Config, read_only: bool) -> Disk {
    let mut exports = block_on(config.open(&resolver(), read_only)).unwrap();
    assert_eq!(exports.len(), 1);
    exports.remove(0).disk
}

fn layers(specs: &[&str]) -> Config {
    let specs = specs.iter().map(|spec| spec.parse().unwrap()).collect();
    Config::from_layers(&resolver(), specs).unwrap()
}

#[test]
fn a_throw_away_copy_of_a_file_is_written_above_it() {
    let dir = tempfile::tempdir().unwrap();
    image(dir.path(), "base.raw", 7);
    let json = r#"{ "type": "layered", "layers": [
        { "type": "ram" },
        { "type": "disk", "disk": { "type": "file", "path": "base.raw", "read_only": true } } ] }"#;
    let disk = block_on(open_disk(json, dir.path(), false)).unwrap();
    assert_eq!(disk.sector_count(), 128);
    write(&disk, 3, 9).unwrap();
    assert_eq!((read(&disk, 3)[0], read(&disk, 4)[0]), (9, 7));
    drop(disk);
    let base = std::fs::read(dir.path().join("base.raw")).unwrap();
    assert!(base.iter().all(|&byte| byte == 7));
}

#[test]
fn a_bare_disk_stands_where_a_layer_is_expected() {
    let dir = tempfile::tempdir().unwrap();
    image(dir.path(), "base.raw", 7);
    let json = r#"{ "type": "layered", "layers": [
        { "type": "ram" },
        { "type": "layered", "layers": [ { "type": "file", "path": "base.raw" } ] } ] }"#;
    let disk = block_on(open_disk(json, dir.path(), false)).unwrap();
    assert_eq!(read(&disk, 127)[511], 7);
}

#[test]
fn a_configuration_names_files_relative_to_itself() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("images")).unwrap();
    image(&dir.path().join("images"), "a.raw", 1);
    let path = dir.path().join("disk.json");
    std::fs::write(&path, r#"{ "type": "file", "path": "images/a.raw" }"#).unwrap();
    let config = Config::read(&path).unwrap();
    assert_eq!(config.document().exports[0].name, "");
    assert_eq!(read(&open(&config, true), 0)[0], 1);
}

#[test]
fn each_export_is_opened_under_its_name() {
    let dir = tempfile::tempdir().unwrap();
    image(dir.path(), "a.raw", 1);
    image(dir.path(), "b.raw", 2);
    let text = r#"{
        "exports": [
            { "name": "a", "disk": { "type": "file", "path": "a.raw" } },
            { "name": "b", "disk": { "type": "file", "path": "b.raw" }, "read_only": true }
        ],
        "listen": ["unix:/tmp/x", "tcp:127.0.0.1:10809"]
    }"#;
    let config = Config::from_text("x.json", text, dir.path()).unwrap();
    assert_eq!(config.document().listen.len(), 2);
    let exports = block_on(config.open(&resolver(), false)).unwrap();
    let names: Vec<_> = exports.iter().map(|export| export.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(read(&exports[1].disk, 0)[0], 2);
    assert!(!exports[0].disk.is_read_only());
    assert!(exports[1].disk.is_read_only());
    write(&exports[0].disk, 0, 3).unwrap();
    write(&exports[1].disk, 0, 3).unwrap_err();
}

#[test]
fn read_only_reaches_every_disk() {
    let dir = tempfile::tempdir().unwrap();
    image(dir.path(), "a.raw", 1);
    let json = r#"{ "type": "layered", "layers": [
        { "type": "ram" }, { "type": "file", "path": "a.raw" } ] }"#;
    let disk = block_on(open_disk(json, dir.path(), true)).unwrap();
    assert!(disk.is_read_only());
    write(&disk, 0, 3).unwrap_err();
}

#[test]
fn a_faulty_disk_is_as_read_only_as_what_it_is_made_of() {
    let dir = tempfile::tempdir().unwrap();
    image(dir.path(), "a.raw", 1);
    let faulty = |more: &str| {
        format!(
            r#"{{ "type": "fault", "disk": {{ "type": "file", "path": "a.raw"{more} }}, "rules": [
                {{ "action": {{ "error": "write_fault" }}, "operations": ["write"], "sectors": {{ "start": 3, "count": 1 }} }} ] }}"#
        )
    };
    let open = |json: &str, read_only| block_on(open_disk(json, dir.path(), read_only));
    assert!(
        open(&faulty(r#", "read_only": true"#), false)
            .unwrap()
            .is_read_only()
    );
    assert!(open(&faulty(""), true).unwrap().is_read_only());
    let disk = open(&faulty(""), false).unwrap();
    assert!(!disk.is_read_only());
    assert_eq!((disk.disk_type(), disk.sector_count()), ("fault", 128));
    write(&disk, 2, 9).unwrap();
    let error = write(&disk, 3, 9).unwrap_err();
    assert_eq!(error.to_string(), "medium error: write fault");
    assert_eq!((read(&disk, 2)[0], read(&disk, 3)[0]), (9, 1));
}

#[test]
fn a_file_is_not_made_for_a_faulty_disk_whose_rules_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = r#"{ "type": "file", "path": "made.raw", "create": true, "size": "64K" }"#;
    let json = format!(
        r#"{{ "type": "layered", "layers": [ {{ "type": "ram" }}, {{ "type": "fault", "disk": {file}, "rules": [
            {{ "action": "hold" }}, {{ "action": "misdirect", "operations": ["unmap"] }} ] }} ] }}"#
    );
    let error = block_on(open_disk(&json, dir.path(), false)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "layers[1].rules[1].operations[0]: \"misdirect\" cannot be done to unmap; it can be done to: read, write, write_zeroes"
    );
    assert!(!dir.path().join("made.raw").exists());
    let config = Config::from_text("d.json", &json, dir.path()).unwrap();
    let mistakes = config.check(&resolver(), false);
    let mistakes: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    assert_eq!(mistakes, [format!("d.json:2: {error}")]);
}

#[test]
fn a_file_that_cannot_be_a_cache_is_not_made_before_it_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    image(dir.path(), "a.raw", 1);
    let json = r#"{ "type": "layered", "layers": [
        { "type": "ram" },
        { "type": "file", "path": "made.raw", "create": true, "size": "64K", "read_cache": true },
        { "type": "file", "path": "a.raw" } ] }"#;
    for read_only in [false, true] {
        block_on(open_disk(json, dir.path(), read_only)).unwrap_err();
        assert!(!dir.path().join("made.raw").exists());
    }
}

#[test]
fn nothing_stays_open_of_a_configuration_that_fails() {
    let dir = tempfile::tempdir().unwrap();
    image(dir.path(), "a.raw", 1);
    let text = r#"{ "exports": [
        { "name": "a", "disk": { "type": "file", "path": "a.raw" } },
        { "name": "b", "disk": { "type": "file", "path": "missing.raw" } } ] }"#;
    let config = Config::from_text("x.json", text, dir.path()).unwrap();
    block_on(config.open(&resolver(), false)).unwrap_err();
    let alone = r#"{ "type": "file", "path": "a.raw" }"#;
    block_on(open_disk(alone, dir.path(), false)).unwrap();
}

#[test]
fn a_check_opens_nothing() {
    let text = r#"{ "exports": [
        { "name": "a", "disk": { "type": "file", "path": "missing.raw" } },
        { "name": "b", "disk": { "type": "layered", "layers": [{ "type": "ram", "sise": 1 }, { "type": "rum" }] } } ] }"#;
    let config = Config::from_text("x.json", text, "").unwrap();
    let errors: Vec<_> = config
        .check(&resolver(), false)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        errors,
        [
            "x.json:3: exports[1].disk.layers[0].sise: unknown key; did you mean \"size\"?",
            "x.json:3: exports[1].disk.layers[1].type: unknown type of layer \"rum\"; did you mean \"ram\"?",
        ]
    );
}

#[test]
fn layers_of_the_command_line_make_a_disk() {
    let dir = tempfile::tempdir().unwrap();
    image(dir.path(), "base.raw", 7);
    let base = dir.path().join("base.raw");
    let base = base.to_str().unwrap();
    let disk = open(&layers(&["ram", &format!("file:{base},ro")]), false);
    write(&disk, 0, 9).unwrap();
    assert_eq!((read(&disk, 0)[0], read(&disk, 1)[0]), (9, 7));
    drop(disk);
    let new = dir.path().join("new, file.raw");
    let new = new.to_str().unwrap();
    let spec = format!("file:{},create=true,size=1M", new.replace(',', ",,"));
    assert_eq!(open(&layers(&[&spec]), false).sector_count(), 2048);
    assert_eq!(std::fs::metadata(new).unwrap().len(), 1 << 20);
    let json = json!({ "type": "file", "path": base }).to_string();
    assert_eq!(
        open(&layers(&["ram:1M,sector_size=512", &json]), false).sector_count(),
        2048
    );
}

#[test]
fn a_durable_layer_is_made_with_its_file_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    image(dir.path(), "base.raw", 7);
    let place = |name: &str| dir.path().join(name).display().to_string();
    let base = format!("file:{},ro", place("base.raw"));
    let spec = format!("durable:{}", place("vm1.plt"));
    let try_open = |top: &str| {
        let specs = [top, &base].map(|spec| spec.parse().unwrap());
        let config = Config::from_layers(&resolver(), specs.to_vec()).unwrap();
        let mut opened =
            block_on(config.open(&resolver(), false)).map_err(|error| error.to_string())?;
        Ok::<_, String>(opened.remove(0).disk)
    };
    let refused = try_open(&spec).unwrap_err();
    assert!(refused.contains("no such file"), "{refused}");
    assert!(!Path::new(&place("vm1.plt")).exists());
    let made = try_open(&format!("{spec},create=true")).unwrap();
    assert_eq!(made.sector_count(), 128);
    write(&made, 3, 9).unwrap();
    block_on(made.close()).unwrap();
    drop(made);
    for spec in [spec.clone(), format!("{spec},create=true")] {
        let found = try_open(&spec).unwrap();
        assert_eq!((read(&found, 3)[0], read(&found, 4)[0]), (9, 7));
    }
    // A wrong path costs nothing.
    image(dir.path(), "other.raw", 5);
    let wrong = format!("durable:{},create=true", place("other.raw"));
    let refused = try_open(&wrong).unwrap_err();
    assert!(refused.contains("is not empty"), "{refused}");
    let left = std::fs::read(place("other.raw")).unwrap();
    assert!(left.iter().all(|byte| *byte == 5));
}

#[test]
fn a_layer_spec_stands_for_json() {
    for (spec, expected) in [
        ("ram", json!({ "type": "ram" })),
        ("ram:1G", json!({ "type": "ram", "size": "1G" })),
        (
            "ram,size=1G,sector_size=4096",
            json!({ "type": "ram", "size": "1G", "sector_size": 4096 }),
        ),
        (
            "ram,read_cache",
            json!({ "type": "ram", "read_cache": true }),
        ),
        (
            "file:base.raw",
            json!({ "type": "file", "path": "base.raw" }),
        ),
        (
            "file:a:b=c.raw,ro",
            json!({ "type": "file", "path": "a:b=c.raw", "read_only": true }),
        ),
        (
            "file:a,,b,read_only=false",
            json!({ "type": "file", "path": "a,b", "read_only": false }),
        ),
        (
            "file:new.raw,create=true,size=10G",
            json!({ "type": "file", "path": "new.raw", "create": true, "size": "10G" }),
        ),
        (
            "durable:vm1.plt,create=true",
            json!({ "type": "durable", "store": { "type": "file", "path": "vm1.plt" }, "create": true }),
        ),
        (
            "delay:base.raw,seconds=0.5",
            json!({ "type": "delay", "disk": { "type": "file", "path": "base.raw" }, "seconds": 0.5 }),
        ),
        (
            r#" { "type": "ram", "size": 512 }"#,
            json!({ "type": "ram", "size": 512 }),
        ),
    ] {
        let parsed: LayerSpec = spec.parse().unwrap();
        assert_eq!(parsed.describe(&resolver()).unwrap(), expected, "{spec}");
    }
}

#[test]
fn the_forms_of_layer_specs_are_listed_for_help() {
    let forms: Vec<_> = layer_spec_forms(&resolver())
        .into_iter()
        .map(|(form, _)| form)
        .collect();
    let expected = "disk:PATH, durable:PATH, ram[:SIZE], delay:PATH, fault:PATH, file:PATH, nbd:URI, throttle:PATH";
    assert_eq!(forms.join(", "), expected);
}

#[test]
fn every_type_is_documented() {
    for kind in resolver().documentation() {
        for of_type in kind.types {
            assert!(!of_type.summary.is_empty(), "{}", of_type.id);
            for field in of_type.fields {
                assert!(
                    !field.description.is_empty(),
                    "{}.{}",
                    of_type.id,
                    field.name
                );
                assert_ne!(field.value_type, "any", "{}.{}", of_type.id, field.name);
            }
        }
    }
}

#[test]
fn the_schema_leads_from_the_document_to_every_type() {
    let schema = schema(&resolver()).to_value();
    assert_eq!(
        schema["anyOf"],
        json!([{ "$ref": "#/$defs/Document" }, { "$ref": "#/$defs/disk" }])
    );
    let definitions = &schema["$defs"];
    for name in [
        "disk.file",
        "disk.layered",
        "layer.ram",
        "layer.disk",
        "layer.file",
    ] {
        assert!(definitions[name].is_object(), "{name}");
    }
    assert_eq!(
        definitions["Export"]["properties"]["disk"]["$ref"],
        "#/$defs/disk"
    );
    fn references(value: &Value) -> Vec<&str> {
        match value {
            Value::Object(object) => {
                let own = object.get("$ref").and_then(Value::as_str);
                own.into_iter()
                    .chain(object.values().flat_map(references))
                    .collect()
            }
            Value::Array(array) => array.iter().flat_map(references).collect(),
            _ => Vec::new(),
        }
    }
    for reference in references(&schema) {
        let name = reference.strip_prefix("#/$defs/").unwrap();
        assert!(definitions[name].is_object(), "{reference}");
    }
}

#[test]
fn stacks_may_be_nested_up_to_the_limit() {
    let nested = |disks: usize| {
        let mut json = r#"{ "type": "ram", "size": "1M" }"#.to_owned();
        for _ in 0..disks {
            json = format!(r#"{{ "type": "layered", "layers": [{json}] }}"#);
        }
        block_on(open_disk(&json, "", false))
    };
    let disk = nested(32).unwrap();
    write(&disk, 5, 3).unwrap();
    assert_eq!(read(&disk, 5)[0], 3);
    let tree = block_on(inspect::inspect("", None, &disk)).unwrap();
    assert!(tree.to_string().contains("\"ram\""));
    let error = nested(33).unwrap_err().to_string();
    assert!(
        error.ends_with("may contain each other at most 64 levels deep"),
        "{error}"
    );
}

#[test]
fn one_export_is_opened_without_the_others() {
    let dir = tempfile::tempdir().unwrap();
    image(dir.path(), "b.raw", 2);
    let text = r#"{ "exports": [
        { "name": "a", "disk": { "type": "file", "path": "missing.raw" } },
        { "name": "b", "disk": { "type": "file", "path": "b.raw" } } ] }"#;
    let config = Config::from_text("x.json", text, dir.path()).unwrap();
    let export = block_on(config.open_export(&resolver(), 1, true)).unwrap();
    assert_eq!(export.name, "b");
    assert_eq!(read(&export.disk, 0)[0], 2);
    assert!(export.disk.is_read_only());
    block_on(config.open_export(&resolver(), 0, true)).unwrap_err();
}

#[test]
fn what_is_wrong_with_a_description_is_said_under_its_name() {
    let describe = |json: serde_json::Value| Config::from_description("SRC", &json);
    let config = describe(serde_json::json!({ "type": "file", "pth": "x" })).unwrap();
    let error = block_on(config.open_export(&resolver(), 0, true)).unwrap_err();
    let message = error.to_string();
    assert!(message.starts_with("SRC: pth: unknown key"), "{message}");
    let message = describe(serde_json::json!([])).unwrap_err().to_string();
    assert!(message.starts_with("SRC: "), "{message}");
}
