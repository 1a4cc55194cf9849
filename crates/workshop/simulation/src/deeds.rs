//! Carries out the deeds of the agenda.

use crate::agenda::Deed;
use crate::model::process::ProcessState;
use crate::plan::Mishap;
use crate::world::State;

impl State {
    /// Plans a deed after this many milliseconds.
    pub(crate) fn later(&mut self, after: u64, deed: Deed) {
        let at = self.now() + after;
        self.agenda.add(at, deed);
    }

    pub(crate) fn perform(&mut self, deed: Deed) {
        match deed {
            Deed::EndSession { process } => self.end_session(process),
            Deed::EndRevoking { group, partition, epoch } => self.end_revoking(group, partition, epoch),
            Deed::Settle { member } => self.settlements_arrive(member),
            Deed::Return { member } => self.bring_back(member),
            Deed::Resume { process } => self.resume(process),
            Deed::Retire { process } => {
                let now = self.now();
                self.processes[process].ask_to_leave(now);
            }
            Deed::Store { message } => {
                // The topic existed when the first copy came.
                let _ = self.store(message, false);
            }
            Deed::Mishap => {
                self.befall();
                self.plan_mishap();
            }
            Deed::Calm => self.calm_down(),
        }
    }

    pub(crate) fn plan_mishap(&mut self) {
        if let Some(interval) = self.plan.mishap_every.filter(|_| self.chaos) {
            let after = self.random.between(1, 2 * interval);
            self.later(after, Deed::Mishap);
        }
    }

    /// Lets an incident happen to a random process, or to all of them.
    fn befall(&mut self) {
        let mishaps = self.plan.mishaps.clone();
        let mishap = self.random.pick(&mishaps);
        let mortal = |process: &usize| self.processes[*process].is_mortal();
        let victims: Vec<usize> = (0..self.processes.len()).filter(mortal).collect();
        if victims.is_empty() || !self.chaos {
            return;
        }
        let victim = self.random.pick(&victims);
        let name = self.processes[victim].name.clone();
        match mishap {
            Mishap::Pause => {
                let longest = self.plan.session * 3;
                let pause = self.random.between(10, longest);
                self.note(&name, format_args!("stands still for {pause} ms"));
                self.pause(victim, pause);
            }
            Mishap::Zombie => {
                let after = self.random.between(10, 8_000);
                self.note(&name, format_args!("is a zombie for {after} ms"));
                self.cut_off(victim, after);
            }
            Mishap::Disconnect => {
                self.note(&name, format_args!("is disconnected"));
                self.cut_off(victim, 0);
            }
            Mishap::Rebalance => {
                self.note("broker", format_args!("rebalances"));
                for group in 0..self.groups.len() {
                    self.groups[group].offset += 1;
                    self.balance(group);
                }
            }
            Mishap::TakeBack => (0..self.groups.len()).for_each(|group| self.take_back(group)),
            Mishap::ClockJump => {
                let jump = self.random.pick(&[1, 50, 1_000, 30_000]);
                self.jumped += jump;
                self.note("clock", format_args!("jumps {jump} ms ahead"));
                self.wake_all();
            }
            Mishap::ClockSkew => {
                let jump = self.random.pick(&[1, 50, 1_000, 30_000]);
                let jump = if self.random.coin() { jump } else { -jump };
                self.note(&name, format_args!("has its clock put forward by {jump} ms"));
                self.put_clock_forward(victim, jump);
            }
            Mishap::Shutdown => {
                self.note(&name, format_args!("is asked to shut down"));
                let now = self.now();
                self.processes[victim].ask_to_leave(now);
            }
        }
    }

    /// Puts the clock of a client's process past a moment for which it has planned something, where clocks are put
    /// forward. Whether it did.
    pub(crate) fn client_is_ahead(&mut self, id: &str, by: u64) -> bool {
        let may = by > 0 && self.chaos && self.plan.mishap_every.is_some();
        if !may || !self.plan.mishaps.contains(&Mishap::ClockSkew) || self.random.coin() {
            return false;
        }
        let is_of = |process: &ProcessState| process.is_mortal() && process.name.starts_with(&format!("{id}/"));
        let Some(process) = self.processes.iter().rposition(is_of) else { return false };
        self.note(id, format_args!("has its clock put forward by {by} ms"));
        self.put_clock_forward(process, i64::try_from(by).unwrap_or(i64::MAX));
        true
    }

    fn calm_down(&mut self) {
        self.note("world", format_args!("calms down"));
        self.chaos = false;
        for process in 0..self.processes.len() {
            self.resume(process);
            self.processes[process].calm_down();
            if self.processes[process].is_outdated() {
                let after = self.random.between(0, 20_000);
                self.later(after, Deed::Retire { process });
            }
        }
    }
}
