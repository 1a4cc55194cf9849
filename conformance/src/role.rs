//! The part of a case that a process runs which was started for it.

use std::io::BufRead;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use crate::mutants::{self, Mutant};
use crate::process::ROLE;
use crate::subject::Subject;
use crate::{Case, Env, Harness, Recorder, Stop};

/// The part that this process runs.
pub(crate) struct Role {
    harness: Arc<dyn Harness>,
    case: &'static Case,
    part: String,
    namespace: String,
    number: u32,
    origin: u64,
    mutant: Option<&'static Mutant>,
    seed: u64,
}

impl Role {
    /// Returns the part, if this process is one.
    pub(crate) fn of_this_process(harnesses: &[Arc<dyn Harness>]) -> Option<Result<Self, String>> {
        let role = std::env::var(ROLE).ok()?;
        let parse = || {
            let parts: Vec<&str> = role.split('\n').collect();
            let [broker, variant, case, part, namespace, number, origin, mutant, seed] = parts[..] else { return None };
            Some(Self {
                harness: harnesses.iter().find(|h| h.broker() == broker && h.variant() == variant)?.clone(),
                case: crate::cases::all().find(|known| known.id == case)?,
                part: part.to_owned(),
                namespace: namespace.to_owned(),
                number: number.parse().ok()?,
                origin: origin.parse().ok()?,
                mutant: mutants::named(mutant),
                seed: seed.parse().ok()?,
            })
        };
        Some(parse().ok_or_else(|| format!("there is no such part: {role:?}")))
    }

    /// Runs the part. The process that started it reads its output, and it ends when that process is gone.
    pub(crate) fn play(self) -> Result<(), Stop> {
        std::thread::spawn(|| {
            // Ends with the process that holds the other end.
            std::io::stdin().lock().lines().for_each(drop);
            std::process::exit(0);
        });
        let Self { harness, case, part, namespace, number, origin, mutant, seed } = self;
        let (_, play) = case.parts.iter().find(|(name, _)| *name == part).ok_or("no such part")?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(async {
            let capabilities = harness.connect(&format!("{namespace}-capabilities")).await?.capabilities().clone();
            let time_limit = harness.time_limit();
            let env = Env {
                case: case.id,
                harness,
                namespace,
                capabilities,
                recorder: Recorder::of_child(number, origin),
                time_limit,
                seed,
                subject: mutant.map_or(Subject::BROKER, Mutant::broken),
                processes: AtomicU32::new(0),
                lateness: Default::default(),
            };
            play(&env).await
        })
    }
}
