use std::collections::HashMap;
use std::io;
use std::path::Path;

use crate::ledger::Ledger;
use crate::orders::{Cents, Order, OrderId};
use crate::outcome::Outcome;
use crate::services::inventory::{Movement, Stockroom};
use crate::services::notifications::{Letter, Mailer, Sent};
use crate::services::payments::{Acquirer, Posting};
use crate::services::shipping::{Booking, Couriers};

/// Whether the services' ledgers, read again from disk, agree with what the workflows say, and whether everything was
/// done once, and in the order in which the workflow does it.
#[derive(Debug)]
pub struct Audit {
    /// Over the orders of this run, in cents.
    pub charged: u128,
    pub refunded: u128,
    /// Of completed orders, in cents.
    pub owed: u128,
    /// One sentence for each disagreement.
    pub mismatches: Vec<String>,
}

/// The effects for one order, in the order in which they were done: each entry has its place among those of all ledgers.
#[derive(Debug, Clone, Default)]
struct Account(Vec<(u64, Step)>);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Reserved(u32),
    Charged(Cents),
    Booked,
    Announced,
    Refunded(Cents),
    Released(u32),
    Apologized,
}

impl Audit {
    /// `outcomes` are those of `orders`, in the same order. Entries about orders of other runs are left alone.
    pub fn compare(ledgers: &Path, orders: &[Order], outcomes: &[Option<Outcome>]) -> io::Result<Self> {
        let accounts = accounts(ledgers)?;
        let nothing = Account::default();
        let mut audit = Self { charged: 0, refunded: 0, owed: 0, mismatches: Vec::new() };
        for (order, outcome) in orders.iter().zip(outcomes) {
            let account = accounts.get(&order.id).unwrap_or(&nothing);
            for step in account.steps() {
                match step {
                    Step::Charged(amount) => audit.charged += u128::from(amount.0),
                    Step::Refunded(amount) => audit.refunded += u128::from(amount.0),
                    _ => {}
                }
            }
            if matches!(outcome, Some(Outcome::Completed)) {
                audit.owed += u128::from(order.total.0);
            }
            let problem = outcome.as_ref().and_then(|outcome| account.problem(order, outcome));
            audit.mismatches.extend(problem.map(|problem| format!("order {}: {problem}", order.id)));
        }
        if audit.mismatches.is_empty() && audit.charged - audit.refunded != audit.owed {
            audit.mismatches.push("money was taken for orders that did not end".to_owned());
        }
        Ok(audit)
    }

    pub fn reconciled(&self) -> bool {
        self.mismatches.is_empty()
    }
}

impl Account {
    fn steps(&self) -> impl Iterator<Item = Step> {
        self.0.iter().map(|(_, step)| *step)
    }

    fn problem(&self, order: &Order, outcome: &Outcome) -> Option<String> {
        let steps: Vec<Step> = self.steps().collect();
        let fits = match outcome {
            Outcome::Completed => steps == completed(order),
            Outcome::Compensated(_) => (0..=2).any(|far| steps == compensated(order, far)),
            // Where it stopped is anyone's guess; twice is wrong anyhow.
            Outcome::Failed(_) => (1..steps.len()).all(|at| !steps[..at].contains(&steps[at])),
        };
        (!fits).then(|| format!("it {outcome}, but the ledgers say {steps:?}, for {order:?}"))
    }
}

/// Everything once, one after the other, and nothing taken back.
fn completed(order: &Order) -> Vec<Step> {
    vec![Step::Reserved(order.units), Step::Charged(order.total), Step::Booked, Step::Announced]
}

/// The first `far` things done, the same taken back in reverse, and an apology.
fn compensated(order: &Order, far: usize) -> Vec<Step> {
    let done = [Step::Reserved(order.units), Step::Charged(order.total)];
    let undone = [Step::Released(order.units), Step::Refunded(order.total)];
    let both = done.into_iter().take(far).chain(undone.into_iter().take(far).rev());
    both.chain([Step::Apologized]).collect()
}

fn accounts(ledgers: &Path) -> io::Result<HashMap<OrderId, Account>> {
    let mut accounts: HashMap<OrderId, Account> = HashMap::new();
    let mut note = |order: OrderId, place: u64, step: Step| accounts.entry(order).or_default().0.push((place, step));
    for (place, movement) in Ledger::read(&ledgers.join(Stockroom::LEDGER))? {
        match movement {
            Movement::Reserved { order, units } => note(order, place, Step::Reserved(units)),
            Movement::Released { order, units } => note(order, place, Step::Released(units)),
        }
    }
    for (place, posting) in Ledger::read(&ledgers.join(Acquirer::LEDGER))? {
        match posting {
            Posting::Charged { order, amount } => note(order, place, Step::Charged(amount)),
            Posting::Refunded { order, amount } => note(order, place, Step::Refunded(amount)),
        }
    }
    for (place, Booking { order, .. }) in Ledger::read(&ledgers.join(Couriers::LEDGER))? {
        note(order, place, Step::Booked);
    }
    for (place, Sent { order, letter }) in Ledger::read(&ledgers.join(Mailer::LEDGER))? {
        match letter {
            Letter::OnItsWay(_) => note(order, place, Step::Announced),
            Letter::Apology => note(order, place, Step::Apologized),
        }
    }
    accounts.values_mut().for_each(|account| account.0.sort_by_key(|(place, _)| *place));
    Ok(accounts)
}
