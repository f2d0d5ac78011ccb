//! Groups of throttled disks: one of each name for each resolver, and descriptions that do not agree.

use disk_backend::Disk;
use disk_resolver::{Config, OpenExport, resolver};
use futures_lite::future::block_on;
use resource::ResourceResolver;
use serde_json::Value;

const RAM: &str = r#"{ "type": "layered", "layers": [{ "type": "ram", "size": "1M" }] }"#;

fn throttled(rest: &str) -> String {
    format!(r#"{{ "type": "throttle", {rest} "disk": {RAM} }}"#)
}

fn document(disks: &[String]) -> Config {
    let exports = disks.iter().enumerate();
    let exports =
        exports.map(|(index, disk)| format!(r#"{{ "name": "{index}", "disk": {disk} }}"#));
    let exports = exports.collect::<Vec<_>>().join(",\n");
    Config::from_text("d.json", format!("{{ \"exports\": [\n{exports} ] }}"), "").unwrap()
}

fn open(resolver: &ResourceResolver, disks: &[String]) -> Result<Vec<OpenExport>, String> {
    block_on(document(disks).open(resolver, false)).map_err(|error| error.to_string())
}

fn check(disks: &[String]) -> Vec<String> {
    let mistakes = document(disks).check(&resolver(), false);
    mistakes.iter().map(ToString::to_string).collect()
}

fn show(disk: &Disk, path: &str) -> Value {
    block_on(inspect::inspect(path, None, disk)).unwrap()
}

#[test]
fn disks_with_the_same_name_of_a_group_share_it_and_others_do_not() {
    let resolver = resolver();
    let limited = throttled(r#""group": "a", "bytes_per_second": "1M","#);
    let disks = [
        throttled(r#""group": "a","#),
        limited.clone(),
        limited.clone(),
        throttled(r#""group": "b","#),
        throttled(""),
    ];
    assert_eq!(check(&disks), [""; 0]);
    let exports = open(&resolver, &disks).unwrap();
    let counts = exports.iter().map(|export| show(&export.disk, "disks"));
    assert_eq!(counts.collect::<Vec<_>>(), [3, 3, 3, 1, 1]);
    assert_eq!(show(&exports[0].disk, "bytes_per_second"), 1 << 20);
    block_on(inspect::update("bytes_per_second", "2M", &exports[0].disk)).unwrap();
    assert_eq!(show(&exports[2].disk, "bytes_per_second"), 2 << 20);
    assert_eq!(show(&exports[3].disk, "bytes_per_second"), Value::Null);
    // One that comes later joins the group as it is now.
    let later = open(&resolver, std::slice::from_ref(&limited)).unwrap();
    assert_eq!(show(&later[0].disk, "bytes_per_second"), 2 << 20);
    assert_eq!(show(&later[0].disk, "disks"), 4);
    // Another resolver, as another daemon, has groups of its own.
    let elsewhere = open(&disk_resolver::resolver(), std::slice::from_ref(&limited)).unwrap();
    assert_eq!(show(&elsewhere[0].disk, "bytes_per_second"), 1 << 20);
    assert_eq!(show(&elsewhere[0].disk, "disks"), 1);
    // A group ends with its last disk.
    drop((exports, later));
    let anew = open(
        &resolver,
        &[throttled(r#""group": "a", "operations_per_second": 3,"#)],
    );
    assert_eq!(
        show(&anew.unwrap()[0].disk, "bytes_per_second"),
        Value::Null
    );
}

#[test]
fn other_limits_for_the_same_group_are_refused_with_both_places() {
    let first = throttled(r#""group": "a", "bytes_per_second": "1M","#);
    let second = throttled(r#""group": "a", "bytes_per_second": "2M","#);
    let nested = format!(
        r#"{{ "type": "layered", "layers": [{{ "type": "ram" }}, {}] }}"#,
        second.replace("\"group\"", "\"read_cache\": false, \"group\"")
    );
    for (other, place) in [
        (second, "exports[2].disk.group"),
        (nested, "exports[2].disk.layers[1].group"),
    ] {
        let disks = [throttled(r#""group": "a","#), first.clone(), other];
        let expected = format!(
            "d.json:4: {place}: the group \"a\" has other limits at exports[1].disk: give the same ones here, or none"
        );
        assert_eq!(check(&disks), [&*expected]);
        assert_eq!(open(&resolver(), &disks).unwrap_err(), expected);
    }
}

#[test]
fn a_burst_alone_is_refused_before_anything_is_opened() {
    let disks = [throttled(r#""group": "a", "burst_bytes": "1M","#)];
    let mistakes = check(&disks);
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    assert!(
        mistakes[0]
            .starts_with("d.json:2: exports[0].disk.burst_bytes: there is nothing to burst above"),
        "{mistakes:?}"
    );
    assert_eq!(open(&resolver(), &disks).unwrap_err(), mistakes[0]);
}
