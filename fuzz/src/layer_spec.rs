//! Layers as a command line writes them.
//!
//! Each line is one. What is understood is described, and its description means the same when it is written as JSON; what is refused
//! is refused with the text in the message. Nothing is opened.

use crate::leaks::Watch;
use disk_resolver::{Config, LayerSpec, resolver};
use resource::ResourceResolver;
use std::sync::LazyLock;

static RESOLVER: LazyLock<ResourceResolver> = LazyLock::new(resolver);
static WATCH: Watch = Watch::new();

/// One run.
pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut specs = Vec::new();
    for line in text.lines().take(16) {
        match line.parse::<LayerSpec>() {
            Ok(spec) => {
                check_description(&spec);
                specs.push(spec);
            }
            Err(error) => check_message(line, &error.to_string()),
        }
    }
    match Config::from_layers(&RESOLVER, specs) {
        Ok(config) => {
            for mistake in config.check(&RESOLVER, false) {
                check_line(&mistake.to_string());
            }
        }
        Err(error) => check_line(&error.to_string()),
    }
    drop(text);
    WATCH.run_ended();
}

fn check_description(spec: &LayerSpec) {
    let shown = spec.to_string();
    let description = match spec.describe(&RESOLVER) {
        Ok(description) => description,
        Err(error) => {
            assert!(error.to_string().contains(&shown), "{error} for {shown}");
            return;
        }
    };
    let as_json = description.to_string();
    let again: LayerSpec = as_json.parse().expect("a description is a layer");
    let same = again.describe(&RESOLVER).expect("it was described before");
    assert_eq!(same, description, "{shown}");
}

fn check_message(spec: &str, message: &str) {
    assert!(
        message.starts_with(&format!("layer {spec:?}: ")),
        "{spec:?} is refused with {message:?}"
    );
    check_line(message);
}

/// What people read is one line that a terminal can show.
pub(crate) fn check_line(message: &str) {
    assert!(!message.is_empty());
    assert!(
        !message.contains(char::is_control),
        "the message is more than a line of text: {message:?}"
    );
    assert!(message.len() < 1 << 20, "{} bytes of text", message.len());
}
