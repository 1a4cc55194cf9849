use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote};
use syn::{Attribute, Error, FnArg, Ident, ImplItem, ImplItemFn, ItemImpl, Result, ReturnType, Signature, Type};

use crate::attributes::{WorkflowAttribute, check_distinct};
use crate::errors::Errors;
use crate::handler::{Handler, describe};
use crate::method::encode;
use crate::signature::{Argument, Output, receiver, refuse_generics, travels};
use crate::{retries, types};

pub(crate) fn expand(attributes: TokenStream, item: TokenStream) -> TokenStream {
    let mut item: ItemImpl = match syn::parse2(item) {
        Ok(item) => item,
        Err(error) => {
            let message = format!("`#[workflow]` goes on the `impl` block of the workflow's type ({error})");
            return Error::new(error.span(), message).into_compile_error();
        }
    };
    let generated = match Workflow::parse(attributes, &mut item) {
        Ok(workflow) => workflow.expand(),
        Err(error) => error.into_compile_error(),
    };
    quote! { #item #generated }
}

struct Workflow {
    ty: Type,
    ident: Ident,
    wire_name: String,
    stated: WorkflowAttribute,
    run: Run,
    signals: Vec<Handler>,
    updates: Vec<Handler>,
    queries: Vec<Handler>,
}

struct Run {
    name: Ident,
    input: Option<Type>,
    output: Type,
    error: Type,
}

impl Workflow {
    /// Reads the block and removes our attributes from it, also if the block has an error.
    fn parse(attributes: TokenStream, item: &mut ItemImpl) -> Result<Self> {
        let mut errors = Errors::default();
        let mut runs = Vec::new();
        let (mut signals, mut updates, mut queries) = (Vec::new(), Vec::new(), Vec::new());
        for item in &mut item.items {
            let ImplItem::Fn(method) = item else { continue };
            let (span, roles) = (method.sig.ident.span(), take_roles(method));
            match roles.as_slice() {
                [] => {}
                [Role::Run] => runs.extend(errors.check(Run::parse(&method.sig)).map(|run| (span, run))),
                [Role::Signal(attribute)] => signals.extend(errors.check(Handler::signal(attribute, method))),
                [Role::Update(attribute)] => updates.extend(errors.check(Handler::update(attribute, method))),
                [Role::Query(attribute)] => queries.extend(errors.check(Handler::query(attribute, method))),
                _ => {
                    errors.add(Error::new(span, "a method is one of `#[run]`, `#[signal]`, `#[update]` and `#[query]`"))
                }
            }
        }
        let ident = errors.check(type_name(item));
        let stated = ident.as_ref().and_then(|ident| errors.check(WorkflowAttribute::parse(attributes, ident)));
        for (handlers, role) in [(&signals, "signal"), (&updates, "update"), (&queries, "query")] {
            let names = handlers.iter().map(|handler: &Handler| (&handler.name, handler.wire_name.as_str()));
            errors.check(check_distinct(names, role));
        }
        if let Some((span, _)) = runs.get(1) {
            errors.add(Error::new(*span, "a workflow has one `#[run]` method; this is the second"));
        } else if runs.is_empty() && errors.is_empty() {
            errors.add(Error::new_spanned(
                &item.self_ty,
                "a workflow has one `#[run]` method: write `#[run] async fn run(cx: Cx<Self>, input: I) -> Result<T, E>`",
            ));
        }
        errors.finish()?;
        let (Some(ident), Some(stated), Some((_, run))) = (ident, stated, runs.pop()) else {
            return Err(Error::new_spanned(&item.self_ty, "`#[workflow]` could not read this block"));
        };
        let wire_name = stated.name.clone();
        Ok(Self { ty: (*item.self_ty).clone(), ident, wire_name, stated, run, signals, updates, queries })
    }

    fn expand(&self) -> TokenStream {
        let (implementation, signals) = (self.implementation(), self.signals());
        let (updates, queries) = (self.updates(), self.queries());
        quote! { #implementation #signals #updates #queries }
    }

    fn implementation(&self) -> TokenStream {
        let Self { ty, wire_name, run: Run { name, input, output, error }, .. } = self;
        let (input, argument) = match input {
            Some(input) => (quote!(#input), quote!(, input)),
            None => (quote!(()), quote!()),
        };
        let input_type: Type = syn::parse_quote!(#input);
        let sent = [&input_type, output, error].into_iter();
        let sent = sent
            .chain(self.signals.iter().chain(&self.updates).chain(&self.queries).flat_map(Handler::sent))
            .map(travels);
        let hidden = self.updates.iter().filter_map(Handler::assertions);
        let (update_methods, described) = (self.update_methods(), describe(&quote!(#error)));
        let retry_methods = retries::methods(self.stated.retry.as_ref(), self.stated.retry_if.as_ref());
        let version = self.stated.version.as_ref().map(|version| quote!(const VERSION: u32 = #version;));
        let (begin_signal, begin_update) =
            (self.begin_method("begin_signal", &self.signals), self.begin_method("begin_update", &self.updates));
        let signal_names = self.signals.iter().map(|handler| &handler.wire_name);
        let query_names: Vec<_> = self.queries.iter().map(|handler| &handler.wire_name).collect();
        let signals = self.signals.iter().filter(|handler| !handler.is_async).map(|handler| {
            let call = handler.call();
            let wire_name = &handler.wire_name;
            quote!(#wire_name => { #call; ::core::result::Result::Ok(true) })
        });
        let queries = self.queries.iter().map(|handler| {
            let call = handler.call();
            let wire_name = &handler.wire_name;
            quote!(#wire_name => ::core::result::Result::Ok(::partitura::__private::Payload::encode(&#call)?),)
        });
        quote! {
            #[automatically_derived]
            impl ::partitura::__private::Workflow for #ty {
                const NAME: &'static str = #wire_name;
                #version
                type Input = #input;
                type Output = #output;
                type Error = #error;

                #[allow(unused_variables)]
                fn run(cx: ::partitura::__private::Cx<Self>, input: Self::Input)
                    -> impl ::core::future::Future<Output = ::core::result::Result<Self::Output, Self::Error>>
                        + ::core::marker::Send
                {
                    #(#sent)*
                    #(#hidden)*
                    <#ty>::#name(cx #argument)
                }

                #[allow(unused_variables, unused_mut)]
                fn signal(&mut self, name: &str, payload: &::partitura::__private::Payload)
                    -> ::core::result::Result<bool, ::partitura::__private::PayloadError>
                {
                    match name {
                        #(#signals)*
                        _ => ::core::result::Result::Ok(false),
                    }
                }

                #[allow(unused_variables, unused_mut)]
                fn query(&self, name: &str, payload: &::partitura::__private::Payload)
                    -> ::core::result::Result<::partitura::__private::Payload, ::partitura::__private::QueryError>
                {
                    match name {
                        #(#queries)*
                        unknown => ::core::result::Result::Err(::partitura::__private::QueryError::Unknown {
                            workflow: ::std::string::String::from(#wire_name),
                            query: ::std::string::String::from(unknown),
                            known: ::std::vec![#(::std::string::String::from(#query_names)),*],
                        }),
                    }
                }

                #begin_signal
                #begin_update
                #update_methods
                #retry_methods

                fn describe(error: &Self::Error) -> ::std::string::String {
                    (#described)(error)
                }

                fn signals() -> &'static [&'static str] {
                    &[#(#signal_names),*]
                }

                fn queries() -> &'static [&'static str] {
                    &[#(#query_names),*]
                }
            }
        }
    }

    /// Constructors for those who send signals.
    fn signals(&self) -> TokenStream {
        let ty = &self.ty;
        let constructors = self.signals.iter().map(|handler| {
            let Handler { name, wire_name, arguments, .. } = handler;
            let documentation = handler.documentation(&format!("The signal `{wire_name}`."));
            let (parameters, args) = (arguments.iter().map(Argument::parameter), encode(arguments));
            quote! {
                #documentation
                pub fn #name(#(#parameters),*) -> ::partitura::__private::Signal<#ty> {
                    ::partitura::__private::Signal::new(#wire_name, #args)
                }
            }
        });
        self.constructors("Signal", "signals", constructors.collect())
    }

    /// The methods that check and apply updates, if there are any.
    fn update_methods(&self) -> Option<TokenStream> {
        let names = self.updates.iter().map(|handler| &handler.wire_name);
        let (checks, updates) = (
            self.updates.iter().map(Handler::check_arm),
            self.updates.iter().filter(|handler| !handler.is_async).map(Handler::update_arm),
        );
        let unknown = quote! {
            unknown => ::core::result::Result::Err(::partitura::__private::unknown_update::<Self>(unknown)),
        };
        let methods = quote! {
            #[allow(unused_variables, unused_mut)]
            fn check_update(&self, name: &str, payload: &::partitura::__private::Payload)
                -> ::core::result::Result<(), ::partitura::__private::UpdateRefusal>
            {
                match name { #(#checks)* #unknown }
            }

            #[allow(unused_variables, unused_mut)]
            fn update(&mut self, name: &str, payload: &::partitura::__private::Payload)
                -> ::core::result::Result<::partitura::__private::Answer, ::partitura::__private::UpdateRefusal>
            {
                match name { #(#updates)* #unknown }
            }

            fn updates() -> &'static [&'static str] {
                &[#(#names),*]
            }
        };
        (!self.updates.is_empty()).then_some(methods)
    }

    /// The method that begins handlers that wait, if there are any.
    fn begin_method(&self, name: &str, handlers: &[Handler]) -> Option<TokenStream> {
        let name = format_ident!("{name}");
        let begins: Vec<_> =
            handlers.iter().filter(|handler| handler.is_async).map(|handler| handler.begin_arm(&self.ty)).collect();
        let method = quote! {
            #[allow(unused_variables, unused_mut)]
            fn #name(
                cx: &::partitura::__private::Cx<Self>,
                name: &str,
                payload: &::partitura::__private::Payload,
            ) -> ::core::result::Result<
                ::core::option::Option<::partitura::__private::HandlerFuture>,
                ::partitura::__private::PayloadError,
            > {
                match name {
                    #(#begins)*
                    _ => ::core::result::Result::Ok(::core::option::Option::None),
                }
            }
        };
        (!begins.is_empty()).then_some(method)
    }

    /// Constructors for those who change an instance and want an answer.
    fn updates(&self) -> TokenStream {
        let ty = &self.ty;
        let constructors = self.updates.iter().map(|handler| {
            let Handler { name, wire_name, arguments, .. } = handler;
            let documentation = handler.documentation(&format!("The update `{wire_name}`."));
            let (parameters, args) = (arguments.iter().map(Argument::parameter), encode(arguments));
            let (value, error) = handler.parts();
            quote! {
                #documentation
                pub fn #name(#(#parameters),*) -> ::partitura::__private::Update<#ty, #value, #error> {
                    ::partitura::__private::Update::new(#wire_name, #args)
                }
            }
        });
        self.constructors("Update", "updates", constructors.collect())
    }

    /// Constructors for those who ask.
    fn queries(&self) -> TokenStream {
        let ty = &self.ty;
        let constructors = self.queries.iter().map(|handler| {
            let Handler { name, wire_name, arguments, answer, .. } = handler;
            let documentation = handler.documentation(&format!("The query `{wire_name}`."));
            let (parameters, args) = (arguments.iter().map(Argument::parameter), encode(arguments));
            quote! {
                #documentation
                pub fn #name(#(#parameters),*) -> ::partitura::__private::Query<#ty, #answer> {
                    ::partitura::__private::Query::new(#wire_name, #args)
                }
            }
        });
        self.constructors("Query", "queries", constructors.collect())
    }

    fn constructors(&self, suffix: &str, what: &str, constructors: Vec<TokenStream>) -> TokenStream {
        if constructors.is_empty() {
            return TokenStream::new();
        }
        let name = format_ident!("{}{suffix}", self.ident);
        let documentation = format!("The {what} of the workflow [`{}`], to be sent to an instance.", self.ident);
        quote! {
            #[doc = #documentation]
            #[derive(::core::fmt::Debug, ::core::clone::Clone, ::core::marker::Copy)]
            #[allow(dead_code, unreachable_pub, private_interfaces)]
            pub struct #name;

            #[allow(dead_code, unreachable_pub, private_interfaces, clippy::too_many_arguments)]
            impl #name { #(#constructors)* }
        }
    }
}

impl Run {
    fn parse(signature: &Signature) -> Result<Self> {
        const SHAPE: &str = "write `#[run] async fn run(cx: Cx<Self>, input: I) -> Result<T, E>`";
        refuse_generics(signature, "`#[run]`")?;
        if let Some(receiver) = receiver(signature) {
            return Err(Error::new_spanned(
                receiver,
                format!("`#[run]` takes the context instead of `self`, whose state is in `cx.state(…)`: {SHAPE}"),
            ));
        }
        if signature.asyncness.is_none() {
            return Err(Error::new_spanned(signature, format!("`#[run]` is async: {SHAPE}")));
        }
        let inputs: Vec<&FnArg> = signature.inputs.iter().collect();
        let input = match inputs[..] {
            [] => return Err(Error::new(signature.ident.span(), format!("`#[run]` takes the context: {SHAPE}"))),
            [_] => None,
            [_, FnArg::Typed(input)] => {
                types::check(&input.ty, "inputs")?;
                Some((*input.ty).clone())
            }
            [_, _, second, ..] | [_, second] => {
                return Err(Error::new_spanned(
                    second,
                    "`#[run]` takes one input beside the context: put the values in a struct, to which more can be added later",
                ));
            }
        };
        let output = match &signature.output {
            ReturnType::Default => None,
            ReturnType::Type(..) => Some(Output::from_signature(signature)?),
        };
        let Some(Output { value: output, error: Some(error) }) = output else {
            let tokens = match &signature.output {
                ReturnType::Default => signature.ident.to_token_stream(),
                ReturnType::Type(_, ty) => ty.to_token_stream(),
            };
            return Err(Error::new_spanned(tokens, format!("`#[run]` returns a `Result` with both types: {SHAPE}")));
        };
        Ok(Self { name: signature.ident.clone(), input, output, error })
    }
}

enum Role {
    Run,
    Signal(Attribute),
    Update(Attribute),
    Query(Attribute),
}

fn take_roles(method: &mut ImplItemFn) -> Vec<Role> {
    let mut roles = Vec::new();
    method.attrs.retain(|attribute| {
        let path = attribute.path();
        if path.is_ident("run") {
            roles.push(Role::Run);
        } else if path.is_ident("signal") {
            roles.push(Role::Signal(attribute.clone()));
        } else if path.is_ident("update") {
            roles.push(Role::Update(attribute.clone()));
        } else if path.is_ident("query") {
            roles.push(Role::Query(attribute.clone()));
        } else {
            return true;
        }
        false
    });
    roles
}

fn type_name(item: &ItemImpl) -> Result<Ident> {
    if let Some((_, path, _)) = &item.trait_ {
        return Err(Error::new_spanned(
            path,
            "`#[workflow]` goes on an inherent `impl` block: write `impl Checkout { … }`",
        ));
    }
    if let Some(generic) = item.generics.params.first() {
        return Err(Error::new_spanned(generic, "workflows are not generic: a history has one type, write it out"));
    }
    match &*item.self_ty {
        Type::Path(path) if path.qself.is_none() => path.path.segments.last().map(|segment| segment.ident.clone()),
        _ => None,
    }
    .ok_or_else(|| Error::new_spanned(&item.self_ty, "`#[workflow]` goes on the `impl` block of a struct or an enum"))
}
