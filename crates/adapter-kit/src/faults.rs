use partitura_broker::telemetry;

/// A fault of some versions of a server that breaks a promise of an adapter, or slows it down.
///
/// An adapter has one list of the faults it knows and, when it connects, [warns](warn_of_faults) of those that its
/// server has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The first version that has it.
    pub since: Version,
    /// The first sound version of each line that was repaired, oldest first. A line is a major and a minor number.
    /// Lines above the last are sound, other lines are not.
    pub repaired: &'static [Version],
    /// The effect.
    pub what: &'static str,
    /// The workaround until the server is updated; empty if there is none.
    pub until: &'static str,
    /// Where it was found or repaired: a link.
    pub source: &'static str,
}

/// A server's version: major, minor, patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// Reads the first three numbers of a text such as `2.12.3-RC.1` or `v4.2`. Missing ones are 0. `None` if there is
    /// no number.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().trim_start_matches('v');
        let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse().ok());
        Some(Self(numbers.next()?, numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)))
    }
}

impl Fault {
    /// Whether this version has the fault.
    pub fn is_in(&self, version: Version) -> bool {
        let line = |version: Version| (version.0, version.1);
        let own = self.repaired.iter().find(|repaired| line(**repaired) == line(version));
        let sound = match own {
            Some(repaired) => version >= *repaired,
            None => self.repaired.last().is_some_and(|last| version > *last),
        };
        version >= self.since && !sound
    }
}

/// Warns of each fault that a server of this version has, with the workaround and the source. A version that cannot be
/// read has none that are known.
pub fn warn_of_faults(system: &'static str, version: &str, faults: &[Fault]) {
    let Some(found) = Version::parse(version) else { return };
    for fault in faults.iter().filter(|fault| fault.is_in(found)) {
        let Fault { what, until, source, .. } = fault;
        tracing::warn!(
            target: telemetry::TARGET,
            { messaging.system = system, version, source },
            "this version of the server has a fault: {what}; update it{}{until}",
            if until.is_empty() { "" } else { ", until then " },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAULT: Fault = Fault {
        since: Version(2, 12, 0),
        repaired: &[Version(2, 12, 8), Version(2, 14, 1)],
        what: "it forgets",
        until: "",
        source: "https://example.org/1",
    };

    #[test]
    fn a_version_is_read_with_any_text_behind_it() {
        for (text, version) in [
            ("2.12.3", Some(Version(2, 12, 3))),
            ("v4.2", Some(Version(4, 2, 0))),
            (" 4.0.13-SNAPSHOT\n", Some(Version(4, 0, 13))),
            ("2.12.0-RC.7", Some(Version(2, 12, 0))),
            ("dev", None),
        ] {
            assert_eq!(Version::parse(text), version, "{text}");
        }
    }

    #[test]
    fn a_fault_is_in_versions_older_than_the_repair_of_their_line() {
        let has = |text| FAULT.is_in(Version::parse(text).expect("a version"));
        assert!(["2.12.0", "2.12.7", "2.13.9", "2.14.0"].into_iter().all(has));
        assert!(!["2.11.9", "2.12.8", "2.12.20", "2.14.1", "2.15.0", "3.0.0"].into_iter().any(has));
    }
}
