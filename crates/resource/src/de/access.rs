//! What is inside of arrays, objects, enums and resources.

use super::Node;
use super::error::Error;
use super::place::Place;
use serde::de::value::{BorrowedStrDeserializer, StringDeserializer};
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};
use serde_json::{Map, Value};

/// The members of an object.
pub(super) struct Members<'de, 'p> {
    members: serde_json::map::Iter<'de>,
    /// The member whose key was handed out last.
    value: Option<(&'de str, &'de Value)>,
    place: &'p Place<'p>,
    fields: Option<&'static [&'static str]>,
}

impl<'de, 'p> Members<'de, 'p> {
    /// `fields` as for [`Node::fields`].
    pub(super) fn new(
        object: &'de Map<String, Value>,
        place: &'p Place<'p>,
        fields: Option<&'static [&'static str]>,
    ) -> Self {
        Self {
            members: object.iter(),
            value: None,
            place,
            fields,
        }
    }
}

impl<'de> MapAccess<'de> for Members<'de, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.members.next() else {
            return Ok(None);
        };
        self.value = Some((key, value));
        let key = seed.deserialize(BorrowedStrDeserializer::new(key));
        key.map(Some).map_err(|error: Error| error.at(self.place))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (key, value) = self
            .value
            .take()
            .expect("a value is asked for after its key");
        let place = self.place.key(key);
        let node = Node {
            value,
            place: &place,
            fields: self.fields,
        };
        seed.deserialize(node).map_err(|error| error.at(&place))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.members.len())
    }
}

/// The elements of an array.
pub(super) struct Items<'de, 'p> {
    items: std::slice::Iter<'de, Value>,
    index: usize,
    place: &'p Place<'p>,
}

impl<'de, 'p> Items<'de, 'p> {
    pub(super) fn new(array: &'de [Value], place: &'p Place<'p>) -> Self {
        Self {
            items: array.iter(),
            index: 0,
            place,
        }
    }

    /// How many were not asked for.
    pub(super) fn left_count(&self) -> usize {
        self.items.len()
    }
}

impl<'de> SeqAccess<'de> for &mut Items<'de, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Some(value) = self.items.next() else {
            return Ok(None);
        };
        let place = self.place.index(self.index);
        self.index += 1;
        let item = seed.deserialize(Node::new(value, &place));
        item.map(Some).map_err(|error| error.at(&place))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

/// A resource's path and value.
pub(super) struct Marked<'de, 'p> {
    path: Option<String>,
    node: Option<Node<'de, 'p>>,
}

impl<'de, 'p> Marked<'de, 'p> {
    pub(super) fn new(path: String, node: Node<'de, 'p>) -> Self {
        Self {
            path: Some(path),
            node: Some(node),
        }
    }
}

impl<'de> SeqAccess<'de> for Marked<'de, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        if let Some(path) = self.path.take() {
            let path: StringDeserializer<Error> = path.into_deserializer();
            return seed.deserialize(path).map(Some);
        }
        match self.node.take() {
            Some(node) => seed.deserialize(node).map(Some),
            None => Ok(None),
        }
    }
}

/// An enum written as an object with one member.
pub(super) struct Variant<'de, 'p> {
    variant: &'de str,
    node: Node<'de, 'p>,
}

impl<'de, 'p> Variant<'de, 'p> {
    pub(super) fn new(variant: &'de str, node: Node<'de, 'p>) -> Self {
        Self { variant, node }
    }
}

impl<'de, 'p> EnumAccess<'de> for Variant<'de, 'p> {
    type Error = Error;
    type Variant = VariantContent<'de, 'p>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self::Variant), Error> {
        let variant = seed.deserialize(BorrowedStrDeserializer::<Error>::new(self.variant))?;
        Ok((variant, VariantContent(self.node)))
    }
}

pub(super) struct VariantContent<'de, 'p>(Node<'de, 'p>);

impl VariantContent<'_, '_> {
    fn place<T>(self, f: impl FnOnce(Self) -> Result<T, Error>) -> Result<T, Error> {
        let place = *self.0.place;
        f(self).map_err(|error| error.at(&place))
    }
}

impl<'de> VariantAccess<'de> for VariantContent<'de, '_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        self.place(|content| <()>::deserialize(content.0))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        self.place(|content| seed.deserialize(content.0))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        self.place(|content| content.0.deserialize_tuple(len, visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.place(|content| content.0.deserialize_struct("", fields, visitor))
    }
}
