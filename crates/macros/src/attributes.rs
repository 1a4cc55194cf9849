//! `name = "…", key = expression` lists.

use std::collections::HashMap;

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::meta::ParseNestedMeta;
use syn::parse::Parser;
use syn::{Attribute, Expr, Ident, LitInt, LitStr, Path, Result};

use crate::signature::unraw;

/// The longest name of a service or workflow, in bytes. The names of topics contain it, with a prefix and a suffix.
const MAX_NAME: usize = 128;

/// Reads the wire name from `#[service(…)]`; by default it is the name of the item.
pub(crate) fn wire_name(attributes: TokenStream, macro_name: &str, item: &Ident) -> Result<String> {
    let mut name = None;
    let parser = syn::meta::parser(|meta| read_name(&meta, &mut name, macro_name));
    parser.parse2(attributes)?;
    name_of(name, macro_name, item)
}

/// The wire name that was stated, or else the name of the item.
fn name_of(name: Option<LitStr>, macro_name: &str, item: &Ident) -> Result<String> {
    let (name, span) = name.map_or_else(|| (unraw(item), item.span()), |text| (text.value(), text.span()));
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.len() <= MAX_NAME && name.chars().all(allowed) {
        return Ok(name);
    }
    let shown: String = name.chars().take(MAX_NAME).collect();
    let message = format!(
        "{shown:?} cannot be the name of a {macro_name}, after which its topics are called: write \
         `#[{macro_name}(name = \"…\")]` with 1 to {MAX_NAME} of the characters A–Z a–z 0–9 . _ -"
    );
    Err(syn::Error::new(span, message))
}

/// The options of `#[workflow(…)]`.
pub(crate) struct WorkflowAttribute {
    pub(crate) name: String,
    pub(crate) retry: Option<Expr>,
    pub(crate) retry_if: Option<Expr>,
    pub(crate) version: Option<LitInt>,
}

impl WorkflowAttribute {
    pub(crate) fn parse(attributes: TokenStream, item: &Ident) -> Result<Self> {
        let (mut name, mut retry, mut retry_if, mut version) = (None, None, None, None);
        let parser = syn::meta::parser(|meta| {
            if meta.path.is_ident("name") {
                name = Some(checked_name(meta.value()?.parse()?)?);
            } else if meta.path.is_ident("retry") {
                retry = Some(meta.value()?.parse()?);
            } else if meta.path.is_ident("retry_if") {
                retry_if = Some(meta.value()?.parse()?);
            } else if meta.path.is_ident("version") {
                version = Some(checked_version(meta.value()?.parse()?)?);
            } else {
                let options = "`#[workflow]` knows these options: `name = \"…\"`, `version = 2`, `retry`, `retry_if`";
                return Err(meta.error(options));
            }
            Ok(())
        });
        parser.parse2(attributes)?;
        Ok(Self { name: name_of(name, "workflow", item)?, retry, retry_if, version })
    }
}

/// Reads the wire name from `#[signal(…)]` or `#[query(…)]`. Both may have no arguments.
pub(crate) fn method_name(attribute: &Attribute, macro_name: &str) -> Result<Option<String>> {
    let mut name = None;
    if !matches!(attribute.meta, syn::Meta::Path(_)) {
        attribute.parse_nested_meta(|meta| read_name(&meta, &mut name, macro_name))?;
    }
    Ok(name.map(|text| text.value()))
}

/// The options of `#[update(…)]`.
#[derive(Default)]
pub(crate) struct UpdateAttribute {
    pub(crate) name: Option<String>,
    pub(crate) validator: Option<Path>,
}

impl UpdateAttribute {
    /// Reads the attribute, which may have no arguments.
    pub(crate) fn parse(attribute: &Attribute) -> Result<Self> {
        let mut update = Self::default();
        if matches!(attribute.meta, syn::Meta::Path(_)) {
            return Ok(update);
        }
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("name") {
                update.name = Some(checked_name(meta.value()?.parse()?)?.value());
            } else if meta.path.is_ident("validate") {
                update.validator = Some(meta.value()?.parse()?);
            } else {
                return Err(meta.error("`#[update]` knows these options: `name = \"…\"`, `validate = Self::check`"));
            }
            Ok(())
        })?;
        Ok(update)
    }
}

/// Refuses a second method under one name: it would never be called.
pub(crate) fn check_distinct<'a>(names: impl IntoIterator<Item = (&'a Ident, &'a str)>, attribute: &str) -> Result<()> {
    let mut known: HashMap<&str, &Ident> = HashMap::new();
    for (method, wire_name) in names {
        if let Some(earlier) = known.insert(wire_name, method) {
            let message = format!(
                "`{earlier}` and `{method}` have one name on the wire, {wire_name:?}: give one of them another, \
                 `#[{attribute}(name = \"…\")]`"
            );
            return Err(syn::Error::new(method.span(), message));
        }
    }
    Ok(())
}

fn read_name(meta: &ParseNestedMeta<'_>, name: &mut Option<LitStr>, macro_name: &str) -> Result<()> {
    if !meta.path.is_ident("name") {
        return Err(meta.error(format!("`#[{macro_name}]` knows one option: `name = \"…\"`")));
    }
    *name = Some(checked_name(meta.value()?.parse()?)?);
    Ok(())
}

fn checked_version(number: LitInt) -> Result<LitInt> {
    match number.base10_parse::<u32>() {
        Ok(1..) => Ok(number),
        _ => Err(syn::Error::new(number.span(), "versions of a workflow are whole numbers from 1")),
    }
}

fn checked_name(text: LitStr) -> Result<LitStr> {
    if text.value().is_empty() {
        return Err(syn::Error::new(text.span(), "a name on the wire cannot be empty"));
    }
    Ok(text)
}

/// The options of `#[task(…)]`.
#[derive(Default)]
pub(crate) struct TaskAttribute {
    pub(crate) name: Option<String>,
    pub(crate) retry_if: Option<Expr>,
    /// Fields of `TaskOptions` with their values.
    pub(crate) options: Vec<(syn::Ident, TokenStream)>,
}

impl TaskAttribute {
    /// Removes the `#[task(…)]` attributes from those of a method.
    pub(crate) fn take(attributes: &mut Vec<Attribute>) -> Result<Self> {
        let mut task = Self::default();
        for attribute in attributes.extract_if(.., |attribute| attribute.path().is_ident("task")) {
            attribute.parse_nested_meta(|meta| task.read(&meta))?;
        }
        Ok(task)
    }

    fn read(&mut self, meta: &ParseNestedMeta<'_>) -> Result<()> {
        const OPTIONS: [&str; 5] = ["retry", "timeout", "overall_timeout", "start_timeout", "heartbeat_timeout"];
        if meta.path.is_ident("name") {
            self.name = Some(checked_name(meta.value()?.parse()?)?.value());
        } else if meta.path.is_ident("retry_if") {
            self.retry_if = Some(meta.value()?.parse()?);
        } else if let Some(option) = meta.path.get_ident().filter(|ident| OPTIONS.iter().any(|known| ident == known)) {
            let value: Expr = meta.value()?.parse()?;
            self.options.push((option.clone(), quote!(::core::option::Option::Some(#value))));
        } else if meta.path.is_ident("no_timeout") {
            self.options.push((format_ident!("no_timeout"), quote!(true)));
        } else if meta.path.is_ident("retry_errors") {
            let all = quote!(::core::option::Option::Some(::partitura::__private::OwnErrors::Retried));
            self.options.push((format_ident!("own_errors"), all));
        } else {
            return Err(meta.error(
                "`#[task]` knows these options: `name`, `retry`, `retry_if`, `retry_errors`, `timeout`, `no_timeout`, \
                 `overall_timeout`, `start_timeout`, `heartbeat_timeout`",
            ));
        }
        Ok(())
    }
}
