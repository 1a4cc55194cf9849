use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote};
use syn::{Attribute, Error, Ident, ItemTrait, Result, TraitItem, TraitItemFn, Visibility};

use crate::attributes::{TaskAttribute, check_distinct, wire_name};
use crate::errors::Errors;
use crate::signature::{Argument, Output, arguments, is_shared, receiver, refuse_generics, travels, unraw};

pub(crate) fn expand(attributes: TokenStream, item: TokenStream) -> TokenStream {
    Service::parse(attributes, item).map_or_else(Error::into_compile_error, |service| service.expand())
}

struct Service {
    item: ItemTrait,
    wire_name: String,
    methods: Vec<Method>,
}

struct Method {
    documentation: Vec<Attribute>,
    attributes: Vec<Attribute>,
    name: Ident,
    wire_name: String,
    arguments: Vec<Argument>,
    output: Output,
    task: TaskAttribute,
}

impl Service {
    fn parse(attributes: TokenStream, item: TokenStream) -> Result<Self> {
        let mut item: ItemTrait = syn::parse2(item).map_err(|error| {
            Error::new(error.span(), format!("`#[service]` goes on a trait of async methods ({error})"))
        })?;
        let wire_name = wire_name(attributes, "service", &item.ident)?;
        if let Some(generic) = item.generics.params.first() {
            return Err(Error::new_spanned(generic, "services are not generic: a message has one type, write it out"));
        }
        let mut errors = Errors::default();
        let methods: Vec<Method> =
            std::mem::take(&mut item.items).into_iter().filter_map(|item| errors.check(Method::parse(item))).collect();
        errors.check(check_distinct(methods.iter().map(|method| (&method.name, method.wire_name.as_str())), "task"));
        errors.finish()?;
        Ok(Self { item, wire_name, methods })
    }

    fn expand(&self) -> TokenStream {
        let (definition, stub, service) = (self.definition(), self.stub(), self.service());
        let assertions = self.methods.iter().map(|Method { name, arguments, output, .. }| {
            let arguments = arguments.iter().map(|argument| travels(&argument.ty));
            let output = output.assertions(&name.to_string());
            quote!(#(#arguments)* #output)
        });
        quote! {
            const _: fn() = || { #(#assertions)* };
            #definition #stub #service
        }
    }

    /// The trait itself, with futures that are `Send`.
    fn definition(&self) -> TokenStream {
        let ItemTrait { attrs, vis, unsafety, ident, supertraits, generics, .. } = &self.item;
        let bounds = supertraits.iter();
        let methods = self.methods.iter().map(|method| {
            let Method { documentation, attributes, name, arguments, .. } = method;
            let parameters = arguments.iter().map(Argument::parameter);
            let output = method.output.tokens();
            quote! {
                #(#documentation)* #(#attributes)*
                fn #name(&self, #(#parameters),*)
                    -> impl ::core::future::Future<Output = #output> + ::core::marker::Send;
            }
        });
        let where_clause = &generics.where_clause;
        quote! {
            #(#attrs)*
            #vis #unsafety trait #ident:
                #(#bounds +)* ::core::marker::Send + ::core::marker::Sync + 'static
            #where_clause
            { #(#methods)* }
        }
    }

    /// The stub that workflows call.
    fn stub(&self) -> TokenStream {
        let ItemTrait { vis, ident, .. } = &self.item;
        let stub = format_ident!("{ident}Stub");
        let service_name = &self.wire_name;
        let methods = self.methods.iter().map(|method| method.stub(vis, service_name));
        let documentation = format!("Calls the service [`{ident}`] from a workflow.");
        quote! {
            #[doc = #documentation]
            #[derive(::core::fmt::Debug, ::core::clone::Clone)]
            #[allow(dead_code)]
            #vis struct #stub {
                caller: ::partitura::__private::Caller,
            }

            #[automatically_derived]
            impl ::partitura::__private::ServiceStub for #stub {
                const NAME: &'static str = #service_name;

                fn new(caller: ::partitura::__private::Caller) -> Self {
                    Self { caller }
                }
            }

            #[allow(dead_code)]
            impl #stub { #(#methods)* }
        }
    }

    /// The wrapper that a worker runs.
    fn service(&self) -> TokenStream {
        let ItemTrait { vis, ident, .. } = &self.item;
        let service = format_ident!("{ident}Service");
        let name = &self.wire_name;
        let infos = self.methods.iter().map(Method::info);
        let calls = self.methods.iter().map(|method| method.call(ident, name));
        let known = self.methods.iter().map(|method| method.wire_name.as_str()).collect::<Vec<_>>().join(", ");
        let unknown = format!("service {name} has no method `{{}}`; it has: {known}");
        let documentation = format!("Runs an implementation of the service [`{ident}`] in a worker.");
        quote! {
            #[doc = #documentation]
            #[derive(::core::fmt::Debug, ::core::clone::Clone, ::core::default::Default)]
            #[allow(dead_code)]
            #vis struct #service<T>(
                /// The implementation.
                pub T,
            );

            #[automatically_derived]
            impl<T: #ident> ::partitura::__private::Service for #service<T> {
                fn name(&self) -> &'static str {
                    #name
                }

                fn methods(&self) -> &'static [::partitura::__private::MethodInfo] {
                    const METHODS: &[::partitura::__private::MethodInfo] = &[#(#infos),*];
                    METHODS
                }

                fn call<'a>(
                    &'a self,
                    method: &'a str,
                    args: ::partitura::__private::Payload,
                ) -> ::partitura::__private::BoxFuture<
                    'a,
                    ::core::result::Result<::partitura::__private::Payload, ::partitura::__private::TaskFailure>,
                > {
                    ::std::boxed::Box::pin(async move {
                        #[allow(unused_imports)]
                        use ::partitura::__private::{DescribeByDebug as _, DescribeByDisplay as _, DescribeByType as _};
                        match method {
                            #(#calls)*
                            unknown => ::core::result::Result::Err(::partitura::__private::TaskFailure::unknown(
                                ::std::format!(#unknown, unknown),
                            )),
                        }
                    })
                }
            }
        }
    }
}

impl Method {
    fn parse(item: TraitItem) -> Result<Self> {
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
        let output = Output::of(&sig)?;
        if let (Some(path), None) = (&task.retry_if, &output.error) {
            return Err(Error::new_spanned(
                path,
                "`retry_if` looks at the method's error, so it returns a `Result<T, E>`",
            ));
        }
        let (documentation, attributes) = attrs.into_iter().partition(|attribute| attribute.path().is_ident("doc"));
        let wire_name = task.name.clone().unwrap_or_else(|| unraw(&sig.ident));
        Ok(Self { documentation, attributes, wire_name, arguments: arguments(&sig)?, output, task, name: sig.ident })
    }

    fn stub(&self, vis: &Visibility, service: &str) -> TokenStream {
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

    fn info(&self) -> TokenStream {
        let (name, options) = (&self.wire_name, self.options());
        quote!(::partitura::__private::MethodInfo { name: #name, options: || #options })
    }

    fn options(&self) -> TokenStream {
        if self.task.options.is_empty() {
            return quote!(::core::default::Default::default());
        }
        let options = self.task.options.iter().map(|(name, value)| quote!(#name: ::core::option::Option::Some(#value)));
        quote!(::partitura::__private::TaskOptions { #(#options,)* ..::core::default::Default::default() })
    }

    /// The arm of `call` for this method.
    fn call(&self, service_trait: &Ident, service: &str) -> TokenStream {
        let Self { name, wire_name, arguments, .. } = self;
        let what = format!("{service}.{wire_name}: {{}}");
        let names: Vec<_> = arguments.iter().map(|argument| &argument.name).collect();
        let takes =
            arguments.iter().map(|Argument { name, ty }| (name, ty)).zip(arguments).map(|((name, ty), argument)| {
                let wire = argument.wire_name();
                quote!(let #name: #ty = __args.take(#wire).map_err(__unknown)?;)
            });
        let answer = quote!(
            ::partitura::__private::Payload::encode(&__value)
                .map_err(|error| { ::partitura::__private::TaskFailure::unencodable(::std::format!(#what, error)) })
        );
        let called = quote!(<T as #service_trait>::#name(&self.0, #(#names),*).await);
        let value = &self.output.value;
        let called = match &self.output.error {
            None => quote! { let __value: #value = #called; #answer },
            Some(_) => {
                let output = self.output.tokens();
                let retryable = match &self.task.retry_if {
                    Some(path) => quote!(::core::option::Option::Some(#path(&__error))),
                    None => quote!(::core::option::Option::None),
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
        };
        quote! {
            #wire_name => {
                let __unknown = |error: ::partitura::__private::PayloadError| {
                    ::partitura::__private::TaskFailure::unknown(::std::format!(#what, error))
                };
                #[allow(unused_mut, unused_variables)]
                let mut __args = ::partitura::__private::DecodeArgs::new(&args).map_err(__unknown)?;
                #(#takes)*
                #called
            }
        }
    }
}

impl Argument {
    pub(crate) fn parameter(&self) -> TokenStream {
        let Self { name, ty } = self;
        quote!(#name: #ty)
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

impl Output {
    fn tokens(&self) -> TokenStream {
        let value = &self.value;
        match &self.error {
            Some(error) => quote!(::core::result::Result<#value, #error>),
            None => quote!(#value),
        }
    }

    /// The types of its value and its error.
    pub(crate) fn parts(&self) -> (TokenStream, TokenStream) {
        let value = &self.value;
        match &self.error {
            Some(error) => (quote!(#value), quote!(#error)),
            None => (quote!(#value), quote!(::partitura::__private::Never)),
        }
    }
}
