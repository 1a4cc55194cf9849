//! `#[batch(max = 100, within_ms = 20)]` on a method of a service.

use proc_macro2::TokenStream;
use quote::quote;
use syn::meta::ParseNestedMeta;
use syn::{Attribute, Error, Expr, GenericArgument, LitStr, PathArguments, Result, ReturnType, Signature, Type};

use crate::limit::{above_zero, check_argument};
use crate::signature::{Argument, Output};

/// A method that takes many calls at once.
pub(crate) struct Batch {
    max: Expr,
    within_ms: Expr,
    per: Option<LitStr>,
    /// Its argument, a `Vec`, and its result, as they are declared.
    argument: Type,
    output: Type,
}

#[derive(Default)]
struct Options {
    max: Option<Expr>,
    within_ms: Option<Expr>,
    per: Option<LitStr>,
}

impl Options {
    fn read(&mut self, meta: &ParseNestedMeta<'_>) -> Result<()> {
        if meta.path.is_ident("max") {
            self.max = Some(above_zero(meta.value()?.parse()?)?);
        } else if meta.path.is_ident("within_ms") {
            self.within_ms = Some(meta.value()?.parse()?);
        } else if meta.path.is_ident("per") {
            self.per = Some(meta.value()?.parse()?);
        } else {
            return Err(meta.error("`#[batch]` knows these options: `max`, `within_ms`, `per`"));
        }
        Ok(())
    }
}

impl Batch {
    /// Removes `#[batch(…)]` from the attributes of a method, and gives the result of one call. `arguments` become
    /// those of one.
    pub(crate) fn take(
        attributes: &mut Vec<Attribute>,
        signature: &Signature,
        arguments: &mut [Argument],
    ) -> Result<Option<(Self, Output)>> {
        let Some(attribute) = attributes.extract_if(.., |attribute| attribute.path().is_ident("batch")).last() else {
            return Ok(None);
        };
        let mut options = Options::default();
        if !matches!(attribute.meta, syn::Meta::Path(_)) {
            attribute.parse_nested_meta(|meta| options.read(&meta))?;
        }
        let Options { max: Some(max), within_ms: Some(within_ms), per } = options else {
            let message = "a batch says how many calls it takes at most, and how long the first of them waits for others: \
                           `#[batch(max = 100, within_ms = 20)]`";
            return Err(Error::new_spanned(attribute, message));
        };
        let argument = match arguments {
            [argument] => element(&argument.ty).cloned().map(|one| std::mem::replace(&mut argument.ty, one)),
            _ => None,
        };
        let Some(argument) = argument else {
            let message = "a batch takes one argument, a `Vec` of what each call brings: write `docs: Vec<Doc>`, and put \
                           several values into a tuple or a struct";
            return Err(Error::new_spanned(&signature.inputs, message));
        };
        let (output, single) = results(signature)?;
        if let Some(per) = &per {
            check_argument(per, [&*arguments].into_iter())?;
        }
        Ok(Some((Self { max, within_ms, per, argument, output }, single)))
    }

    /// The parameter and the result as they are declared.
    pub(crate) fn declaration(&self, arguments: &[Argument]) -> (TokenStream, TokenStream) {
        let (names, Self { argument, output, .. }) = (arguments.iter().map(|argument| &argument.name), self);
        (quote!(#(#names: #argument),*), quote!(#output))
    }

    /// An expression of the type `BatchOptions`.
    pub(crate) fn options(&self) -> TokenStream {
        let Self { max, within_ms, per, .. } = self;
        let per = match per {
            Some(per) => quote!(::core::option::Option::Some(#per)),
            None => quote!(::core::option::Option::None),
        };
        quote! {
            ::partitura::__private::BatchOptions {
                max: #max,
                within: ::core::time::Duration::from_millis(#within_ms),
                per: #per,
            }
        }
    }
}

/// The declared result of a batch, and that of one call.
fn results(signature: &Signature) -> Result<(Type, Output)> {
    let declared = match &signature.output {
        ReturnType::Type(_, ty) => element(ty).map(|one| ((**ty).clone(), one)),
        ReturnType::Default => None,
    };
    let Some((declared, one)) = declared else {
        let message = "a batch returns a result for each call: write `-> Vec<Result<T, E>>`, or `-> Vec<T>`";
        return Err(Error::new_spanned(&signature.ident, message));
    };
    let mut single = signature.clone();
    single.output = syn::parse_quote!(-> #one);
    Ok((declared, Output::from_signature(&single)?))
}

/// The `T` of a `Vec<T>`.
fn element(ty: &Type) -> Option<&Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last().filter(|segment| segment.ident == "Vec")?;
    let PathArguments::AngleBracketed(generic) = &last.arguments else { return None };
    match generic.args.first() {
        Some(GenericArgument::Type(one)) if generic.args.len() == 1 => Some(one),
        _ => None,
    }
}
