//! The description that the wrapper of a service gives of its methods that take many calls at once.

use proc_macro2::TokenStream;
use quote::quote;
use syn::Ident;

use crate::batch::Batch;
use crate::method::{Method, traits_of_errors};

/// The functions of its batches: nothing where it has none.
pub(crate) fn functions(methods: &[Method], service_trait: &Ident, service: &str) -> TokenStream {
    let batches: Vec<(&Method, &Batch)> =
        methods.iter().filter_map(|method| method.batch.as_ref().map(|batch| (method, batch))).collect();
    if batches.is_empty() {
        return TokenStream::new();
    }
    let options = batches.iter().map(|(method, batch)| {
        let (name, options) = (&method.wire_name, batch.options());
        quote!(#name => ::core::option::Option::Some(#options),)
    });
    let checks = batches.iter().map(|(method, _)| {
        let (name, read) = (&method.wire_name, method.read_one(service));
        quote!(#name => #read(args).map(::core::mem::drop),)
    });
    let calls = batches.iter().map(|(method, _)| method.call_batch(service_trait, service));
    let traits = traits_of_errors();
    quote! {
        fn batch(&self, method: &str) -> ::core::option::Option<::partitura::__private::BatchOptions> {
            match method {
                #(#options)*
                _ => ::core::option::Option::None,
            }
        }

        fn check(
            &self,
            method: &str,
            args: &::partitura::__private::Payload,
        ) -> ::core::result::Result<(), ::partitura::__private::TaskFailure> {
            match method {
                #(#checks)*
                _ => ::core::result::Result::Ok(()),
            }
        }

        fn call_batch<'a>(
            &'a self,
            method: &'a str,
            calls: ::std::vec::Vec<::partitura::__private::Payload>,
        ) -> ::partitura::__private::BoxFuture<'a, ::partitura::__private::Answers> {
            ::std::boxed::Box::pin(async move {
                #traits
                match method {
                    #(#calls)*
                    _ => ::partitura::__private::one_by_one(self, method, calls).await,
                }
            })
        }
    }
}

impl Method {
    /// A function that reads the argument of one call.
    fn read_one(&self, service: &str) -> TokenStream {
        let what = format!("{service}.{}", self.wire_name);
        let arguments = self.arguments.iter().map(|argument| {
            let (name, ty) = (argument.wire_name(), &argument.ty);
            quote!(|args: &::partitura::__private::Payload| ::partitura::__private::batched::<#ty>(#what, #name, args))
        });
        quote!((#(#arguments)*))
    }

    /// The arm of `call_batch` for this method.
    fn call_batch(&self, service_trait: &Ident, service: &str) -> TokenStream {
        let (name, wire_name, read) = (&self.name, &self.wire_name, self.read_one(service));
        let what = format!("{service}.{wire_name}");
        let (output, answer) = (self.output.tokens(), self.answer(&quote!(__called), service));
        quote! {
            #wire_name => {
                let __calls = calls.iter().map(#read).collect();
                let __method = |__calls| <T as #service_trait>::#name(&self.0, __calls);
                ::partitura::__private::call_batch(#what, __calls, __method, |__called: #output| { #answer }).await
            }
        }
    }
}
