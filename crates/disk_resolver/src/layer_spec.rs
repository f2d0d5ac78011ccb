//! Layers as a command line writes them: `ram:1G`, `file:base.raw,ro`.

use disk_backend::resolve::DiskHandleKind;
use disk_layered::resolve::DiskLayerHandleKind;
use resource::{FieldDoc, ResourceKind, ResourceResolver, TypeDoc, parse};
use serde_json::{Map, Value, json};
use std::fmt;
use std::str::FromStr;

/// A layer, or a disk in the place of a layer, as written on a command line.
///
/// Either a JSON object, or `TYPE[:VALUE][,KEY=VALUE...]`. The value behind the colon is that of the type's first key (`size`
/// for `ram`, `path` for `file`); where that is a disk (`store` for `durable`), the path of a raw image. A key alone means `true`; `ro` is short for `read_only`. A comma that belongs to a value
/// is written twice.
///
/// ```
/// let spec: disk_resolver::LayerSpec = "file:new.raw,create=true,size=10G".parse().unwrap();
/// let json = spec.describe(&disk_resolver::resolver()).unwrap();
/// assert_eq!(json["path"], "new.raw");
/// assert_eq!(json["create"], true);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct LayerSpec {
    text: String,
    form: Form,
}

#[derive(Debug, Clone, PartialEq)]
enum Form {
    Json(Value),
    Short {
        id: String,
        value: Option<String>,
        options: Vec<(String, Option<String>)>,
    },
}

/// Why a [`LayerSpec`] was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("layer {spec:?}: {reason}")]
pub struct InvalidLayerSpec {
    spec: String,
    reason: String,
}

/// Reads the form alone; whether there is such a type is known to [`describe`](LayerSpec::describe).
impl FromStr for LayerSpec {
    type Err = InvalidLayerSpec;

    fn from_str(text: &str) -> Result<Self, InvalidLayerSpec> {
        let form = if text.trim_start().starts_with('{') {
            parse(text)
                .map(Form::Json)
                .map_err(|error| error.to_string())
        } else {
            short_form(text)
        };
        match form {
            Ok(form) => Ok(Self {
                text: text.to_owned(),
                form,
            }),
            Err(reason) => Err(InvalidLayerSpec {
                spec: text.to_owned(),
                reason,
            }),
        }
    }
}

fn short_form(text: &str) -> Result<Form, String> {
    let mut parts = split_at_commas(text).into_iter();
    let first = parts.next().unwrap_or_default();
    let (id, value) = match first.split_once(':') {
        Some((id, value)) => (id, Some(value)),
        None => (first.as_str(), None),
    };
    if id.is_empty() {
        return Err("name a type, as in \"ram\", \"ram:1G\" or \"file:base.raw\"".to_owned());
    }
    if value == Some("") {
        return Err("nothing follows the colon".to_owned());
    }
    let mut options: Vec<(String, Option<String>)> = Vec::new();
    for part in parts {
        let (key, value) = match part.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (part.as_str(), None),
        };
        if key.is_empty() {
            let text = "a key is missing; options are written \",key=value\", and a comma in a value twice";
            return Err(text.to_owned());
        }
        let key = if (key, &value) == ("ro", &None) {
            "read_only"
        } else {
            key
        };
        if options.iter().any(|(known, _)| known == key) {
            return Err(format!("{} is given twice", key.escape_debug()));
        }
        options.push((key.to_owned(), value));
    }
    Ok(Form::Short {
        id: id.to_owned(),
        value: value.map(str::to_owned),
        options,
    })
}

/// Splits at single commas; a doubled one is a comma.
fn split_at_commas(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == ',' && chars.next_if_eq(&',').is_none() {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts
}

impl LayerSpec {
    /// The description that it stands for, as JSON. Keys and values are not checked beyond what the form needs.
    ///
    /// # Errors
    ///
    /// If there is no such type, or the type takes no value behind the colon.
    pub fn describe(&self, resolver: &ResourceResolver) -> Result<Value, InvalidLayerSpec> {
        match &self.form {
            Form::Json(value) => Ok(value.clone()),
            Form::Short { id, value, options } => {
                let fields = self.fields_of(id, resolver)?;
                self.expand(id, value.as_deref(), options, &fields)
            }
        }
    }

    /// The keys of the type, its own first.
    fn fields_of(
        &self,
        id: &str,
        resolver: &ResourceResolver,
    ) -> Result<Vec<FieldDoc>, InvalidLayerSpec> {
        let kinds = resolver.documentation();
        let find = |kind_name: &str| {
            let kind = kinds.iter().find(|kind| kind.name == kind_name)?;
            let of_type = kind.types.iter().find(|known| known.id == id)?;
            Some([&of_type.fields[..], &kind.reserved].concat())
        };
        let known = find(DiskLayerHandleKind::NAME).or_else(|| find(DiskHandleKind::NAME));
        known.ok_or_else(|| {
            let forms = layer_spec_forms(resolver);
            let forms: Vec<String> = forms.into_iter().map(|(form, _)| form).collect();
            let mut reason = format!("there is no type {id:?}; there are: {}", forms.join(", "));
            if id.contains(['.', '/']) {
                reason += &format!(". A raw image is written file:{}", id.escape_debug());
            }
            self.refuse(reason)
        })
    }

    fn expand(
        &self,
        id: &str,
        value: Option<&str>,
        options: &[(String, Option<String>)],
        fields: &[FieldDoc],
    ) -> Result<Value, InvalidLayerSpec> {
        let mut object = Map::new();
        object.insert("type".to_owned(), id.into());
        if let Some(value) = value {
            let (field, value) = match fields.first() {
                Some(field) if is_single(field) => (field, json_of(value, Some(field))),
                Some(field) if is_disk(field) => (field, json!({ "type": "file", "path": value })),
                _ => return Err(self.refuse(format!("{id} takes no value behind a colon"))),
            };
            object.insert(field.name.clone(), value);
        }
        if let (None, Some(first)) = (value, fields.first().filter(|first| first.is_required))
            && options.iter().all(|(key, _)| *key != first.name)
            && (is_single(first) || is_disk(first))
        {
            let name = &first.name;
            let (word, besides) = match is_disk(first) {
                true => ("PATH".to_owned(), ", or as JSON for a disk of another type"),
                false => (name.to_uppercase(), ""),
            };
            return Err(self.refuse(format!(
                "{name}: this key is missing: write {id}:{word}{besides}"
            )));
        }
        for (key, value) in options {
            let field = fields.iter().find(|field| field.name == *key);
            let value = match value {
                Some(value) => json_of(value, field),
                None => true.into(),
            };
            if object.insert(key.clone(), value).is_some() {
                return Err(self.refuse(format!("{} is given twice", key.escape_debug())));
            }
        }
        Ok(Value::Object(object))
    }

    fn refuse(&self, reason: String) -> InvalidLayerSpec {
        InvalidLayerSpec {
            spec: self.text.clone(),
            reason,
        }
    }
}

/// As it was written, in quotes.
impl fmt::Display for LayerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

/// Whether a field's value can be written as one word.
fn is_single(field: &FieldDoc) -> bool {
    ["string", "size", "integer", "number", "boolean"]
        .iter()
        .any(|single| field.value_type == *single)
}

/// Whether a field's value is a disk, for which a path can stand.
fn is_disk(field: &FieldDoc) -> bool {
    field.value_type == DiskHandleKind::NAME
}

/// The value that `text` is for `field`. What does not fit stays text, and is refused with the field's own message.
fn json_of(text: &str, field: Option<&FieldDoc>) -> Value {
    let parsed = match field.map(|field| field.value_type.as_str()) {
        Some("boolean") => text.parse().ok().map(Value::Bool),
        Some("integer") => text.parse::<u64>().ok().map(Value::from),
        Some("number") => text.parse::<f64>().ok().map(Value::from),
        _ => None,
    };
    parsed.unwrap_or_else(|| text.into())
}

/// How each type is written on a command line, and its summary: `ram[:SIZE]`, `file:PATH`.
pub fn layer_spec_forms(resolver: &ResourceResolver) -> Vec<(String, String)> {
    let mut forms: Vec<(String, String)> = Vec::new();
    let kinds = resolver.documentation();
    for name in [DiskLayerHandleKind::NAME, DiskHandleKind::NAME] {
        let types = kinds.iter().filter(|kind| kind.name == name);
        for of_type in types.flat_map(|kind| &kind.types) {
            if let Some(form) = form_of(of_type) {
                forms.push((form, of_type.summary.clone()));
            }
        }
    }
    forms
}

/// `None` for a type that cannot be written without JSON.
fn form_of(of_type: &TypeDoc) -> Option<String> {
    let id = of_type.id;
    let mut others = of_type.fields.iter().skip(1);
    match of_type.fields.first() {
        _ if others.any(|field| field.is_required && !is_single(field)) => None,
        Some(field) if is_disk(field) => Some(format!("{id}:PATH")),
        Some(field) if field.is_required && !is_single(field) => None,
        Some(field) if is_single(field) => {
            let value = field.name.to_uppercase();
            Some(match field.is_required {
                true => format!("{id}:{value}"),
                false => format!("{id}[:{value}]"),
            })
        }
        _ => Some(id.to_owned()),
    }
}
