use std::convert::Infallible;
use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How far we are: a bar on a terminal, a line each second elsewhere; on stderr.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    is_drawn: bool,
}

impl Progress {
    pub fn new(total: usize) -> Self {
        let is_drawn = stderr().is_terminal();
        let target = if is_drawn { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total as u64), target);
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} orders, {per_sec}, {eta} left") {
            bar.set_style(style);
        }
        Self { bar, is_drawn }
    }

    pub fn one_more(&self) {
        self.bar.inc(1);
    }

    /// Prints the lines, where there is no bar, for as long as it is polled.
    pub async fn lines(&self) -> Infallible {
        let mut before = 0;
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now = self.bar.position();
            if !self.is_drawn {
                let total = self.bar.length().unwrap_or_default();
                eprintln!("{now}/{total} orders, {} in the last second", now - before);
            }
            before = now;
        }
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
