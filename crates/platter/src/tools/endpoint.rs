//! A disk as it is named on the command line of the tools.

use disk_nbd::{InvalidNbdUri, NbdUri};
use disk_resolver::{InvalidLayerSpec, LayerSpec};
use resource::ResourceResolver;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A disk to be opened. What it is can be told from the text alone: no image is looked into.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    text: String,
    form: Form,
}

/// The forms of an [`Endpoint`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Form {
    /// `CONFIG.json`, or `CONFIG.json#EXPORT`.
    Config {
        path: PathBuf,
        export: Option<String>,
    },
    /// A layer, or a disk, as `--layer` takes it.
    Spec(LayerSpec),
    /// A raw image or a block device.
    Path(PathBuf),
    /// An export of an NBD server.
    Uri(NbdUri),
}

/// Why a text names no disk.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidEndpoint {
    #[error(transparent)]
    Spec(#[from] InvalidLayerSpec),
    #[error(transparent)]
    Uri(#[from] InvalidNbdUri),
    #[error("{0}; a disk is named by one of\n{FORMS}")]
    Unclear(String),
}

const FORMS: &str = "  \
  CONFIG.json or CONFIG.json#EXPORT  a configuration, and which of its exports if there are several
  file:PATH, ram:SIZE, {\"type\": ...}  a layer spec, as --layer takes it; or the path of a raw image that has a `/` or a `.`
  nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH  an export of an NBD server";

impl Endpoint {
    pub(crate) fn form(&self) -> &Form {
        &self.form
    }
}

/// As it was written.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let is_file = |path: &str| Path::new(path).exists();
        let form = parse(text, &disk_resolver::resolver(), is_file)?;
        Ok(Self {
            text: text.to_owned(),
            form,
        })
    }
}

fn parse(
    text: &str,
    resolver: &ResourceResolver,
    is_file: impl Fn(&str) -> bool,
) -> Result<Form, InvalidEndpoint> {
    let unclear = |why: String| Err(InvalidEndpoint::Unclear(why));
    if text.is_empty() {
        return unclear("an empty text names no disk".to_owned());
    }
    if text.trim_start().starts_with('{') {
        return Ok(Form::Spec(text.parse()?));
    }
    if let Some((scheme, _)) = text
        .split_once("://")
        .filter(|(scheme, _)| is_scheme(scheme))
    {
        return match NbdUri::is_meant_by(text) {
            true => Ok(Form::Uri(text.parse()?)),
            false => unclear(format!("there is no scheme {scheme:?}")),
        };
    }
    let word = text.split([':', ',']).next().unwrap_or(text);
    if is_type(word, resolver) {
        return match word == text && is_file(text) {
            true => unclear(format!(
                "{text:?} is a type of layer, and there is a file of that name: write {text}: with a value, or ./{text}"
            )),
            false => Ok(Form::Spec(text.parse()?)),
        };
    }
    if let Some(form) = configuration(text) {
        return Ok(form);
    }
    if word.contains(['.', '/']) {
        return Ok(Form::Path(text.into()));
    }
    match word == text {
        true => unclear(format!("{text:?} may be a file, a type or an export")),
        false => unclear(format!("there is no type {word:?}")),
    }
}

fn is_scheme(text: &str) -> bool {
    let may_stand = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    !text.is_empty() && text.chars().all(may_stand)
}

/// `CONFIG.json` with or without an export behind it. The name of an export may hold anything.
fn configuration(text: &str) -> Option<Form> {
    if let Some((stem, export)) = text.split_once(".json#") {
        return Some(Form::Config {
            path: format!("{stem}.json").into(),
            export: Some(export.to_owned()),
        });
    }
    text.ends_with(".json").then(|| Form::Config {
        path: text.into(),
        export: None,
    })
}

fn is_type(word: &str, resolver: &ResourceResolver) -> bool {
    let kinds = resolver.documentation();
    let mut types = kinds.iter().flat_map(|kind| &kind.types);
    types.any(|known| known.id == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> Result<Form, String> {
        parse(text, &disk_resolver::resolver(), |path| path == "ram")
            .map_err(|error| error.to_string())
    }

    #[test]
    fn each_form_is_told_by_its_text() {
        let config = |path: &str, export: Option<&str>| Form::Config {
            path: path.into(),
            export: export.map(str::to_owned),
        };
        let spec = |text: &str| Form::Spec(text.parse().unwrap());
        for (text, expected) in [
            ("disk.json", config("disk.json", None)),
            (
                "/etc/disk.json#vm#1",
                config("/etc/disk.json", Some("vm#1")),
            ),
            ("disk.json#", config("disk.json", Some(""))),
            ("ram:1G", spec("ram:1G")),
            ("file:disk.json", spec("file:disk.json")),
            ("file:a.raw,ro", spec("file:a.raw,ro")),
            (r#" {"type":"ram"}"#, spec(r#" {"type":"ram"}"#)),
            ("base.raw", Form::Path("base.raw".into())),
            ("./ram", Form::Path("./ram".into())),
            ("/dev/sda", Form::Path("/dev/sda".into())),
            ("images/a:b,c", Form::Path("images/a:b,c".into())),
            (
                "nbd://host/x",
                Form::Uri("nbd://host:10809/x".parse().unwrap()),
            ),
            (
                "nbd+unix:///?socket=s.json",
                Form::Uri("nbd+unix:///?socket=s.json".parse().unwrap()),
            ),
        ] {
            assert_eq!(form(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_wrong_uri_says_what_is_wrong_with_it() {
        let message = form("nbd:///x").unwrap_err();
        assert!(message.contains("host is missing"), "{message}");
    }

    #[test]
    fn what_may_be_several_things_is_refused_with_the_forms() {
        for (text, why) in [
            ("", "empty"),
            ("ram", "a type of layer, and there is a file"),
            ("base", "\"base\" may be"),
            ("rum:1G", "no type \"rum\""),
            ("http://x/y", "no scheme \"http\""),
        ] {
            let message = form(text).unwrap_err();
            for part in [why, "CONFIG.json#EXPORT", "file:PATH", "nbd+unix://"] {
                assert!(message.contains(part), "{text}: {message}");
            }
        }
    }
}
