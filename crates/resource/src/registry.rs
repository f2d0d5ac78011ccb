//! Which code builds what.

use crate::check::{CheckFields, ReservedKeys};
use crate::context::{ResolveContext, handle_from};
use crate::de;
use crate::document::{self, KindDoc};
use crate::error::{OtherKind, Problem};
use crate::handle::{Failure, ResourceHandle, ResourceKind};
use crate::resource::Resource;
use crate::schema;
use crate::suggest::nearest;
use async_trait::async_trait;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value};
use std::any::{Any, TypeId};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Maps `(kind, id)` to the code that builds it.
///
/// Everything is kept and shown in the order of names, because the order of linking means nothing.
#[derive(Default)]
pub struct ResourceResolver {
    kinds: BTreeMap<&'static str, Kind>,
    shared: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
}

/// What is known of one kind.
pub(crate) struct Kind {
    id: TypeId,
    pub(crate) types: BTreeMap<&'static str, Entry>,
    /// Other kinds whose things can stand where this kind is expected, by name.
    pub(crate) stand_ins: BTreeMap<&'static str, Box<dyn Any + Send + Sync>>,
    /// What to write instead of a thing of another kind, by its name.
    hints: BTreeMap<&'static str, &'static str>,
    pub(crate) reserved: ReservedKeys,
    pub(crate) reserved_schema: fn(&mut SchemaGenerator) -> Schema,
}

/// One type.
pub(crate) struct Entry {
    handle: TypeId,
    handle_name: &'static str,
    /// A `Box<dyn Code<K>>`.
    code: Box<dyn Any + Send + Sync>,
    pub(crate) schema: fn(&mut SchemaGenerator) -> Schema,
    pub(crate) check: CheckFields,
}

/// What [`ResourceResolver::find`] finds.
pub(crate) enum Found<'a, K: ResourceKind> {
    Code(&'a dyn Code<K>),
    StandIn(&'a dyn StandIn<K>),
}

impl ResourceResolver {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Knows every type that is linked into the program and registered with [`register!`](crate::register).
    ///
    /// # Panics
    ///
    /// As [`add`](Self::add), if two linked crates claim the same name.
    pub fn linked() -> Self {
        let mut resolver = Self::new();
        for register in crate::__private::LINKED {
            register(&mut resolver);
        }
        resolver
    }

    /// Adds the type `H` of kind `K`. Adding it again changes nothing.
    ///
    /// # Panics
    ///
    /// If another type of that kind has the same id, if the kind's name belongs to another kind, or if a field of `H` has the
    /// name of a reserved key or is named `type`: mistakes in the program that no description can cause or cure.
    pub fn add<K: ResourceKind, H: ResourceHandle<K>>(&mut self) -> &mut Self {
        let entry = Entry {
            handle: TypeId::of::<H>(),
            handle_name: std::any::type_name::<H>(),
            code: Box::new(Box::new(Typed::<H>(PhantomData)) as Box<dyn Code<K>>),
            schema: H::json_schema,
            check: |fields, path, taken| de::check_map(fields, path, taken, H::check),
        };
        schema::check_fields::<K, H>();
        let known = self.kind_mut::<K>().types.entry(H::ID).or_insert(entry);
        assert!(
            known.handle == TypeId::of::<H>(),
            "two types of {} are named {:?}: {} and {}",
            K::NAME,
            H::ID,
            known.handle_name,
            std::any::type_name::<H>()
        );
        self
    }

    /// Lets a description of kind `F` stand where one of kind `K` is expected, unless `K` has a type of that name itself.
    ///
    /// `input` makes the input of `F` of that of `K`, `output` makes the one thing of the other.
    pub fn add_stand_in<K: ResourceKind, F: ResourceKind>(
        &mut self,
        input: fn(K::Input) -> F::Input,
        output: fn(F::Output) -> K::Output,
    ) -> &mut Self {
        let stand_in: Box<dyn StandIn<K>> = Box::new(Conversion::<K, F> { input, output });
        self.kind_mut::<F>();
        let kind = self.kind_mut::<K>();
        kind.stand_ins.insert(F::NAME, Box::new(stand_in));
        self
    }

    /// Says what to write where a `K` is expected and a type of kind `F` was named: `write {"type": "layered", ...}`.
    pub fn add_hint<K: ResourceKind, F: ResourceKind>(&mut self, hint: &'static str) -> &mut Self {
        self.kind_mut::<K>().hints.insert(F::NAME, hint);
        self
    }

    /// The context in which to [resolve](ResolveContext::resolve) the descriptions of a document.
    ///
    /// `base_dir` is what paths in the document are relative to: the directory of the file that it was read from. Empty: the
    /// working directory.
    pub fn context(&self, base_dir: impl Into<PathBuf>) -> ResolveContext<'_> {
        ResolveContext::new(self, base_dir.into())
    }

    /// The value of type `T` of this resolver: the same one each time, made when it is asked for first.
    pub(crate) fn shared<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        // Nothing is half done where a panic could come from: the default of a `T`.
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let value = shared
            .entry(TypeId::of::<T>())
            .or_insert_with(|| Arc::new(T::default()));
        let value = Arc::clone(value).downcast();
        value.unwrap_or_else(|_| unreachable!("a value is kept under its own type"))
    }

    /// Whether `K` has a type named `id`; stand-ins of other kinds do not count.
    pub fn has<K: ResourceKind>(&self, id: &str) -> bool {
        self.kinds
            .get(K::NAME)
            .is_some_and(|kind| kind.types.contains_key(id))
    }

    /// The JSON schema (draft 2020-12) of everything registered: `$defs` has each kind under its name and each type as
    /// `kind.type`.
    pub fn schema(&self) -> Schema {
        schema::schema(&self.kinds, None)
    }

    /// As [`schema`](Self::schema), for documents of the type `T`, which has descriptions in it.
    pub fn schema_of<T: schemars::JsonSchema>(&self) -> Schema {
        schema::schema(&self.kinds, Some(T::json_schema))
    }

    /// Everything registered, with the documentation of types and keys: what a table in a manual is made of.
    pub fn documentation(&self) -> Vec<KindDoc> {
        document::documentation(&self.kinds)
    }

    pub(crate) fn find<K: ResourceKind>(&self, id: &str) -> Option<Found<'_, K>> {
        let kind = self.kinds.get(K::NAME)?;
        if let Some(entry) = kind.types.get(id) {
            let code = entry.code.downcast_ref::<Box<dyn Code<K>>>();
            return Some(Found::Code(
                code.expect("an entry has the code of its kind").as_ref(),
            ));
        }
        let stand_in = kind
            .stand_ins
            .iter()
            .find(|(name, _)| self.kinds[*name].types.contains_key(id))
            .map(|(_, stand_in)| stand_in.downcast_ref::<Box<dyn StandIn<K>>>())?;
        Some(Found::StandIn(
            stand_in.expect("a kind has its own stand-ins").as_ref(),
        ))
    }

    pub(crate) fn kind(&self, name: &str) -> Option<&Kind> {
        self.kinds.get(name)
    }

    pub(crate) fn unknown_type(&self, kind_name: &'static str, id: String) -> Problem {
        let mut known: Vec<&'static str> = Vec::new();
        let mut other_kind = None;
        if let Some(kind) = self.kinds.get(kind_name) {
            known.extend(kind.types.keys());
            for name in kind.stand_ins.keys() {
                known.extend(self.kinds[name].types.keys());
            }
            let other = self
                .kinds
                .iter()
                .find(|(_, other)| other.types.contains_key(id.as_str()));
            other_kind = other.map(|(&name, _)| OtherKind {
                kind: name,
                hint: kind.hints.get(name).copied(),
            });
        }
        known.sort_unstable();
        known.dedup();
        Problem::UnknownType {
            kind: kind_name,
            suggestion: nearest(&id, known.iter().copied()),
            id,
            known,
            other_kind,
        }
    }

    fn kind_mut<K: ResourceKind>(&mut self) -> &mut Kind {
        let kind = self.kinds.entry(K::NAME).or_insert_with(|| Kind {
            id: TypeId::of::<K>(),
            types: BTreeMap::new(),
            stand_ins: BTreeMap::new(),
            hints: BTreeMap::new(),
            reserved: ReservedKeys::of::<K>(),
            reserved_schema: <K::Reserved as schemars::JsonSchema>::json_schema,
        });
        assert!(
            kind.id == TypeId::of::<K>(),
            "two kinds of resources are named {:?}",
            K::NAME
        );
        kind
    }
}

impl fmt::Debug for ResourceResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = self.kinds.iter();
        f.debug_map()
            .entries(kinds.map(|(name, kind)| (name, kind.types.keys())))
            .finish()
    }
}

/// The code of one type of kind `K`.
#[async_trait]
pub(crate) trait Code<K: ResourceKind>: Send + Sync {
    async fn run(
        &self,
        cx: &ResolveContext<'_>,
        fields: Map<String, Value>,
        taken: Vec<String>,
        input: K::Input,
    ) -> Result<K::Output, Failure>;
}

struct Typed<H>(PhantomData<fn() -> H>);

#[async_trait]
impl<K: ResourceKind, H: ResourceHandle<K>> Code<K> for Typed<H> {
    async fn run(
        &self,
        cx: &ResolveContext<'_>,
        fields: Map<String, Value>,
        taken: Vec<String>,
        input: K::Input,
    ) -> Result<K::Output, Failure> {
        let handle: H = handle_from(cx, fields, &taken)?;
        handle.check(cx.path())?;
        handle.resolve(cx, input).await
    }
}

/// How things of another kind stand where `K` is expected.
#[async_trait]
pub(crate) trait StandIn<K: ResourceKind>: Send + Sync {
    async fn run(
        &self,
        cx: &ResolveContext<'_>,
        id: &str,
        fields: Map<String, Value>,
        taken: Vec<String>,
        input: K::Input,
    ) -> Result<K::Output, Failure>;
}

struct Conversion<K: ResourceKind, F: ResourceKind> {
    input: fn(K::Input) -> F::Input,
    output: fn(F::Output) -> K::Output,
}

#[async_trait]
impl<K: ResourceKind, F: ResourceKind> StandIn<K> for Conversion<K, F> {
    async fn run(
        &self,
        cx: &ResolveContext<'_>,
        id: &str,
        fields: Map<String, Value>,
        taken: Vec<String>,
        input: K::Input,
    ) -> Result<K::Output, Failure> {
        let resource = Resource::<F>::from_parts(id.to_owned(), fields, None);
        let thing = cx
            .resolve_rest(resource, taken, (self.input)(input))
            .await?;
        Ok((self.output)(thing))
    }
}
