//! Checking a description without building anything.

use crate::context::LEVELS_MAX;
use crate::de::{self, Nested};
use crate::error::{Problem, ResolveError};
use crate::handle::ResourceKind;
use crate::path::JsonPath;
use crate::registry::{Kind, ResourceResolver};
use crate::resource::{Resource, TYPE_KEY};
use crate::schema;
use serde_json::{Map, Value};

/// The code of a type that checks the fields of a description and finds the descriptions in it.
pub(crate) type CheckFields =
    fn(Map<String, Value>, &JsonPath, &[String]) -> Result<Vec<Nested>, ResolveError>;

/// The reserved keys of a kind, and the code that checks their values.
#[derive(Clone, Copy)]
pub(crate) struct ReservedKeys {
    pub(crate) names: &'static [String],
    pub(crate) check: CheckFields,
}

impl ReservedKeys {
    pub(crate) fn of<K: ResourceKind>() -> Self {
        Self {
            names: schema::reserved_names::<K>(),
            check: |fields, path, taken| {
                de::check_map::<K::Reserved>(fields, path, taken, |_, _| Ok(()))
            },
        }
    }

    /// Takes the reserved keys out of `fields`.
    pub(crate) fn take(&self, fields: &mut Map<String, Value>) -> Map<String, Value> {
        let (reserved, own) = std::mem::take(fields)
            .into_iter()
            .partition(|(name, _)| self.names.contains(name));
        *fields = own;
        reserved
    }
}

/// How many mistakes a [check](ResourceResolver::check) looks for. Nobody reads more at once, and to find each in its document
/// takes time.
pub const MISTAKES_MAX: usize = 32;

impl ResourceResolver {
    /// What can be said against a description, and those in it, without building: types, keys and values. Whether a file
    /// exists, or layers fit each other, only [resolving](crate::ResolveContext::resolve) shows.
    ///
    /// In the order of the document from the outside in; of each description only the first mistake, and of all together the
    /// first [`MISTAKES_MAX`].
    pub fn check<K: ResourceKind>(&self, resource: &Resource<K>) -> Vec<ResolveError> {
        let (id, mut value) = resource.clone().into_parts();
        value.insert(TYPE_KEY.to_owned(), id.into());
        let mut errors = Vec::new();
        let mut level = vec![Nested {
            kind: K::NAME,
            path: resource.origin_or(&JsonPath::root()),
            value: Value::Object(value),
        }];
        for _ in 0..LEVELS_MAX {
            let mut below = Vec::new();
            for nested in level {
                match self.check_one(nested) {
                    Ok(inner) => below.extend(inner),
                    Err(error) => errors.push(error),
                }
                if errors.len() == MISTAKES_MAX {
                    return errors;
                }
            }
            level = below;
        }
        let levels_max = LEVELS_MAX;
        let too_deep =
            |nested: Nested| ResolveError::new(nested.path, Problem::TooDeep { levels_max });
        let left = MISTAKES_MAX - errors.len();
        errors.extend(level.into_iter().map(too_deep).take(left));
        errors
    }

    fn check_one(&self, nested: Nested) -> Result<Vec<Nested>, ResolveError> {
        let Nested { kind, path, value } = nested;
        let Value::Object(mut fields) = value else {
            unreachable!("a description is an object, or it would not have become one")
        };
        let id = match fields.shift_remove(TYPE_KEY) {
            Some(Value::String(id)) => id,
            _ => unreachable!("a description has a type, or it would not have become one"),
        };
        let Some(kinds) = self.kinds_that_take(kind, &id) else {
            return Err(ResolveError::new(
                path.key(TYPE_KEY),
                self.unknown_type(kind, id),
            ));
        };
        let mut taken = Vec::new();
        let mut check = None;
        for kind in kinds {
            let reserved = kind.reserved.take(&mut fields);
            (kind.reserved.check)(reserved, &path, &[])?;
            taken.extend_from_slice(kind.reserved.names);
            check = kind.types.get(id.as_str()).map(|entry| entry.check);
        }
        let check = check.expect("the last of these kinds has the type");
        check(fields, &path, &taken)
    }

    /// The kind itself, if it has the type, or the kind and its stand-in that has it.
    fn kinds_that_take(&self, kind: &str, id: &str) -> Option<Vec<&Kind>> {
        let kind = self.kind(kind)?;
        if kind.types.contains_key(id) {
            return Some(vec![kind]);
        }
        let mut stand_ins = kind.stand_ins.keys().filter_map(|name| self.kind(name));
        let stand_in = stand_ins.find(|stand_in| stand_in.types.contains_key(id))?;
        Some(vec![kind, stand_in])
    }
}
