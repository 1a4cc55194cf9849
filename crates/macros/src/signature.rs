//! What all methods that are called over the wire have in common: named, owned arguments and a known result.

use quote::ToTokens;
use syn::{Error, FnArg, GenericArgument, Ident, Pat, PathArguments, Receiver, Result, ReturnType, Signature, Type};

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
        if borrows(&input.ty) {
            return Err(Error::new_spanned(
                &input.ty,
                "arguments travel over the broker, so they are owned: write `String` for `&str`, `Vec<T>` for `&[T]`, `T` for `&T`",
            ));
        }
        arguments.push(Argument { name: pattern.ident.clone(), ty: (*input.ty).clone() });
    }
    Ok(arguments)
}

/// Refuses what no method over the wire can have.
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

/// What a method returns.
pub(crate) struct Output {
    pub(crate) value: Type,
    /// Of a `Result<T, E>`.
    pub(crate) error: Option<Type>,
}

impl Output {
    /// By its name: a `Result` must show both of its types.
    pub(crate) fn of(signature: &Signature) -> Result<Self> {
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

    fn plain(value: Type) -> Self {
        Self { value, error: None }
    }
}

fn borrows(ty: &Type) -> bool {
    match ty {
        Type::Reference(_) => true,
        Type::Paren(inner) => borrows(&inner.elem),
        Type::Tuple(tuple) => tuple.elems.iter().any(borrows),
        Type::Path(path) => path.path.segments.iter().any(|segment| match &segment.arguments {
            PathArguments::AngleBracketed(generic) => generic.args.iter().any(|argument| match argument {
                GenericArgument::Type(ty) => borrows(ty),
                _ => false,
            }),
            _ => false,
        }),
        _ => false,
    }
}
