//! The layer in a configuration, found by its registration alone.

use disk_resolver::{Config, LayerSpec, open_disk, resolver};
use disklayer_capped as _;
use futures_lite::future::block_on;

const DISK: &str = r#"{ "type": "layered",
  "layers": [{ "type": "capped", "limit": "1M" }, { "type": "ram", "size": "64M" }] }"#;

#[test]
fn a_configuration_may_name_it() {
    let disk = block_on(open_disk(DISK, "", false)).unwrap();
    assert_eq!(disk.sector_count(), (64 << 20) / 512);
    let limit = block_on(inspect::inspect(
        "layers/0/backing/limit_bytes",
        None,
        &disk,
    ));
    assert_eq!(limit.unwrap(), 1 << 20);
}

#[test]
fn so_may_a_command_line() {
    let layers: Vec<LayerSpec> = ["capped:1M", "ram:64M"]
        .map(|layer| layer.parse().unwrap())
        .into();
    let config = Config::from_layers(&resolver(), layers).unwrap();
    assert_eq!(block_on(config.open(&resolver(), false)).unwrap().len(), 1);
}

#[test]
fn a_mistake_is_explained_as_for_any_other_type() {
    for (from, to, expected) in [
        (
            r#""limit": "1M""#,
            r#""limt": "1M""#,
            r#"layers[0].limt: unknown key; did you mean "limit"?"#,
        ),
        (
            "capped",
            "caped",
            r#"layers[0].type: unknown type of layer "caped"; did you mean "capped"?"#,
        ),
        (
            r#", "limit": "1M""#,
            "",
            "layers[0].limit: this key is missing",
        ),
    ] {
        let error = block_on(open_disk(&DISK.replace(from, to), "", false)).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}
