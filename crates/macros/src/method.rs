//! A method of a service: what its trait, its stub and its wrapper have of it.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{Attribute, Error, Ident, Result, TraitItem, TraitItemFn, Visibility};

use crate::attributes::TaskAttribute;
use crate::batch::Batch;
use crate::limit::LimitAttribute;
use crate::signature::{Argument, Output, arguments, is_shared, receiver, refuse_generics, unraw};

pub(crate) struct Method {
    documentation: Vec<Attribute>,
    attributes: Vec<Attribute>,
    pub(crate) name: Ident,
    pub(crate) wire_name: String,
    /// Those of one call.
    pub(crate) arguments: Vec<Argument>,
    /// That of one call.
    pub(crate) output: Output,
    task: TaskAttribute,
    pub(crate) limits: Vec<LimitAttribute>,
    pub(crate) batch: Option<Batch>,
}

impl Method {
    pub(crate) fn parse(item: TraitItem) -> Result<Self> {
        let TraitItem::Fn(TraitItemFn { mut attrs, sig, default, .. }) = item else {
            return Err(Error::new_spanned(item, "a service has async methods, nothing else"));
        };
        if sig.asyncness.is_none() {
            let name = &sig.ident;
            let message = format!("`#[service]` methods are async: write `async fn {name}(&self, …) -> Result<T, E>;`");
            return Err(Error::new_spanned(&sig, message));
        }
        if let Some(body) = default {
            return Err(Error::new_spanned(body, "`#[service]` methods have no body: implementations give it"));
        }
        refuse_generics(&sig, "`#[service]`")?;
        match receiver(&sig) {
            Some(receiver) if is_shared(receiver) => {}
            found => {
                let tokens = found.map_or_else(|| sig.ident.to_token_stream(), ToTokens::to_token_stream);
                return Err(Error::new_spanned(
                    tokens,
                    "`#[service]` methods take `&self`: one implementation serves many calls at once",
                ));
            }
        }
        let task = TaskAttribute::take(&mut attrs)?;
        let limits = LimitAttribute::take(&mut attrs)?;
        let mut arguments = arguments(&sig)?;
        let batch = Batch::take(&mut attrs, &sig, &mut arguments)?;
        let (batch, output) = match batch {
            Some((batch, output)) => (Some(batch), output),
            None => (None, Output::from_signature(&sig)?),
        };
        if let (Some(path), None) = (&task.retry_if, &output.error) {
            return Err(Error::new_spanned(
                path,
                "`retry_if` looks at the method's error, so it returns a `Result<T, E>`",
            ));
        }
        limits.iter().try_for_each(|limit| limit.check([&*arguments].into_iter()))?;
        let (documentation, attributes) = attrs.into_iter().partition(|attribute| attribute.path().is_ident("doc"));
        let wire_name = task.name.clone().unwrap_or_else(|| unraw(&sig.ident));
        Ok(Self { documentation, attributes, wire_name, arguments, output, task, limits, batch, name: sig.ident })
    }

    /// Its declaration, with a future that is `Send`.
    pub(crate) fn declaration(&self) -> TokenStream {
        let Self { documentation, attributes, name, arguments, batch, .. } = self;
        let (parameters, output) = match batch {
            Some(batch) => batch.declaration(arguments),
            None => {
                let parameters = arguments.iter().map(Argument::parameter);
                (quote!(#(#parameters),*), self.output.tokens())
            }
        };
        quote! {
            #(#documentation)* #(#attributes)*
            fn #name(&self, #parameters)
                -> impl ::core::future::Future<Output = #output> + ::core::marker::Send;
        }
    }

    /// Its stub.
    pub(crate) fn stub(&self, vis: &Visibility, service: &str) -> TokenStream {
        let Self { documentation, name, wire_name, arguments, .. } = self;
        let parameters = arguments.iter().map(Argument::parameter);
        let (value, error) = self.output.parts();
        let args = encode(arguments);
        let options = self.options();
        let generated = format!("The task `{wire_name}` of the service `{service}`.");
        let documentation =
            if documentation.is_empty() { quote!(#[doc = #generated]) } else { quote!(#(#documentation)*) };
        quote! {
            #documentation
            #[allow(clippy::too_many_arguments)]
            #vis fn #name(&self, #(#parameters),*) -> ::partitura::__private::Task<#value, #error> {
                self.caller.task(#service, #wire_name, #args, #options)
            }
        }
    }

    pub(crate) fn info(&self) -> TokenStream {
        let (name, options) = (&self.wire_name, self.options());
        quote!(::partitura::__private::MethodInfo { name: #name, options: || #options })
    }

    fn options(&self) -> TokenStream {
        if self.task.options.is_empty() {
            return quote!(::core::default::Default::default());
        }
        let options = self.task.options.iter().map(|(name, value)| quote!(#name: #value));
        quote!(::partitura::__private::TaskOptions { #(#options,)* ..::core::default::Default::default() })
    }

    /// The arm of `call` for this method.
    pub(crate) fn call(&self, service_trait: &Ident, service: &str) -> TokenStream {
        let Self { name, wire_name, arguments, .. } = self;
        if self.batch.is_some() {
            return quote! {
                #wire_name => {
                    let __answers = ::partitura::__private::Service::call_batch(self, method, ::std::vec![args]).await;
                    __answers.into_iter().next().unwrap_or_else(|| {
                        ::core::result::Result::Err(::partitura::__private::TaskFailure::unencodable("no answer"))
                    })
                }
            };
        }
        let what = format!("{service}.{wire_name}: {{}}");
        let names: Vec<_> = arguments.iter().map(|argument| &argument.name).collect();
        let takes =
            arguments.iter().map(|Argument { name, ty }| (name, ty)).zip(arguments).map(|((name, ty), argument)| {
                let wire = argument.wire_name();
                quote!(let #name: #ty = __args.take(#wire).map_err(__unknown)?;)
            });
        let answer = self.answer(&quote!(<T as #service_trait>::#name(&self.0, #(#names),*).await), service);
        quote! {
            #wire_name => {
                let __unknown = |error: ::partitura::__private::PayloadError| {
                    ::partitura::__private::TaskFailure::unknown(::std::format!(#what, error))
                };
                #[allow(unused_mut, unused_variables)]
                let mut __args = ::partitura::__private::DecodeArgs::new(&args).map_err(__unknown)?;
                #(#takes)*
                #answer
            }
        }
    }

    /// Turns a result, an expression of the type `Result<Payload, TaskFailure>`, into the answer.
    pub(crate) fn answer(&self, called: &TokenStream, service: &str) -> TokenStream {
        let what = format!("{service}.{}: {{}}", self.wire_name);
        let answer = quote!(
            ::partitura::__private::Payload::encode(&__value)
                .map_err(|error| { ::partitura::__private::TaskFailure::unencodable(::std::format!(#what, error)) })
        );
        if self.output.error.is_none() {
            let value = &self.output.value;
            return quote! { let __value: #value = #called; #answer };
        }
        let output = self.output.tokens();
        let retryable = match &self.task.retry_if {
            Some(predicate) => {
                quote!(::core::option::Option::Some(::partitura::__private::verdict(&__error, #predicate)))
            }
            None => quote!((&&::partitura::__private::Verdict(&__error)).is_transient()),
        };
        quote! {
            let __result: #output = #called;
            match __result {
                ::core::result::Result::Ok(__value) => #answer,
                ::core::result::Result::Err(__error) => {
                    let __message = (&&&::partitura::__private::Describe(&__error)).describe();
                    ::core::result::Result::Err(::partitura::__private::TaskFailure {
                        failure: ::partitura::__private::Failure::application(&__error, __message),
                        retryable: #retryable,
                    })
                }
            }
        }
    }
}

/// The arguments as a payload, an expression of type `Result<Payload, PayloadError>`.
pub(crate) fn encode(arguments: &[Argument]) -> TokenStream {
    let args = arguments.iter().map(|argument| {
        let (name, wire) = (&argument.name, argument.wire_name());
        quote!(.arg(#wire, &#name))
    });
    quote!(::partitura::__private::EncodeArgs::default() #(#args)* .finish())
}

/// The traits by which generated code looks at an error.
pub(crate) fn traits_of_errors() -> TokenStream {
    quote! {
        #[allow(unused_imports)]
        use ::partitura::__private::{DescribeByDebug as _, DescribeByDisplay as _, DescribeByType as _};
        #[allow(unused_imports)]
        use ::partitura::__private::{NoVerdict as _, VerdictOfType as _};
    }
}
