//! When a workflow that fails is tried again.

use proc_macro2::TokenStream;
use quote::quote;
use syn::Expr;

/// The methods that say whether a run that failed is tried again: by the predicate, else by the error's type.
pub(crate) fn methods(retry: Option<&Expr>, retry_if: Option<&Expr>) -> TokenStream {
    let retry = retry.map(|retry| {
        quote! {
            fn retry() -> ::core::option::Option<::partitura::__private::Retry> {
                ::core::option::Option::Some(#retry)
            }
        }
    });
    let verdict = match retry_if {
        Some(predicate) => quote!(::partitura::__private::verdict(error, #predicate)),
        None => quote!((&&::partitura::__private::Verdict(error)).is_transient().unwrap_or(true)),
    };
    quote! {
        #retry

        fn is_retried(error: &Self::Error) -> bool {
            #[allow(unused_imports)]
            use ::partitura::__private::{NoVerdict as _, VerdictOfType as _};
            #verdict
        }
    }
}
