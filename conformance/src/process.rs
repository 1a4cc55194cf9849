//! Other processes that run a part of a case, and are killed.

use std::io::BufRead;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::history::{Entry, Record};
use crate::mutants::{self, Mutant, Subject};
use crate::{Case, Env, Harness, Recorder, Stop};

/// The environment variable that makes this process a part of a case: see [`Role`].
const ROLE: &str = "PARTITURA_CONFORMANCE_PART";

/// A running process.
#[derive(Debug)]
pub(crate) struct Part {
    child: Child,
    number: u32,
    reader: JoinHandle<()>,
    recorder: Recorder,
}

impl Part {
    /// Starts this binary again, to run `part`.
    pub(crate) async fn start(env: &Env, part: &str, number: u32) -> Result<Self, Stop> {
        let Some(processes) = env.harness.processes() else {
            return Err(Stop("the case starts a process and does not say that it needs to".into()));
        };
        let (broker, variant) = (env.harness.broker(), env.harness.variant());
        let role = [
            broker,
            variant,
            env.case.id,
            part,
            &env.namespace,
            &number.to_string(),
            &env.recorder.origin().to_string(),
            env.subject.mutant().map_or("", |mutant| mutant.name),
        ];
        let mut child = Command::new(std::env::current_exe()?)
            .env(ROLE, role.join("\n"))
            .envs(processes.environment())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let recorder = env.recorder.clone();
        let mut lines = BufReader::new(child.stdout.take().ok_or("the process has no output")?).lines();
        let reader = tokio::spawn(async move {
            // The last line of a killed process may be half a line.
            while let Ok(Some(line)) = lines.next_line().await {
                match serde_json::from_str::<Entry>(&line) {
                    Ok(entry) => recorder.take_up(entry),
                    Err(_) => break,
                }
            }
        });
        Ok(Self { child, number, reader, recorder: env.recorder.clone() })
    }

    /// Kills the process (SIGKILL), and reads the rest of its entries.
    pub(crate) async fn kill(mut self) -> Result<(), Stop> {
        self.child.start_kill()?;
        self.child.wait().await?;
        self.reader.await.map_err(|error| error.to_string())?;
        // The death is noted after all entries of the process, since it has done what they say.
        self.recorder.note_of(self.number, Record::Killed);
        Ok(())
    }
}

/// The part that this process runs.
pub(crate) struct Role {
    harness: Arc<dyn Harness>,
    case: &'static Case,
    part: String,
    namespace: String,
    number: u32,
    origin: u64,
    mutant: Option<&'static Mutant>,
}

impl Role {
    /// Returns the part, if this process is one.
    pub(crate) fn of_this_process(harnesses: &[Arc<dyn Harness>]) -> Option<Result<Self, String>> {
        let role = std::env::var(ROLE).ok()?;
        let parse = || {
            let parts: Vec<&str> = role.split('\n').collect();
            let [broker, variant, case, part, namespace, number, origin, mutant] = parts[..] else { return None };
            Some(Self {
                harness: harnesses.iter().find(|h| h.broker() == broker && h.variant() == variant)?.clone(),
                case: crate::cases::all().find(|known| known.id == case)?,
                part: part.to_owned(),
                namespace: namespace.to_owned(),
                number: number.parse().ok()?,
                origin: origin.parse().ok()?,
                mutant: mutants::named(mutant),
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
        let Self { harness, case, part, namespace, number, origin, mutant } = self;
        let (_, play) = case.parts.iter().find(|(name, _)| *name == part).ok_or("no such part")?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(async {
            let capabilities = harness.connect(&format!("{namespace}-capabilities")).await?.capabilities().clone();
            let patience = harness.patience();
            let env = Env {
                case,
                harness,
                namespace,
                capabilities,
                recorder: Recorder::of_child(number, origin),
                patience,
                subject: mutant.map_or(Subject::Broker, Subject::Broken),
                processes: AtomicU32::new(0),
                lateness: Default::default(),
            };
            play(&env).await
        })
    }
}
