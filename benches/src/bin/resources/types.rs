//! A hundred types of workflows.

use partitura::{Cancelled, Cx, Worker, Workflow, days};

/// The largest number of types.
pub(crate) const MOST: usize = 100;

/// A workflow that sleeps. Its number has two digits.
#[derive(Default)]
struct Sleeper<const TENS: usize, const ONES: usize>;

impl<const TENS: usize, const ONES: usize> Workflow for Sleeper<TENS, ONES> {
    const NAME: &'static str = NAMES[10 * TENS + ONES];
    type Input = ();
    type Output = ();
    type Error = String;

    async fn run(cx: Cx<Self>, (): ()) -> Result<(), String> {
        cx.sleep(days(1)).await.map_err(|Cancelled { .. }| "cancelled".to_owned())
    }

    fn describe(error: &String) -> String {
        error.clone()
    }
}

macro_rules! types {
    ($($tens:literal)*) => {
        const NAMES: [&str; MOST] = join([$(names!($tens)),*]);

        /// Registers the first of the types.
        pub(crate) fn register(mut worker: Worker, types: usize) -> Worker {
            $(worker = ten::<$tens>(worker, types);)*
            worker
        }
    };
}

macro_rules! names {
    ($tens:literal) => {
        names!($tens: 0 1 2 3 4 5 6 7 8 9)
    };
    ($tens:literal: $($ones:literal)*) => {
        [$(concat!("Sleeper", $tens, $ones)),*]
    };
}

macro_rules! ten {
    ($($ones:literal)*) => {
        fn ten<const TENS: usize>(mut worker: Worker, types: usize) -> Worker {
            $(
                if 10 * TENS + $ones < types {
                    worker = worker.workflow::<Sleeper<TENS, $ones>>();
                }
            )*
            worker
        }
    };
}

types!(0 1 2 3 4 5 6 7 8 9);
ten!(0 1 2 3 4 5 6 7 8 9);

const fn join(names: [[&'static str; 10]; 10]) -> [&'static str; MOST] {
    let (mut all, mut at) = ([""; MOST], 0);
    while at < MOST {
        all[at] = names[at / 10][at % 10];
        at += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_a_name_of_its_own() {
        let all: std::collections::BTreeSet<_> = NAMES.into_iter().collect();
        assert_eq!(all.len(), MOST);
        assert!(all.contains("Sleeper07") && all.contains("Sleeper99"));
    }
}
