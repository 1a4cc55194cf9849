//! `name = "…", key = expression` lists.

use proc_macro2::TokenStream;
use syn::meta::ParseNestedMeta;
use syn::parse::Parser;
use syn::{Attribute, Expr, LitStr, Path, Result};

/// The wire name out of `#[service(…)]` or `#[workflow(…)]`.
pub(crate) fn wire_name(attributes: TokenStream, macro_name: &str) -> Result<Option<String>> {
    let mut name = None;
    let parser = syn::meta::parser(|meta| read_name(&meta, &mut name, macro_name));
    parser.parse2(attributes)?;
    Ok(name)
}

/// The wire name out of `#[signal(…)]` or `#[query(…)]`, both of which may stand alone.
pub(crate) fn method_name(attribute: &Attribute, macro_name: &str) -> Result<Option<String>> {
    let mut name = None;
    if !matches!(attribute.meta, syn::Meta::Path(_)) {
        attribute.parse_nested_meta(|meta| read_name(&meta, &mut name, macro_name))?;
    }
    Ok(name)
}

fn read_name(meta: &ParseNestedMeta<'_>, name: &mut Option<String>, macro_name: &str) -> Result<()> {
    if !meta.path.is_ident("name") {
        return Err(meta.error(format!("`#[{macro_name}]` knows one option: `name = \"…\"`")));
    }
    let text: LitStr = meta.value()?.parse()?;
    *name = Some(checked_name(&text)?);
    Ok(())
}

fn checked_name(text: &LitStr) -> Result<String> {
    match text.value() {
        empty if empty.is_empty() => Err(syn::Error::new(text.span(), "a name on the wire cannot be empty")),
        name => Ok(name),
    }
}

/// What `#[task(…)]` states.
#[derive(Default)]
pub(crate) struct TaskAttribute {
    pub(crate) name: Option<String>,
    pub(crate) retry_if: Option<Path>,
    /// Fields of `TaskOptions` with their values.
    pub(crate) options: Vec<(syn::Ident, Expr)>,
}

impl TaskAttribute {
    /// Takes the `#[task(…)]` attributes out of a method's.
    pub(crate) fn take(attributes: &mut Vec<Attribute>) -> Result<Self> {
        let mut task = Self::default();
        for attribute in attributes.extract_if(.., |attribute| attribute.path().is_ident("task")) {
            attribute.parse_nested_meta(|meta| task.read(&meta))?;
        }
        Ok(task)
    }

    fn read(&mut self, meta: &ParseNestedMeta<'_>) -> Result<()> {
        const OPTIONS: [&str; 5] = ["retry", "timeout", "overall_timeout", "heartbeat_timeout", "priority"];
        if meta.path.is_ident("name") {
            self.name = Some(checked_name(&meta.value()?.parse()?)?);
        } else if meta.path.is_ident("retry_if") {
            self.retry_if = Some(meta.value()?.parse()?);
        } else if let Some(option) = meta.path.get_ident().filter(|ident| OPTIONS.iter().any(|known| ident == known)) {
            self.options.push((option.clone(), meta.value()?.parse()?));
        } else {
            return Err(meta.error(
                "`#[task]` knows these options: `name`, `retry`, `retry_if`, `timeout`, `overall_timeout`, \
                 `heartbeat_timeout`, `priority`",
            ));
        }
        Ok(())
    }
}
