//! The workloads and their sizes: those of the other engines' benchmarks, unless the command line sets others.

use clap::ValueEnum;

/// The names for the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Name {
    /// Three trivial tasks, one after the other; measured from the start to the result.
    Seq,
    /// Twenty trivial tasks at once, all awaited; measured from the start to the result.
    Fan,
    /// A durable timer of one second in each of many instances at once; measures its lateness inside the workflow.
    Timer,
    /// Waiting instances get a signal; measured from the signal to the result.
    Signal,
    /// The calls of the store in ten seconds without work; needs --store.
    Rest,
    /// All of these; the last one only if there is a store.
    Engine,
}

impl Name {
    fn workloads(self) -> &'static [Workload] {
        match self {
            Self::Seq => &[Workload::Seq],
            Self::Fan => &[Workload::Fan],
            Self::Timer => &[Workload::Timer],
            Self::Signal => &[Workload::Signal],
            Self::Rest => &[],
            Self::Engine => &[Workload::Seq, Workload::Fan, Workload::Timer, Workload::Signal],
        }
    }
}

/// A kind of work, as the other engines' benchmarks define it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workload {
    Seq,
    Fan,
    Timer,
    Signal,
}

impl Workload {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Seq => "seq",
            Self::Fan => "fan",
            Self::Timer => "timer",
            Self::Signal => "signal",
        }
    }

    /// The numbers in flight and in all.
    fn sizes(self) -> &'static [(usize, usize)] {
        match self {
            Self::Seq => &[(1, 300), (50, 4_000), (500, 4_000)],
            Self::Fan => &[(50, 1_000)],
            Self::Timer => &[(2_000, 2_000)],
            Self::Signal => &[(50, 3_000)],
        }
    }

    /// The default number of requests before the clock starts.
    fn warmup(self, in_flight: usize, n: usize) -> usize {
        match self {
            Self::Seq => n / 10 + in_flight,
            Self::Fan => n / 10,
            Self::Timer | Self::Signal => 0,
        }
    }
}

/// Sizes from the command line, in place of the usual ones.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Sizes {
    /// Requests in flight; several, with commas, to measure each.
    #[arg(long, visible_alias = "in-flight", value_delimiter = ',')]
    concurrency: Vec<usize>,
    /// Requests in all.
    #[arg(long)]
    n: Option<usize>,
    /// Requests before the clock starts.
    #[arg(long)]
    warmup: Option<usize>,
}

/// One figure to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) workload: Workload,
    pub(crate) in_flight: usize,
    pub(crate) n: usize,
    pub(crate) warmup: usize,
}

/// Whether the calls of the store without work are one of the figures.
pub(crate) fn rests(names: &[Name]) -> bool {
    names.is_empty() || names.iter().any(|name| matches!(name, Name::Rest | Name::Engine))
}

/// The figures to take, in order; without a name, all.
pub(crate) fn plans(names: &[Name], sizes: &Sizes) -> Vec<Plan> {
    let names = if names.is_empty() { &[Name::Engine] } else { names };
    names.iter().flat_map(|name| name.workloads()).flat_map(|workload| plans_of(*workload, sizes)).collect()
}

fn plans_of(workload: Workload, sizes: &Sizes) -> Vec<Plan> {
    let usual = workload.sizes();
    let largest = usual.iter().map(|(_, n)| *n).max().unwrap_or_default();
    let in_flight: Vec<(usize, usize)> = match sizes.concurrency.as_slice() {
        // All timers run at once, unlike the other workloads.
        _ if workload == Workload::Timer => vec![(sizes.n.unwrap_or(largest), largest)],
        [] => usual.to_vec(),
        given => given.iter().map(|in_flight| (*in_flight, largest)).collect(),
    };
    let plan = |(in_flight, n): (usize, usize)| {
        let n = sizes.n.unwrap_or(n);
        Plan { workload, in_flight, n, warmup: sizes.warmup.unwrap_or_else(|| workload.warmup(in_flight, n)) }
    };
    in_flight.into_iter().map(plan).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_word_the_peers_sizes_are_measured() {
        let all = plans(&[], &Sizes::default());
        let of: Vec<_> = all.iter().map(|plan| (plan.workload.name(), plan.in_flight, plan.n, plan.warmup)).collect();
        assert_eq!(
            of,
            [
                ("seq", 1, 300, 31),
                ("seq", 50, 4_000, 450),
                ("seq", 500, 4_000, 900),
                ("fan", 50, 1_000, 100),
                ("timer", 2_000, 2_000, 0),
                ("signal", 50, 3_000, 0),
            ]
        );
    }

    #[test]
    fn sizes_given_replace_the_usual_ones() {
        let sizes = Sizes { concurrency: vec![2, 8], n: Some(10), warmup: Some(1) };
        let of = |name| {
            let plans = plans(&[name], &sizes);
            plans.into_iter().map(|plan| (plan.in_flight, plan.n, plan.warmup)).collect::<Vec<_>>()
        };
        assert_eq!(of(Name::Seq), [(2, 10, 1), (8, 10, 1)]);
        assert_eq!(of(Name::Timer), [(10, 10, 1)]);
    }
}
