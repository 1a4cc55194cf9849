use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Error, ItemTrait, Result};

use crate::attributes::{check_distinct, wire_name};
use crate::errors::Errors;
use crate::gathered::functions;
use crate::limit::LimitAttribute;
use crate::method::{Method, traits_of_errors};
use crate::signature::{Argument, Output, travels};

pub(crate) fn expand(attributes: TokenStream, item: TokenStream) -> TokenStream {
    Service::parse(attributes, item).map_or_else(Error::into_compile_error, |service| service.expand())
}

struct Service {
    item: ItemTrait,
    wire_name: String,
    methods: Vec<Method>,
    limits: Vec<LimitAttribute>,
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
        let limits = errors.check(LimitAttribute::take(&mut item.attrs)).unwrap_or_default();
        for limit in &limits {
            errors.check(limit.check(methods.iter().map(|method| &*method.arguments)));
        }
        errors.finish()?;
        Ok(Self { item, wire_name, methods, limits })
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
        let methods = self.methods.iter().map(Method::declaration);
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
        let limits = self.limits();
        let batches = functions(&self.methods, ident, name);
        let traits = traits_of_errors();
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

                fn limits(&self) -> ::std::vec::Vec<::partitura::__private::Limit> {
                    ::std::vec![#(#limits),*]
                }

                #batches

                fn call<'a>(
                    &'a self,
                    method: &'a str,
                    args: ::partitura::__private::Payload,
                ) -> ::partitura::__private::BoxFuture<
                    'a,
                    ::core::result::Result<::partitura::__private::Payload, ::partitura::__private::TaskFailure>,
                > {
                    ::std::boxed::Box::pin(async move {
                        #traits
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

impl Service {
    fn limits(&self) -> Vec<TokenStream> {
        let of_methods = self.methods.iter().flat_map(|method| {
            method.limits.iter().map(|limit| limit.tokens(&self.wire_name, Some(&method.wire_name)))
        });
        self.limits.iter().map(|limit| limit.tokens(&self.wire_name, None)).chain(of_methods).collect()
    }
}

impl Argument {
    pub(crate) fn parameter(&self) -> TokenStream {
        let Self { name, ty } = self;
        quote!(#name: #ty)
    }
}

impl Output {
    pub(crate) fn tokens(&self) -> TokenStream {
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
