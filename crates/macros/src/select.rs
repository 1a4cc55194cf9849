use proc_macro2::{Span, TokenStream};
use quote::quote_spanned;
use syn::parse::{Parse, ParseStream};
use syn::{Error, Expr, Ident, Pat, Result, Token};

pub(crate) fn expand(branches: TokenStream) -> TokenStream {
    syn::parse2(branches).map_or_else(Error::into_compile_error, |select: Select| select.expand())
}

struct Select(Vec<Branch>);

struct Branch {
    pattern: Pat,
    future: Expr,
    body: Expr,
}

impl Select {
    /// The futures live in a block of their own, so that they are gone when the chosen branch runs.
    fn expand(&self) -> TokenStream {
        let names = |prefix: &str| -> Vec<Ident> {
            (0..self.0.len()).map(|index| Ident::new(&format!("{prefix}{index}"), Span::mixed_site())).collect()
        };
        let (variants, futures) = (names("Branch"), names("future"));
        let values = self.0.iter().map(|branch| &branch.future);
        let patterns = self.0.iter().map(|branch| &branch.pattern);
        let bodies = self.0.iter().map(|branch| &branch.body);
        quote_spanned! {Span::mixed_site()=> {
            #[allow(clippy::enum_variant_names)]
            enum __PartituraSelected<#(#variants),*> { #(#variants(#variants)),* }
            let selected = match (#(::core::future::IntoFuture::into_future(#values),)*) {
                (#(#futures,)*) => {
                    #(let mut #futures = ::core::pin::pin!(#futures);)*
                    ::core::future::poll_fn(move |context| {
                        #(
                            if let ::core::task::Poll::Ready(output) =
                                ::core::future::Future::poll(#futures.as_mut(), context)
                            {
                                return ::core::task::Poll::Ready(__PartituraSelected::#variants(output));
                            }
                        )*
                        ::core::task::Poll::Pending
                    })
                    .await
                }
            };
            match selected {
                #(__PartituraSelected::#variants(#patterns) => #bodies,)*
            }
        }}
    }
}

impl Parse for Select {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        const SHAPE: &str = "`select!` has branches like `pattern = future => expression`";
        let mut branches = Vec::new();
        while !input.is_empty() {
            if input.peek(Token![else]) {
                return Err(input.error(
                    "`select!` has no `else`: its futures are never disabled; to give up after a time, add `_ = cx.sleep(…) => …`",
                ));
            }
            let shape = |error: Error| Error::new(error.span(), SHAPE);
            let pattern = Pat::parse_multi_with_leading_vert(input).map_err(shape)?;
            input.parse::<Token![=]>().map_err(shape)?;
            let future: Expr = input.parse()?;
            if input.peek(Token![,]) && input.peek2(Token![if]) {
                return Err(Error::new(
                    input.span(),
                    "`select!` has no `if`: build the futures to be awaited before it",
                ));
            }
            input
                .parse::<Token![=>]>()
                .map_err(|_| Error::new_spanned(&future, format!("{SHAPE}: `=>` is missing")))?;
            let body = Expr::parse_with_earlier_boundary_rule(input)?;
            let is_block = matches!(body, Expr::Block(_) | Expr::Match(_) | Expr::If(_));
            branches.push(Branch { pattern, future, body });
            if input.is_empty() {
                break;
            }
            if input.peek(Token![,]) || !is_block {
                input.parse::<Token![,]>()?;
            }
        }
        if branches.is_empty() {
            return Err(Error::new(Span::call_site(), SHAPE));
        }
        Ok(Self(branches))
    }
}
