//! `cargo xtask book`: the pages of `docs/` as a web site, by mdBook.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::Failure;
use crate::repository::Repository;
use crate::tidy::{book, links};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Opens the book in a browser.
    #[arg(long)]
    open: bool,
}

/// Where the pages are put together, below the root.
const PAGES: &str = "target/book-pages";
const SITE: &str = "https://github.com/partitura/partitura/blob/main";

/// Puts the pages together, and has mdBook build them.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..").canonicalize()?;
    let pages = root.join(PAGES);
    put_together(&Repository::load()?, &root, &pages)?;
    let mut mdbook = Command::new("mdbook");
    mdbook.arg("build").args(arguments.open.then_some("--open")).arg(&pages);
    match mdbook.status() {
        Ok(status) if status.success() => {
            println!("the book: {}", root.join("target/book/index.html").display());
            Ok(())
        }
        Ok(status) => Err(format!("mdbook ended with {status}").into()),
        Err(error) => Err(format!(
            "cannot start mdbook: {error}; get it with `cargo install --locked mdbook`. The pages are in {PAGES}"
        )
        .into()),
    }
}

/// Copies `docs/`. Decisions are added to the list of pages, and links that lead out of `docs/` lead to the repository.
fn put_together(repository: &Repository, root: &Path, to: &Path) -> Result<(), Failure> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    copy(&root.join("docs"), to)?;
    for (path, text) in &repository.files {
        let Some(page) = path.strip_prefix("docs/").filter(|page| page.ends_with(".md")) else { continue };
        let mut text = with_links(path, text);
        if path == book::SUMMARY {
            text = text.replace("* [Decisions](adr/README.md)\n", &decisions(repository));
        }
        fs::write(to.join(page), text)?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let target: PathBuf = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

fn decisions(repository: &Repository) -> String {
    let mut list = "* [Decisions](adr/README.md)\n".to_owned();
    for (path, text) in repository.files.range(book::DECISIONS.to_owned()..) {
        let Some(name) = path.strip_prefix(book::DECISIONS) else { break };
        if let Some(title) =
            text.lines().next().and_then(|line| line.strip_prefix("# ")).filter(|_| name != "README.md")
        {
            list.push_str(&format!("  * [{title}](adr/{name})\n"));
        }
    }
    list
}

/// The page with links to the repository in place of those that lead out of `docs/`.
fn with_links(page: &str, text: &str) -> String {
    let mut text = text.to_owned();
    for (_, target) in links::targets(&text.clone()) {
        if let Some(path) = links::resolve(page, target).filter(|path| !path.is_empty() && !path.starts_with("docs")) {
            let anchor = target.split_once('#').map(|(_, anchor)| format!("#{anchor}")).unwrap_or_default();
            text = text.replace(&format!("]({target}"), &format!("]({SITE}/{path}{anchor}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_out_of_the_book_leads_to_the_repository() {
        let text = "[a](../../crates/broker/src/lib.rs#top), [b](services.md), [c](https://example.org)";
        let site = "[a](https://github.com/partitura/partitura/blob/main/crates/broker/src/lib.rs#top), [b](services.md), [c](https://example.org)";
        assert_eq!(with_links("docs/guides/page.md", text), site);
    }

    #[test]
    fn the_decisions_are_in_the_book_by_their_titles() {
        let mut repository = Repository::default();
        for (name, text) in [("0001-a.md", "# 0001: A\ntext"), ("README.md", "# Decisions")] {
            repository.files.insert(format!("{}{name}", book::DECISIONS), text.to_owned());
        }
        let list = decisions(&repository);
        assert_eq!(list, "* [Decisions](adr/README.md)\n  * [0001: A](adr/0001-a.md)\n");
    }
}
