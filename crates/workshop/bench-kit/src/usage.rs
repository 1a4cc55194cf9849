use std::fmt;
use std::time::Instant;

/// Kernel ticks a second: 100 on every usual Linux.
const TICKS: f64 = 100.0;

/// Describes the use of the machine's processors during a measurement. Empty where there is no `/proc`.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    text: String,
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Usage {
    /// Starts to watch; the returned function ends it.
    pub fn watch() -> impl FnOnce() -> Self {
        let (begun, before) = (Instant::now(), Counters::read());
        move || {
            let seconds = begun.elapsed().as_secs_f64();
            let text = before.zip(Counters::read()).map(|(before, after)| after.since(&before, seconds));
            Self { text: text.unwrap_or_default() }
        }
    }
}

/// The processor time that this process has used so far, in seconds; 0 where there is no `/proc`.
pub(crate) fn own_seconds() -> f64 {
    std::fs::read_to_string("/proc/self/stat").ok().and_then(|stat| own(&stat)).unwrap_or_default()
}

/// User and system time from `/proc/self/stat`. After the name, which may contain anything, state is field 0, and they
/// are 11 and 12.
pub(crate) fn own(stat: &str) -> Option<f64> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(seconds(fields.get(11)?) + seconds(fields.get(12)?))
}

/// Processor time in seconds, bytes, MiB.
#[derive(Clone, Copy)]
struct Counters {
    cores: f64,
    own: f64,
    busy: f64,
    waiting: f64,
    written: f64,
    resident: f64,
}

impl Counters {
    fn read() -> Option<Self> {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        let machine = read("/proc/stat")?;
        // user, nice, system, idle, iowait, irq, softirq, steal
        let all: Vec<f64> = machine.lines().next()?.split_whitespace().skip(1).take(8).map(seconds).collect();
        let (idle, waiting) = (*all.get(3)?, *all.get(4)?);
        Some(Self {
            cores: machine.lines().filter(|line| line.starts_with("cpu")).count() as f64 - 1.0,
            own: own(&read("/proc/self/stat")?)?,
            busy: all.iter().sum::<f64>() - idle - waiting,
            waiting,
            written: field(&read("/proc/self/io").unwrap_or_default(), "write_bytes:"),
            resident: field(&read("/proc/self/status").unwrap_or_default(), "VmRSS:") / 1024.0,
        })
    }

    fn since(&self, before: &Self, seconds: f64) -> String {
        let share = |used: f64| 100.0 * used.max(0.0) / (seconds * self.cores).max(f64::MIN_POSITIVE);
        let own = self.own - before.own;
        format!(
            "cpu of {} cores: driver {:.0}%, other {:.0}%, iowait {:.0}%; rss: driver {:.0} MiB; written: driver {:.0} MB",
            self.cores,
            share(own),
            share(self.busy - before.busy - own),
            share(self.waiting - before.waiting),
            self.resident,
            (self.written - before.written) / 1e6,
        )
    }
}

fn seconds(ticks: &str) -> f64 {
    ticks.parse::<f64>().unwrap_or_default() / TICKS
}

pub(crate) fn field(text: &str, name: &str) -> f64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    value.and_then(|value| value.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_all_cores() {
        let before = Counters { cores: 2.0, own: 1.0, busy: 10.0, waiting: 0.0, written: 0.0, resident: 5.0 };
        let after = Counters { own: 2.0, busy: 11.5, written: 3e6, ..before };
        assert_eq!(
            after.since(&before, 1.0),
            "cpu of 2 cores: driver 50%, other 25%, iowait 0%; rss: driver 5 MiB; written: driver 3 MB"
        );
    }
}
