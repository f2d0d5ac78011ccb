//! What `#[inspect(...)]` says on a type, a field or a variant.

use proc_macro2::Span;
use syn::meta::ParseNestedMeta;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Attribute, Error, Expr, LitStr, Result, Token, WherePredicate};

/// On the type.
#[derive(Default)]
pub(crate) struct TypeAttributes {
    pub(crate) shape: Option<Shape>,
    pub(crate) extra: Option<Expr>,
    pub(crate) bound: Option<Punctuated<WherePredicate, Token![,]>>,
}

/// How a type answers, if not by its fields.
pub(crate) enum Shape {
    Transparent(Span),
    Display,
    Debug,
    Tag(LitStr),
}

/// On a field.
#[derive(Default)]
pub(crate) struct FieldAttributes {
    pub(crate) skip: Option<Span>,
    pub(crate) rename: Option<LitStr>,
    pub(crate) flatten: Option<Span>,
    pub(crate) view: Option<(Span, View)>,
}

/// How a field answers, if not by its own `Inspect`.
pub(crate) enum View {
    Hex,
    Display,
    Debug,
    ByIndex,
    ByKey,
    With(Expr),
    Change(Expr),
}

/// On a variant.
#[derive(Default)]
pub(crate) struct VariantAttributes {
    pub(crate) rename: Option<LitStr>,
}

const ON_TYPE: &str =
    "`extra = \"...\"`, `transparent`, `display`, `debug`, `tag = \"...\"`, `bound = \"...\"`";
const ON_FIELD: &str = "`skip`, `rename = \"...\"`, `flatten`, `hex`, `display`, `debug`, `iter_by_index`, \
                        `iter_by_key`, `with = \"...\"`, `change = \"...\"`";
const ON_VARIANT: &str = "`rename = \"...\"`";

impl TypeAttributes {
    pub(crate) fn parse(attributes: &[Attribute]) -> Result<Self> {
        let mut parsed = Self::default();
        each(attributes, |meta| {
            let span = meta.path.span();
            match name(&meta).as_str() {
                "extra" => once(&mut parsed.extra, span, expression(&meta)?),
                "bound" => {
                    let text: LitStr = meta.value()?.parse()?;
                    let bound = text.parse_with(Punctuated::parse_terminated)?;
                    once(&mut parsed.bound, span, bound)
                }
                "transparent" => once(&mut parsed.shape, span, Shape::Transparent(span)),
                "display" => once(&mut parsed.shape, span, Shape::Display),
                "debug" => once(&mut parsed.shape, span, Shape::Debug),
                "tag" => once(&mut parsed.shape, span, Shape::Tag(meta.value()?.parse()?)),
                other => Err(unknown(span, other, "a type", ON_TYPE)),
            }
        })?;
        Ok(parsed)
    }
}

impl FieldAttributes {
    pub(crate) fn parse(attributes: &[Attribute]) -> Result<Self> {
        let mut parsed = Self::default();
        each(attributes, |meta| {
            let span = meta.path.span();
            let view = match name(&meta).as_str() {
                "skip" => return once(&mut parsed.skip, span, span),
                "flatten" => return once(&mut parsed.flatten, span, span),
                "rename" => return once(&mut parsed.rename, span, meta.value()?.parse()?),
                "hex" => View::Hex,
                "display" => View::Display,
                "debug" => View::Debug,
                "iter_by_index" => View::ByIndex,
                "iter_by_key" => View::ByKey,
                "with" => View::With(expression(&meta)?),
                "change" => View::Change(expression(&meta)?),
                other => return Err(unknown(span, other, "a field", ON_FIELD)),
            };
            once(&mut parsed.view, span, (span, view))
        })?;
        parsed.check()?;
        Ok(parsed)
    }

    fn check(&self) -> Result<()> {
        let refuse = |span, text| Err(Error::new(span, text));
        if let Some(span) = self.skip
            && (self.flatten.is_some() || self.rename.is_some() || self.view.is_some())
        {
            return refuse(
                span,
                "a field that is skipped takes no other `inspect` attribute",
            );
        }
        if let Some(span) = self.flatten {
            if self.rename.is_some() {
                return refuse(
                    span,
                    "`flatten` leaves no level for `rename` to name: use one of them",
                );
            }
            if let Some((span, View::Hex | View::Display | View::Debug | View::Change(_))) =
                self.view
            {
                return refuse(
                    span,
                    "a single value cannot be flattened: drop `flatten`, or use `with`",
                );
            }
        }
        Ok(())
    }
}

impl VariantAttributes {
    pub(crate) fn parse(attributes: &[Attribute]) -> Result<Self> {
        let mut parsed = Self::default();
        each(attributes, |meta| {
            let span = meta.path.span();
            match name(&meta).as_str() {
                "rename" => once(&mut parsed.rename, span, meta.value()?.parse()?),
                other => Err(unknown(span, other, "a variant", ON_VARIANT)),
            }
        })?;
        Ok(parsed)
    }
}

fn each(
    attributes: &[Attribute],
    mut f: impl FnMut(ParseNestedMeta<'_>) -> Result<()>,
) -> Result<()> {
    attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("inspect"))
        .try_for_each(|attribute| attribute.parse_nested_meta(&mut f))
}

fn name(meta: &ParseNestedMeta<'_>) -> String {
    meta.path
        .get_ident()
        .map(ToString::to_string)
        .unwrap_or_default()
}

/// A path or closure, in quotes or without.
fn expression(meta: &ParseNestedMeta<'_>) -> Result<Expr> {
    match meta.value()?.parse()? {
        Expr::Lit(syn::ExprLit {
            lit: syn::Lit::Str(text),
            ..
        }) => text.parse(),
        expression => Ok(expression),
    }
}

fn once<T>(slot: &mut Option<T>, span: Span, value: T) -> Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::new(
            span,
            "this cannot be combined with the `inspect` attribute before it: say one of them, once",
        )),
    }
}

fn unknown(span: Span, name: &str, place: &str, allowed: &str) -> Error {
    Error::new(
        span,
        format!("`{name}` is not an `inspect` attribute of {place}; allowed are {allowed}"),
    )
}
