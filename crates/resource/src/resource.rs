//! A description whose type is known only at run time.

use crate::check::ReservedKeys;
use crate::de::{self, RESOURCE_MARK};
use crate::error::ResolveError;
use crate::handle::{ResourceHandle, ResourceKind};
use crate::path::{JsonPath, Segment};
use crate::schema;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self as serde_de, Deserializer, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

/// The key that says which type a description is of.
pub(crate) const TYPE_KEY: &str = "type";

/// The description of a thing of kind `K`: the id of its type, and the type's data.
///
/// In JSON it is an object with the key `type` and the type's own keys beside it. Nothing but that is known until it is
/// [resolved](crate::ResolveContext::resolve). Equality ignores where the description came from.
pub struct Resource<K> {
    id: String,
    fields: Map<String, Value>,
    origin: Option<Arc<JsonPath>>,
    kind: PhantomData<fn() -> K>,
}

impl<K: ResourceKind> Resource<K> {
    /// The description that `handle` is the data of.
    ///
    /// # Panics
    ///
    /// If `handle` does not serialize as an object, or has a field named `type` of its own.
    pub fn new<H: ResourceHandle<K> + Serialize>(handle: &H) -> Self {
        let fields = object_of(handle);
        assert!(
            !fields.contains_key(TYPE_KEY),
            "the handle of {} {:?} has a field named {TYPE_KEY:?}",
            K::NAME,
            H::ID
        );
        Self::from_parts(H::ID.to_owned(), fields, None)
    }

    /// The same description with reserved keys.
    ///
    /// # Panics
    ///
    /// If they do not serialize as an object.
    #[must_use]
    pub fn with_reserved(mut self, reserved: &K::Reserved) -> Self {
        self.fields.extend(object_of(reserved));
        self
    }

    /// The reserved keys of this description; defaults for those it does not have.
    ///
    /// # Errors
    ///
    /// A bad value, with its path.
    pub fn reserved(&self) -> Result<K::Reserved, ResolveError> {
        let reserved = ReservedKeys::of::<K>().take(&mut self.fields.clone());
        de::from_map(reserved, &self.origin_or(&JsonPath::root()), &[])
    }
}

impl<K> Resource<K> {
    pub(crate) fn from_parts(
        id: String,
        fields: Map<String, Value>,
        origin: Option<Arc<JsonPath>>,
    ) -> Self {
        Self {
            id,
            fields,
            origin,
            kind: PhantomData,
        }
    }

    pub(crate) fn into_parts(self) -> (String, Map<String, Value>) {
        (self.id, self.fields)
    }

    /// The id of the type: the value of the key `type`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Everything but the key `type`.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    /// Where in its document the description stood, if it was read by this crate.
    pub fn origin(&self) -> Option<&JsonPath> {
        self.origin.as_deref()
    }

    /// The same description, standing at `origin`: errors will name that place.
    #[must_use]
    pub fn with_origin(mut self, origin: JsonPath) -> Self {
        self.origin = Some(Arc::new(origin));
        self
    }

    pub(crate) fn origin_or(&self, default: &JsonPath) -> JsonPath {
        self.origin().unwrap_or(default).clone()
    }
}

fn object_of(data: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(data) {
        Ok(Value::Object(fields)) => fields,
        other => panic!("the data of a description must serialize as an object: {other:?}"),
    }
}

impl<K> Clone for Resource<K> {
    fn clone(&self) -> Self {
        Self::from_parts(self.id.clone(), self.fields.clone(), self.origin.clone())
    }
}

impl<K> PartialEq for Resource<K> {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.fields == other.fields
    }
}

impl<K: ResourceKind> fmt::Debug for Resource<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resource<{}>(", K::NAME)?;
        let text = serde_json::to_string(self).map_err(|_| fmt::Error)?;
        write!(f, "{text})")
    }
}

impl<K> Serialize for Resource<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.fields.len() + 1))?;
        map.serialize_entry(TYPE_KEY, &self.id)?;
        for (name, value) in &self.fields {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de, K: ResourceKind> Deserialize<'de> for Resource<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let visitor = ResourceVisitor(PhantomData);
        deserializer.deserialize_struct(RESOURCE_MARK, ResourceVisitor::<K>::KIND, visitor)
    }
}

struct ResourceVisitor<K>(PhantomData<fn() -> K>);

impl<'de, K: ResourceKind> Visitor<'de> for ResourceVisitor<K> {
    type Value = Resource<K>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the description of a {}: an object with the key \"type\"",
            K::NAME
        )
    }

    /// From any other deserializer: the members.
    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
        self.build(Map::deserialize(MapAccessDeserializer::new(members))?, None)
    }

    /// From ours: the path and the members.
    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Self::Value, D::Error> {
        let (path, fields) = <(String, Map<String, Value>)>::deserialize(deserializer)?;
        let path: Vec<Segment> = serde_json::from_str(&path).map_err(serde_de::Error::custom)?;
        self.build(fields, Some(Arc::new(path.into_iter().collect())))
    }
}

impl<K: ResourceKind> ResourceVisitor<K> {
    /// What [`RESOURCE_MARK`] wants to know.
    const KIND: &'static [&'static str] = &[K::NAME];

    fn build<E: serde_de::Error>(
        self,
        mut fields: Map<String, Value>,
        origin: Option<Arc<JsonPath>>,
    ) -> Result<Resource<K>, E> {
        let id = take_id(&mut fields)?;
        Ok(Resource::from_parts(id, fields, origin))
    }
}

/// Takes the id of the type out of a description.
pub(crate) fn take_id<E: serde_de::Error>(fields: &mut Map<String, Value>) -> Result<String, E> {
    // `shift_remove` keeps the order of the others, in which the description is written back.
    match fields.shift_remove(TYPE_KEY) {
        Some(Value::String(id)) => Ok(id),
        Some(other) => Err(E::invalid_type(
            de::unexpected(&other),
            &"an object whose key \"type\" is a string",
        )),
        None => Err(E::missing_field(TYPE_KEY)),
    }
}

/// A reference to the definition of the kind, which [`ResourceResolver::schema`](crate::ResourceResolver::schema) makes.
impl<K: ResourceKind> JsonSchema for Resource<K> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        K::NAME.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        Schema::new_ref(schema::kind_ref(K::NAME))
    }
}
