//! The common part of all methods that are called over the wire: named, owned arguments and a known result.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{
    Error, FnArg, GenericArgument, Ident, LitStr, Pat, PathArguments, Receiver, Result, ReturnType, Signature, Type,
};

use crate::types;

/// An argument by name.
pub(crate) struct Argument {
    pub(crate) name: Ident,
    pub(crate) ty: Type,
}

impl Argument {
    /// The name on the wire, `r#` left off.
    pub(crate) fn wire_name(&self) -> String {
        unraw(&self.name)
    }

    /// Takes it out of `args`.
    pub(crate) fn taken(&self) -> TokenStream {
        let (ty, wire) = (&self.ty, self.wire_name());
        quote!(args.take::<#ty>(#wire)?)
    }
}

/// A name as it is written on the wire.
pub(crate) fn unraw(ident: &Ident) -> String {
    let text = ident.to_string();
    text.strip_prefix("r#").map_or_else(|| text.clone(), str::to_owned)
}

/// The arguments after the receiver.
pub(crate) fn arguments(signature: &Signature) -> Result<Vec<Argument>> {
    let mut arguments = Vec::new();
    for input in &signature.inputs {
        let FnArg::Typed(input) = input else { continue };
        let Pat::Ident(pattern) = &*input.pat else {
            return Err(Error::new_spanned(&input.pat, "arguments travel by name: write `name: Type`"));
        };
        types::check(&input.ty, "arguments")?;
        arguments.push(Argument { name: pattern.ident.clone(), ty: (*input.ty).clone() });
    }
    Ok(arguments)
}

/// Refuses parts of a signature that no method over the wire can have.
pub(crate) fn refuse_generics(signature: &Signature, what: &str) -> Result<()> {
    let generic = signature.generics.params.first().map(ToTokens::to_token_stream);
    let hidden = || {
        signature.inputs.iter().find_map(|input| match input {
            FnArg::Typed(input) if matches!(*input.ty, Type::ImplTrait(_)) => Some(input.ty.to_token_stream()),
            _ => None,
        })
    };
    match generic.or_else(hidden) {
        Some(tokens) => {
            let message = format!("{what} methods are not generic: a message has one type, write it out");
            Err(Error::new_spanned(tokens, message))
        }
        None => Ok(()),
    }
}

/// The receiver, if there is one.
pub(crate) fn receiver(signature: &Signature) -> Option<&Receiver> {
    match signature.inputs.first() {
        Some(FnArg::Receiver(receiver)) => Some(receiver),
        _ => None,
    }
}

/// `&self`.
pub(crate) fn is_shared(receiver: &Receiver) -> bool {
    receiver.reference.is_some() && receiver.mutability.is_none() && receiver.colon_token.is_none()
}

/// `&mut self`.
pub(crate) fn is_exclusive(receiver: &Receiver) -> bool {
    receiver.reference.is_some() && receiver.mutability.is_some() && receiver.colon_token.is_none()
}

/// The return type of a method.
pub(crate) struct Output {
    pub(crate) value: Type,
    /// Of a `Result<T, E>`.
    pub(crate) error: Option<Type>,
}

impl Output {
    /// By its name: a `Result` must show both of its types.
    pub(crate) fn from_signature(signature: &Signature) -> Result<Self> {
        let output = Self::parse(signature)?;
        types::check(&output.value, "results")?;
        output.error.iter().try_for_each(|error| types::check(error, "errors"))?;
        Ok(output)
    }

    fn parse(signature: &Signature) -> Result<Self> {
        let ReturnType::Type(_, ty) = &signature.output else {
            return Ok(Self::plain(syn::parse_quote!(())));
        };
        let Type::Path(path) = &**ty else { return Ok(Self::plain((**ty).clone())) };
        let Some(last) = path.path.segments.last().filter(|segment| segment.ident == "Result") else {
            return Ok(Self::plain((**ty).clone()));
        };
        let types: Vec<&Type> = match &last.arguments {
            PathArguments::AngleBracketed(generic) => generic
                .args
                .iter()
                .filter_map(|argument| match argument {
                    GenericArgument::Type(ty) => Some(ty),
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        };
        match types[..] {
            [value, error] => Ok(Self { value: value.clone(), error: Some(error.clone()) }),
            _ => Err(Error::new_spanned(
                ty,
                "the error type travels too, so it must be known here: write `Result<T, E>` with both types",
            )),
        }
    }

    /// Generates assertions for facts that only the compiler knows: the types can be sent, and none hides a `Result`.
    pub(crate) fn assertions(&self, method: &str) -> TokenStream {
        let travel = self.error.iter().chain([&self.value]).map(travels);
        let is_plain = self.error.is_none().then(|| {
            let (value, span) = (&self.value, self.value.span());
            let message = format!(
                "`{method}` returns a `Result` under another name, which hides its error type from the macro: write \
                 `Result<T, E>` with both types"
            );
            // A literal of the message at the type, so that the error is shown there.
            let message = LitStr::new(&message, span);
            quote_spanned! { span=>
                const _: () = {
                    #[allow(unused_imports)]
                    use ::partitura::__private::NotAResult as _;
                    ::core::assert!(!<::partitura::__private::Shape<#value>>::IS_RESULT, #message);
                };
            }
        });
        quote!(#(#travel)* #is_plain)
    }

    fn plain(value: Type) -> Self {
        Self { value, error: None }
    }
}

/// A statement that asserts that a type can be sent and read again.
pub(crate) fn travels(ty: &Type) -> TokenStream {
    quote_spanned!(ty.span()=> ::partitura::__private::travels::<#ty>();)
}
