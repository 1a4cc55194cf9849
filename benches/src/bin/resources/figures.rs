//! The figures, for people and for programs.

use serde::Serialize;

/// One figure: a line of JSON.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figure {
    /// The broker, by the scheme of its URL.
    pub(crate) broker: String,
    /// The workload.
    pub(crate) workload: &'static str,
    /// The measured process: `worker 1`, `broker`.
    pub(crate) of: String,
    /// The name of the measure, with its unit.
    pub(crate) measure: &'static str,
    /// `None` if it could not be read.
    pub(crate) value: Option<f64>,
}

/// The figures of one broker.
pub(crate) struct Figures {
    broker: String,
    workload: &'static str,
    json: bool,
    all: Vec<Figure>,
}

impl Figures {
    pub(crate) fn new(url: &str, workload: &'static str, json: bool) -> Self {
        let broker = url.split_once(':').map_or(url, |(scheme, _)| scheme).to_owned();
        Self { broker, workload, json, all: Vec::new() }
    }

    /// Adds a figure, and prints its line of JSON.
    pub(crate) fn add(&mut self, of: &str, measure: &'static str, value: Option<f64>) {
        let value = value.map(|value| (value * 10.0).round() / 10.0);
        let (broker, workload) = (self.broker.clone(), self.workload);
        let figure = Figure { broker, workload, of: of.to_owned(), measure, value };
        if self.json
            && let Ok(line) = serde_json::to_string(&figure)
        {
            println!("{line}");
        }
        self.all.push(figure);
    }

    /// A table: a line for each process, a column for each measure.
    pub(crate) fn table(&self) -> String {
        let (mut processes, mut measures): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
        for figure in &self.all {
            if !processes.contains(&&*figure.of) {
                processes.push(&figure.of);
            }
            if !measures.contains(&figure.measure) {
                measures.push(figure.measure);
            }
        }
        let mut text = format!("{:<12}", self.broker);
        measures.iter().for_each(|measure| text += &format!(" {measure:>16}"));
        for process in processes {
            text += &format!("\n{process:<12}");
            for measure in &measures {
                let value = self.all.iter().find(|figure| figure.of == process && figure.measure == *measure);
                let value = value.and_then(|figure| figure.value).map_or("-".to_owned(), |value| format!("{value:.1}"));
                text += &format!(" {value:>16}");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_for_each_process_and_a_column_for_each_measure() {
        let mut figures = Figures::new("broker://localhost:9092", "idle", false);
        figures.add("worker 1", "threads", Some(12.0));
        figures.add("broker", "core %", None);
        let table = figures.table();
        let cells = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let lines: Vec<_> = table.lines().map(cells).collect();
        assert_eq!(lines[0], ["broker", "threads", "core", "%"]);
        assert_eq!(lines[1], ["worker", "1", "12.0", "-"]);
        assert_eq!(lines[2], ["broker", "-", "-"]);
    }
}
