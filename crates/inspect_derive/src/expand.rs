//! From the type to its `impl Inspect`.

use crate::attributes::{FieldAttributes, Shape, TypeAttributes, VariantAttributes, View};
use crate::case::snake_case;
use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use std::collections::BTreeSet;
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{
    Data, DataEnum, DeriveInput, Error, Expr, Field, Fields, Ident, Result, WherePredicate,
    parse_quote,
};

/// The whole `impl`, or an error that points at what is wrong.
pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let attributes = TypeAttributes::parse(&input.attrs)?;
    let mut bounds = Bounds::new(input);
    let body = match (&attributes.shape, &input.data) {
        (Some(Shape::Display), _) => {
            bounds.require_all(&quote!(::core::fmt::Display));
            quote!(::inspect::Inspect::inspect(&::inspect::as_display(self), req);)
        }
        (Some(Shape::Debug), _) => {
            bounds.require_all(&quote!(::core::fmt::Debug));
            quote!(::inspect::Inspect::inspect(&::inspect::as_debug(self), req);)
        }
        (Some(Shape::Transparent(span)), Data::Struct(data)) => {
            transparent(*span, &data.fields, &mut bounds)?
        }
        (Some(Shape::Transparent(span)), _) => {
            return Err(Error::new(*span, "`transparent` is for structs"));
        }
        (Some(Shape::Tag(tag)), Data::Struct(_)) => {
            return Err(Error::new(tag.span(), "`tag` is for enums with data"));
        }
        (_, Data::Struct(data)) => parts(&data.fields, &attributes, &mut bounds)?,
        (shape, Data::Enum(data)) => variants(input, shape.as_ref(), data, &mut bounds)?,
        (_, Data::Union(_)) => {
            return Err(Error::new(
                input.ident.span(),
                "`Inspect` cannot be derived for a union: no field is known to be valid",
            ));
        }
    };
    refuse_misplaced_extra(&attributes, input)?;

    let name = &input.ident;
    let mut generics = input.generics.clone();
    let predicates = match attributes.bound {
        Some(bound) => bound.into_iter().collect(),
        None => bounds.predicates,
    };
    if !predicates.is_empty() {
        generics.make_where_clause().predicates.extend(predicates);
    }
    let (impl_generics, type_generics, where_clause) = generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        impl #impl_generics ::inspect::Inspect for #name #type_generics #where_clause {
            fn inspect(&self, req: ::inspect::Request<'_>) {
                #body
            }
        }
    })
}

fn refuse_misplaced_extra(attributes: &TypeAttributes, input: &DeriveInput) -> Result<()> {
    let Some(extra) = &attributes.extra else {
        return Ok(());
    };
    if attributes.shape.is_none() && matches!(input.data, Data::Struct(_)) {
        return Ok(());
    }
    Err(Error::new(
        extra.span(),
        "`extra` adds parts to the fields of a struct; this type does not answer with its fields",
    ))
}

/// A struct with one part for each field.
fn parts(fields: &Fields, attributes: &TypeAttributes, bounds: &mut Bounds) -> Result<TokenStream> {
    let statements = fields
        .iter()
        .enumerate()
        .map(|(index, field)| {
            let member = member(index, field);
            part(index, field, &quote!(&self.#member), bounds)
        })
        .collect::<Result<Vec<_>>>()?;
    let extra = attributes
        .extra
        .iter()
        .map(|extra| quote_spanned!(extra.span()=> (#extra)(self, &mut response);));
    Ok(quote! {
        #[allow(unused_mut, unused_variables)]
        let mut response = req.respond();
        #(#statements)*
        #(#extra)*
    })
}

/// A struct whose only field answers in its place.
fn transparent(span: Span, fields: &Fields, bounds: &mut Bounds) -> Result<TokenStream> {
    let mut shown = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        let attributes = FieldAttributes::parse(&field.attrs)?;
        if attributes.skip.is_none() {
            shown.push((index, field, attributes));
        }
    }
    let [(index, field, attributes)] = &shown[..] else {
        let text = "`transparent` needs exactly one field that is not skipped";
        return Err(Error::new(span, text));
    };
    if let Some(span) = attributes
        .flatten
        .or(attributes.rename.as_ref().map(Spanned::span))
    {
        let text = "the field of a `transparent` struct has no name: drop this attribute";
        return Err(Error::new(span, text));
    }
    let member = member(*index, field);
    Ok(answer(
        field,
        attributes.view.as_ref(),
        &quote!(&self.#member),
        bounds,
    ))
}

/// An enum: a string, or with `tag` an object.
fn variants(
    input: &DeriveInput,
    shape: Option<&Shape>,
    data: &DataEnum,
    bounds: &mut Bounds,
) -> Result<TokenStream> {
    let Some(Shape::Tag(tag)) = shape else {
        return unit_variants(data);
    };
    if data.variants.is_empty() {
        let text = "`tag` needs at least one variant";
        return Err(Error::new(input.ident.span(), text));
    }
    let mut arms = Vec::new();
    for variant in &data.variants {
        let shown = variant_name(&variant.ident, &VariantAttributes::parse(&variant.attrs)?);
        let ident = &variant.ident;
        let mut bindings = Vec::new();
        let mut statements = Vec::new();
        for (index, field) in variant.fields.iter().enumerate() {
            let member = member(index, field);
            let binding = format_ident!("field_{index}", span = field.span());
            statements.push(part(index, field, &quote!(#binding), bounds)?);
            bindings.push(quote!(#member: #binding));
        }
        arms.push(quote! {
            #[allow(unused_variables)]
            Self::#ident { #(#bindings),* } => {
                response.field(#tag, #shown);
                #(#statements)*
            }
        });
    }
    Ok(quote! {
        let mut response = req.respond();
        match self { #(#arms)* }
    })
}

fn unit_variants(data: &DataEnum) -> Result<TokenStream> {
    let mut arms = Vec::new();
    for variant in &data.variants {
        if !matches!(variant.fields, Fields::Unit) {
            return Err(Error::new(
                variant.span(),
                "a variant with data needs `#[inspect(tag = \"...\")]` on the enum: the name of the part that says which \
                 variant it is (or `#[inspect(display)]` or `#[inspect(debug)]`, for one string)",
            ));
        }
        let shown = variant_name(&variant.ident, &VariantAttributes::parse(&variant.attrs)?);
        let ident = &variant.ident;
        arms.push(quote!(Self::#ident => #shown,));
    }
    if arms.is_empty() {
        return Ok(quote!(let _ = req; match *self {}));
    }
    Ok(quote!(req.value(match self { #(#arms)* });))
}

fn variant_name(ident: &Ident, attributes: &VariantAttributes) -> String {
    match &attributes.rename {
        Some(name) => name.value(),
        None => snake_case(&ident.unraw().to_string()),
    }
}

/// The statement that adds a field to `response`.
fn part(
    index: usize,
    field: &Field,
    place: &TokenStream,
    bounds: &mut Bounds,
) -> Result<TokenStream> {
    let attributes = FieldAttributes::parse(&field.attrs)?;
    if attributes.skip.is_some() {
        return Ok(TokenStream::new());
    }
    let answer = answer(field, attributes.view.as_ref(), place, bounds);
    if attributes.flatten.is_some() {
        return Ok(quote!(response.merge_with(|req| { #answer });));
    }
    let name = match (attributes.rename, &field.ident) {
        (Some(name), _) => name.value(),
        (None, Some(ident)) => ident.unraw().to_string(),
        (None, None) => index.to_string(),
    };
    Ok(quote!(response.field_with(#name, |req| { #answer });))
}

/// The statement by which the field at `place` (a reference) answers `req`.
fn answer(
    field: &Field,
    view: Option<&(Span, View)>,
    place: &TokenStream,
    bounds: &mut Bounds,
) -> TokenStream {
    let ty = field.ty.span();
    let Some((span, view)) = view else {
        bounds.require(field, &quote!(::inspect::Inspect));
        return quote_spanned!(ty=> ::inspect::Inspect::inspect(#place, req););
    };
    let object = match view {
        View::Hex => {
            bounds.require(field, &quote!(::core::fmt::LowerHex));
            quote_spanned!(*span=> ::inspect::as_hex(#place))
        }
        View::Display => {
            bounds.require(field, &quote!(::core::fmt::Display));
            quote_spanned!(*span=> ::inspect::as_display(#place))
        }
        View::Debug => {
            bounds.require(field, &quote!(::core::fmt::Debug));
            quote_spanned!(*span=> ::inspect::as_debug(#place))
        }
        View::ByIndex => {
            bounds.require(field, &quote!(::inspect::Inspect));
            quote_spanned!(*span=> ::inspect::iter_by_index(#place))
        }
        View::ByKey => {
            bounds.require(field, &quote!(::inspect::Inspect));
            quote_spanned!(*span=> ::inspect::iter_by_key(#place))
        }
        View::With(f) => {
            quote_spanned!(f.span()=> ::inspect::__private::apply(#place, #f))
        }
        View::Change(f) => return change(f, place),
    };
    quote_spanned!(*span=> ::inspect::Inspect::inspect(&#object, req);)
}

fn change(f: &Expr, place: &TokenStream) -> TokenStream {
    quote_spanned! {f.span()=>
        req.value_mut_with(|new| ::inspect::__private::apply_change(#place, new, #f));
    }
}

fn member(index: usize, field: &Field) -> TokenStream {
    match &field.ident {
        Some(ident) => ident.to_token_stream(),
        None => syn::Index::from(index).to_token_stream(),
    }
}

/// The bounds on type parameters that the fields shown make necessary.
struct Bounds {
    parameters: Vec<Ident>,
    predicates: Vec<WherePredicate>,
    seen: BTreeSet<String>,
}

impl Bounds {
    fn new(input: &DeriveInput) -> Self {
        Self {
            parameters: input
                .generics
                .type_params()
                .map(|parameter| parameter.ident.clone())
                .collect(),
            predicates: Vec::new(),
            seen: BTreeSet::new(),
        }
    }

    /// Requires `bound` of the parameters that the field's type mentions.
    fn require(&mut self, field: &Field, bound: &TokenStream) {
        let mut mentioned = BTreeSet::new();
        collect_idents(field.ty.to_token_stream(), &mut mentioned);
        for parameter in self.parameters.clone() {
            if mentioned.contains(&parameter.to_string()) {
                self.add(&parameter, bound);
            }
        }
    }

    fn require_all(&mut self, bound: &TokenStream) {
        for parameter in self.parameters.clone() {
            self.add(&parameter, bound);
        }
    }

    fn add(&mut self, parameter: &Ident, bound: &TokenStream) {
        let predicate: WherePredicate = parse_quote!(#parameter: #bound);
        if self.seen.insert(predicate.to_token_stream().to_string()) {
            self.predicates.push(predicate);
        }
    }
}

fn collect_idents(tokens: TokenStream, idents: &mut BTreeSet<String>) {
    for token in tokens {
        match token {
            proc_macro2::TokenTree::Ident(ident) => {
                idents.insert(ident.to_string());
            }
            proc_macro2::TokenTree::Group(group) => collect_idents(group.stream(), idents),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
