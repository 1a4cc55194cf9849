//! Methods of a workflow that are called by messages to an instance.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, Error, Ident, ImplItemFn, Path, Result, ReturnType, Signature, Type};

use crate::attributes::{UpdateAttribute, method_name};
use crate::signature::{Argument, Output, arguments, is_exclusive, is_shared, receiver, refuse_generics, unraw};
use crate::types;

/// A signal, an update or a query.
pub(crate) struct Handler {
    pub(crate) name: Ident,
    pub(crate) wire_name: String,
    pub(crate) arguments: Vec<Argument>,
    /// Of a query.
    pub(crate) answer: Option<Type>,
    /// Of an update.
    pub(crate) output: Option<Output>,
    /// It may wait, and takes the context in place of `self`.
    pub(crate) is_async: bool,
    /// Of an update.
    validator: Option<Path>,
    documentation: Vec<Attribute>,
}

impl Handler {
    pub(crate) fn signal(attribute: &Attribute, method: &ImplItemFn) -> Result<Self> {
        let signature = &method.sig;
        check_shape(
            signature,
            "`#[signal]` methods take `&mut self` and note what happened, for the code in `#[run]` to act on it: write `#[signal] fn \
             packed(&mut self)`. One that waits takes the context: `#[signal] async fn packed(cx: Cx<Self>)`",
        )?;
        if let ReturnType::Type(_, ty) = &signature.output {
            return Err(Error::new_spanned(
                ty,
                "`#[signal]` methods return nothing: nobody waits for an answer to a signal; change the state, and let a `#[query]` \
                 read it",
            ));
        }
        Self::parse(method_name(attribute, "signal")?, method, "signal")
    }

    pub(crate) fn update(attribute: &Attribute, method: &ImplItemFn) -> Result<Self> {
        const SHAPE: &str = "write `#[update] fn add(&mut self, item: Item) -> Result<T, E>`";
        let signature = &method.sig;
        check_shape(
            signature,
            &format!(
                "`#[update]` methods take `&mut self`: {SHAPE}. One that waits takes the context: `#[update] async fn add(cx: Cx<Self>, \
                 item: Item) -> Result<T, E>`"
            ),
        )?;
        let UpdateAttribute { name, validator } = UpdateAttribute::parse(attribute)?;
        let output = Output::from_signature(signature)?;
        if let (Some(validator), None) = (&validator, &output.error) {
            return Err(Error::new_spanned(
                validator,
                format!("an update with a validator returns a `Result`, whose error the validator gives: {SHAPE}"),
            ));
        }
        let handler = Self::parse(name, method, "update")?;
        Ok(Self { output: Some(output), validator, ..handler })
    }

    pub(crate) fn query(attribute: &Attribute, method: &ImplItemFn) -> Result<Self> {
        let signature = &method.sig;
        let receiver = receiver(signature);
        if signature.asyncness.is_some() || !receiver.is_some_and(is_shared) {
            return Err(Error::new_spanned(
                signature,
                "`#[query]` methods are synchronous and take `&self`: a query must not change the instance",
            ));
        }
        if matches!(signature.output, ReturnType::Default) {
            return Err(Error::new(
                signature.ident.span(),
                "`#[query]` methods return what was asked for: write `-> R`",
            ));
        }
        let handler = Self::parse(method_name(attribute, "query")?, method, "query")?;
        let answer = match &signature.output {
            ReturnType::Default => None,
            ReturnType::Type(_, ty) => {
                types::check(ty, "answers")?;
                Some((**ty).clone())
            }
        };
        Ok(Self { answer, ..handler })
    }

    fn parse(wire_name: Option<String>, method: &ImplItemFn, role: &str) -> Result<Self> {
        let signature = &method.sig;
        refuse_generics(signature, &format!("`#[{role}]`"))?;
        let (is_async, mut arguments) = (signature.asyncness.is_some(), arguments(signature)?);
        if is_async {
            // The context.
            arguments.remove(0);
        }
        Ok(Self {
            name: signature.ident.clone(),
            wire_name: wire_name.unwrap_or_else(|| unraw(&signature.ident)),
            arguments,
            is_async,
            answer: None,
            output: None,
            validator: None,
            documentation: method.attrs.iter().filter(|attribute| attribute.path().is_ident("doc")).cloned().collect(),
        })
    }

    /// The types that have to be sent for it.
    pub(crate) fn sent(&self) -> impl Iterator<Item = &Type> {
        self.arguments.iter().map(|argument| &argument.ty).chain(&self.answer)
    }

    /// Of an update: facts about its result that only the compiler knows.
    pub(crate) fn assertions(&self) -> Option<TokenStream> {
        self.output.as_ref().map(|output| output.assertions(&self.name.to_string()))
    }

    /// The types of an update's value and error.
    pub(crate) fn parts(&self) -> (TokenStream, TokenStream) {
        self.output.as_ref().map(Output::parts).unwrap_or_default()
    }

    /// The arm that applies the update.
    pub(crate) fn update_arm(&self) -> TokenStream {
        let (wire_name, call, (value, error)) = (&self.wire_name, self.call(), self.parts());
        let (returned, describe) = match &self.output {
            Some(Output { error: Some(_), .. }) => (call, describe(&error)),
            _ => (quote!(::core::result::Result::Ok(#call)), quote!(::std::string::ToString::to_string)),
        };
        quote!(#wire_name => {
            let returned: ::core::result::Result<#value, #error> = #returned;
            ::core::result::Result::Ok(::partitura::__private::answer(#wire_name, &returned, #describe))
        })
    }

    /// The arm that reads the arguments of the update, and asks its validator.
    pub(crate) fn check_arm(&self) -> TokenStream {
        let (wire_name, (_, error)) = (&self.wire_name, self.parts());
        let names: Vec<&Ident> = self.arguments.iter().map(|argument| &argument.name).collect();
        let takes = self.arguments.iter().map(Argument::taken);
        let checked = self.validator.as_ref().map(|validator| {
            let describe = describe(&error);
            quote! {
                let checked: ::core::result::Result<(), #error> = #validator(self, #(&#names),*);
                if let ::core::result::Result::Err(error) = checked {
                    let failure = ::partitura::__private::Failure::application(&error, (#describe)(&error));
                    return ::core::result::Result::Err(::partitura::__private::UpdateRefusal::Invalid(failure));
                }
            }
        });
        quote!(#wire_name => {
            let mut args = ::partitura::__private::DecodeArgs::new(payload)?;
            let (#(#names,)*) = (#(#takes,)*);
            #checked
            ::core::result::Result::Ok(())
        })
    }

    /// The arm that begins a signal or an update that waits.
    pub(crate) fn begin_arm(&self, ty: &Type) -> TokenStream {
        let (name, wire_name) = (&self.name, &self.wire_name);
        let takes = self.arguments.iter().map(Argument::taken);
        let answer = match &self.output {
            None => quote!(handler.await; ::core::result::Result::Ok(::partitura::__private::Payload::null())),
            Some(output) => {
                let (value, error) = output.parts();
                let (returned, describe) = match output.error {
                    Some(_) => (quote!(handler.await), describe(&error)),
                    None => {
                        (quote!(::core::result::Result::Ok(handler.await)), quote!(::std::string::ToString::to_string))
                    }
                };
                quote! {
                    let returned: ::core::result::Result<#value, #error> = #returned;
                    ::partitura::__private::answer(#wire_name, &returned, #describe)
                }
            }
        };
        quote!(#wire_name => {
            let mut args = ::partitura::__private::DecodeArgs::new(payload)?;
            let handler = <#ty>::#name(::core::clone::Clone::clone(cx), #(#takes),*);
            ::core::result::Result::Ok(::core::option::Option::Some(::std::boxed::Box::pin(async move { #answer })))
        })
    }

    /// Calls the method with arguments out of `payload`.
    pub(crate) fn call(&self) -> TokenStream {
        let name = &self.name;
        let takes = self.arguments.iter().map(Argument::taken);
        if self.arguments.is_empty() {
            return quote!(self.#name());
        }
        quote!({
            let mut args = ::partitura::__private::DecodeArgs::new(payload)?;
            self.#name(#(#takes),*)
        })
    }

    pub(crate) fn documentation(&self, otherwise: &str) -> TokenStream {
        match &self.documentation[..] {
            [] => quote!(#[doc = #otherwise]),
            own => quote!(#(#own)*),
        }
    }
}

/// A handler takes `&mut self`, or it is async and takes the context.
fn check_shape(signature: &Signature, otherwise: &str) -> Result<()> {
    let receiver = receiver(signature);
    let fits = match signature.asyncness {
        Some(_) => receiver.is_none() && !signature.inputs.is_empty(),
        None => receiver.is_some_and(is_exclusive),
    };
    if fits { Ok(()) } else { Err(Error::new_spanned(signature, otherwise)) }
}

/// A closure that describes an error for people.
pub(crate) fn describe(error: &TokenStream) -> TokenStream {
    quote!(|error: &#error| {
        #[allow(unused_imports)]
        use ::partitura::__private::{DescribeByDebug as _, DescribeByDisplay as _, DescribeByType as _};
        (&&&::partitura::__private::Describe(error)).describe()
    })
}
