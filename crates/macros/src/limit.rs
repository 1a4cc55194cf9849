//! `#[limit(per = "tenant", at_most = 5, per_second = 10, across_processes)]` on a service or a method of one.

use proc_macro2::TokenStream;
use quote::quote;
use syn::meta::ParseNestedMeta;
use syn::{Attribute, Error, Expr, ExprLit, Lit, LitStr, Result};

use crate::signature::Argument;

/// The options of one `#[limit(…)]`.
#[derive(Default)]
pub(crate) struct LimitAttribute {
    per: Option<LitStr>,
    at_most: Option<Expr>,
    per_second: Option<Expr>,
    across_processes: bool,
}

impl LimitAttribute {
    /// Removes the `#[limit(…)]` attributes from others.
    pub(crate) fn take(attributes: &mut Vec<Attribute>) -> Result<Vec<Self>> {
        let limits = attributes.extract_if(.., |attribute| attribute.path().is_ident("limit"));
        limits.map(|attribute| Self::parse(&attribute)).collect()
    }

    fn parse(attribute: &Attribute) -> Result<Self> {
        let mut limit = Self::default();
        attribute.parse_nested_meta(|meta| limit.read(&meta))?;
        if limit.at_most.is_none() && limit.per_second.is_none() {
            let message = "a limit says how many: `#[limit(at_most = 5)]`, `#[limit(per_second = 10)]`, or both";
            return Err(Error::new_spanned(attribute, message));
        }
        Ok(limit)
    }

    fn read(&mut self, meta: &ParseNestedMeta<'_>) -> Result<()> {
        if meta.path.is_ident("per") {
            self.per = Some(meta.value()?.parse()?);
        } else if meta.path.is_ident("at_most") {
            self.at_most = Some(above_zero(meta.value()?.parse()?)?);
        } else if meta.path.is_ident("per_second") {
            self.per_second = Some(above_zero(meta.value()?.parse()?)?);
        } else if meta.path.is_ident("across_processes") {
            self.across_processes = true;
        } else {
            let options = "`#[limit]` knows these options: `per`, `at_most`, `per_second`, `across_processes`";
            return Err(meta.error(options));
        }
        Ok(())
    }

    /// Refuses a key that no method has. `methods`: the arguments of each that it concerns.
    pub(crate) fn check<'a>(&self, methods: impl Iterator<Item = &'a [Argument]>) -> Result<()> {
        self.per.as_ref().map_or(Ok(()), |per| check_argument(per, methods))
    }

    /// An expression of the type `Limit`.
    pub(crate) fn tokens(&self, service: &str, method: Option<&str>) -> TokenStream {
        let option = |value: Option<TokenStream>| match value {
            Some(value) => quote!(::core::option::Option::Some(#value)),
            None => quote!(::core::option::Option::None),
        };
        let method = option(method.map(|name| quote!(#name)));
        let per = option(self.per.as_ref().map(|per| quote!(#per)));
        let at_most = option(self.at_most.as_ref().map(|most| quote!(#most)));
        let per_second = option(self.per_second.as_ref().map(|rate| quote!((#rate) as f64)));
        let across_processes = self.across_processes;
        quote! {
            ::partitura::__private::Limit {
                service: ::core::option::Option::Some(#service),
                method: #method,
                per: #per,
                at_most: #at_most,
                per_second: #per_second,
                across_processes: #across_processes,
            }
        }
    }
}

/// Refuses the path of an argument that no method has.
pub(crate) fn check_argument<'a>(path: &LitStr, methods: impl Iterator<Item = &'a [Argument]>) -> Result<()> {
    let text = path.value();
    let wanted = text.split('.').next().unwrap_or_default();
    let known: Vec<String> = methods.flatten().map(Argument::wire_name).collect();
    if known.iter().any(|name| name == wanted) {
        return Ok(());
    }
    let known: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
    let known = if known.is_empty() { "there is none".to_owned() } else { known.join(", ") };
    Err(Error::new_spanned(path, format!("`per` names an argument, and there is no `{wanted}` here: {known}")))
}

/// Refuses a literal zero. Another expression is evaluated when a worker starts.
pub(crate) fn above_zero(number: Expr) -> Result<Expr> {
    let is_zero = match &number {
        Expr::Lit(ExprLit { lit: Lit::Int(int), .. }) => int.base10_digits() == "0",
        Expr::Lit(ExprLit { lit: Lit::Float(float), .. }) => float.base10_parse::<f64>()? == 0.0,
        _ => false,
    };
    if is_zero {
        return Err(Error::new_spanned(number, "with zero nothing would ever run: write 1 or more"));
    }
    Ok(number)
}
