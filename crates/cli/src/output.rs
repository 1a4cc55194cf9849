//! Tables for people, JSON and ids for programs.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::args::Format;
use crate::failure::Failure;

/// Where results go, and in which form.
pub(crate) struct Out<'a> {
    pub(crate) writer: &'a mut (dyn Write + Send),
    pub(crate) format: Format,
    is_coloured: bool,
}

impl<'a> Out<'a> {
    pub(crate) fn new(writer: &'a mut (dyn Write + Send), format: Format) -> Self {
        let wants_colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { writer, format, is_coloured: wants_colour && io::stdout().is_terminal() }
    }

    pub(crate) fn line(&mut self, text: &str) -> Result<(), Failure> {
        Ok(writeln!(self.writer, "{text}")?)
    }

    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value);
        self.line(&text.map_err(|error| Failure::failed(format!("print as JSON: {error}")))?)
    }

    /// Columns as wide as they need to be; the last one may have any width.
    pub(crate) fn table(&mut self, heads: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([heads[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..heads.len()).map(width).collect();
        let heads: Vec<String> = heads.iter().map(|head| head.to_uppercase()).collect();
        for (is_head, row) in std::iter::once((true, &heads)).chain(rows.iter().map(|row| (false, row))) {
            let mut line = String::new();
            for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let space = if at + 1 == row.len() { 0 } else { width.saturating_sub(cell.chars().count()) + 2 };
                line.push_str(&if is_head { self.dim(cell) } else { self.coloured(cell) });
                line.push_str(&" ".repeat(space));
            }
            self.line(line.trim_end())?;
        }
        Ok(())
    }

    fn dim(&self, text: &str) -> String {
        self.paint("2", text)
    }

    /// A word that says where something stands has a colour.
    fn coloured(&self, cell: &str) -> String {
        match cell {
            "running" | "open" => self.paint("34", cell),
            "stopped" | "warning" => self.paint("33", cell),
            "completed" | "done" | "ok" => self.paint("32", cell),
            "failed" | "error" => self.paint("31", cell),
            cell => cell.to_owned(),
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.is_coloured { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_without_spaces() {
        let mut written = Vec::new();
        let mut out = Out { writer: &mut written, format: Format::Table, is_coloured: false };
        let rows = [vec!["running".to_owned(), "ü-1".to_owned()], vec!["failed".to_owned(), String::new()]];
        out.table(&["status", "id"], &rows).unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), "STATUS   ID\nrunning  ü-1\nfailed\n");
    }

    #[test]
    fn colours_stand_around_the_word_and_not_around_the_space() {
        let mut written = Vec::new();
        let mut out = Out { writer: &mut written, format: Format::Table, is_coloured: true };
        out.table(&["status", "id"], &[vec!["failed".to_owned(), "a".to_owned()]]).unwrap();
        assert!(String::from_utf8(written).unwrap().contains("\u{1b}[31mfailed\u{1b}[0m  a"));
    }
}
