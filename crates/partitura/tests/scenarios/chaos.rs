use std::thread;
use std::time::{Duration, Instant};

use crate::problem::Problem;
use crate::process::{Figures, Process, Program};
use crate::world::World;

/// Between two kills of workers.
const PEACE: Duration = Duration::from_secs(4);
/// Without any progress for this long, it is stuck.
const TIME_LIMIT: Duration = Duration::from_secs(180);

/// Two processes that conduct the workflows, two that run the services, a client, later a third of each; and what
/// befalls them.
pub(crate) struct Chaos<'w> {
    world: &'w World,
    program: &'w Program,
    workers: Vec<(&'static str, Process)>,
    kills: usize,
    last_kill: Instant,
}

impl<'w> Chaos<'w> {
    pub(crate) fn new(world: &'w World, program: &'w Program) -> Self {
        Self { world, program, workers: Vec::new(), kills: 0, last_kill: Instant::now() }
    }

    /// Until the client has all outcomes. Gives its figures, and the workers, which are alive.
    pub(crate) fn run(mut self) -> Result<(Figures, Vec<Process>), Problem> {
        // Without a broker to share there is one process, which is client, worker and victim.
        if self.world.broker.is_some() {
            for role in ["workflows", "services", "workflows", "services"] {
                let worker = self.start(role)?;
                self.workers.push((role, worker));
            }
        }
        let mut client = self.start_client()?;
        let (mut others_joined, mut client_was_killed, mut broker_was_killed) = (false, false, false);
        let (mut begun, mut progress) = (0, Instant::now());
        loop {
            thread::sleep(Duration::from_millis(50));
            if client.ended()?.is_some() {
                match client.figures() {
                    Ok(figures) => {
                        println!("{} kills of workers", self.kills);
                        return Ok((figures, self.survivors()));
                    }
                    // The broker was away when it started.
                    Err(_) => client = self.start_client()?,
                }
            }
            if self.world.orders_begun() > begun {
                (begun, progress) = (self.world.orders_begun(), Instant::now());
            } else if progress.elapsed() > TIME_LIMIT {
                return Err(format!("stuck at {begun} entries in the stockroom:\n{}", self.said(&mut client)).into());
            }
            if !others_joined && begun > self.world.orders / 8 && !self.workers.is_empty() {
                others_joined = true;
                for role in ["workflows", "services"] {
                    let worker = self.start(role)?;
                    self.workers.push((role, worker));
                }
            }
            if !client_was_killed && begun > self.world.orders / 4 {
                client_was_killed = true;
                client.kill()?;
                client = self.start_client()?;
            }
            if !broker_was_killed && begun > self.world.orders / 2 {
                broker_was_killed = true;
                self.world.restart_broker()?;
            }
            self.trouble_a_worker()?;
        }
    }

    fn start(&self, role: &'static str) -> Result<Process, Problem> {
        let mut arguments = self.world.arguments();
        arguments.extend(["--role".to_owned(), role.to_owned()]);
        self.program.start(role, &arguments)
    }

    fn start_client(&self) -> Result<Process, Problem> {
        let role = if self.world.broker.is_some() { "client" } else { "all" };
        let orders = self.world.orders.to_string();
        let mut arguments = self.world.arguments();
        arguments.extend(["--role", role, "--orders", &orders, "--json"].map(str::to_owned));
        self.program.start(role, &arguments)
    }

    /// Kills the next worker in turn, now and then, and replaces those that are gone: killed, or ended because the
    /// broker was away when it started.
    fn trouble_a_worker(&mut self) -> Result<(), Problem> {
        if self.last_kill.elapsed() > PEACE && !self.workers.is_empty() {
            let victim = self.kills % self.workers.len();
            self.workers[victim].1.kill()?;
            self.kills += 1;
            self.last_kill = Instant::now();
        }
        for at in 0..self.workers.len() {
            if self.workers[at].1.ended()?.is_some() {
                let role = self.workers[at].0;
                self.workers[at].1 = self.start(role)?;
            }
        }
        Ok(())
    }

    fn survivors(&mut self) -> Vec<Process> {
        std::mem::take(&mut self.workers).into_iter().map(|(_, worker)| worker).collect()
    }

    fn said(&mut self, client: &mut Process) -> String {
        let mut said = format!("client: {}\n", client.said());
        for (role, worker) in &mut self.workers {
            said += &format!("{role}: {}\n", worker.said());
        }
        said
    }
}
