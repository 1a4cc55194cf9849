//! The results of a run, as data, and in formats for machines and for people.

mod chart;
mod html;
mod junit;
mod matrix;
mod results;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) use self::results::{CaseReport, MutantReport, Report};

impl Report {
    /// Writes `<broker>.json`, `<broker>.xml` (JUnit), `<broker>.summary.json`, a [history](CaseReport::history_file)
    /// of each failure, and `index.html` and `matrix.md` about all brokers whose reports are in the directory. Returns
    /// the page's place.
    pub(crate) fn write(&self, directory: &Path) -> io::Result<PathBuf> {
        fs::create_dir_all(directory)?;
        let file = |ending: &str| directory.join(format!("{}.{ending}", self.broker));
        let mut sorted = self.clone();
        sorted.cases.sort_by(|a, b| (&a.id, &a.variant).cmp(&(&b.id, &b.variant)));
        sorted.mutants.sort_by(|a, b| a.name.cmp(&b.name));
        fs::write(file("json"), serde_json::to_vec_pretty(&sorted)?)?;
        fs::write(file("xml"), junit::write(&sorted))?;
        fs::write(file("summary.json"), serde_json::to_vec(&sorted.summary())?)?;
        for case in &sorted.cases {
            let history = directory.join(case.history_file(&self.broker));
            match &case.whole {
                Some(whole) => fs::write(history, whole.tail(usize::MAX))?,
                None if history.exists() => fs::remove_file(history)?,
                None => {}
            }
        }
        let all = Self::read_all(directory)?;
        let page = directory.join("index.html");
        fs::write(&page, html::write(&all))?;
        fs::write(directory.join("matrix.md"), matrix::write(&all))?;
        fs::canonicalize(page)
    }

    fn read_all(directory: &Path) -> io::Result<Vec<Self>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if name.ends_with(".json") && !name.ends_with(".summary.json") {
                all.extend(serde_json::from_slice::<Self>(&fs::read(path)?));
            }
        }
        all.sort_by(|a, b| a.broker.cmp(&b.broker));
        Ok(all)
    }
}
