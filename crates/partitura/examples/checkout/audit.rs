use std::collections::HashMap;
use std::io;
use std::path::Path;

use crate::ledger::Ledger;
use crate::orders::{Cents, Order, OrderId};
use crate::report::Outcome;
use crate::services::inventory::{Movement, Stockroom};
use crate::services::notifications::{Letter, Mailer, Sent};
use crate::services::payments::{Acquirer, Posting};
use crate::services::shipping::{Booking, Couriers};

/// Whether the services' ledgers, read again from disk, agree with what the workflows say.
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

/// What the ledgers say of one order.
#[derive(Debug, Clone, Default, PartialEq)]
struct Account {
    charges: Vec<u64>,
    refunds: Vec<u64>,
    reserved: Vec<u32>,
    released: Vec<u32>,
    shipments: usize,
    good_news: usize,
    apologies: usize,
}

impl Audit {
    /// `outcomes` are those of `orders`, in the same order. What the ledgers hold of other runs' orders is left alone.
    pub fn of(ledgers: &Path, orders: &[Order], outcomes: &[Option<Outcome>]) -> io::Result<Self> {
        let accounts = accounts(ledgers)?;
        let nothing = Account::default();
        let mut audit = Self { charged: 0, refunded: 0, owed: 0, mismatches: Vec::new() };
        for (order, outcome) in orders.iter().zip(outcomes) {
            let account = accounts.get(&order.id).unwrap_or(&nothing);
            audit.charged += sum(&account.charges);
            audit.refunded += sum(&account.refunds);
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
    fn problem(&self, order: &Order, outcome: &Outcome) -> Option<String> {
        let fits = match outcome {
            Outcome::Completed => *self == Self::of_completed(order),
            Outcome::Compensated(_) => self.is_undone() && self.apologies == 1,
            // Where it stopped is anyone's guess; twice is wrong anyhow.
            Outcome::Failed(_) => self.charges.len() <= 1 && self.reserved.len() <= 1 && self.shipments <= 1,
        };
        (!fits).then(|| format!("it {outcome}, but the ledgers say {self:?}, for {order:?}"))
    }

    /// Everything once, and nothing taken back.
    fn of_completed(order: &Order) -> Self {
        Self {
            charges: vec![order.total.0],
            reserved: vec![order.units],
            shipments: 1,
            good_news: 1,
            ..Self::default()
        }
    }

    /// Done once at most, and taken back as often.
    fn is_undone(&self) -> bool {
        let money = self.charges.len() <= 1 && self.charges == self.refunds;
        let stock = self.reserved.len() <= 1 && self.reserved == self.released;
        money && stock && self.shipments == 0 && self.good_news == 0
    }
}

fn sum(amounts: &[u64]) -> u128 {
    amounts.iter().map(|amount| u128::from(*amount)).sum()
}

fn accounts(ledgers: &Path) -> io::Result<HashMap<OrderId, Account>> {
    let mut accounts: HashMap<OrderId, Account> = HashMap::new();
    for movement in Ledger::read(&ledgers.join(Stockroom::LEDGER))? {
        match movement {
            Movement::Reserved { order, units } => accounts.entry(order).or_default().reserved.push(units),
            Movement::Released { order, units } => accounts.entry(order).or_default().released.push(units),
        }
    }
    for posting in Ledger::read(&ledgers.join(Acquirer::LEDGER))? {
        match posting {
            Posting::Charged { order, amount: Cents(cents) } => accounts.entry(order).or_default().charges.push(cents),
            Posting::Refunded { order, amount: Cents(cents) } => accounts.entry(order).or_default().refunds.push(cents),
        }
    }
    for Booking { order, .. } in Ledger::read(&ledgers.join(Couriers::LEDGER))? {
        accounts.entry(order).or_default().shipments += 1;
    }
    for Sent { order, letter } in Ledger::read(&ledgers.join(Mailer::LEDGER))? {
        let account = accounts.entry(order).or_default();
        match letter {
            Letter::OnItsWay(_) => account.good_news += 1,
            Letter::Apology => account.apologies += 1,
        }
    }
    Ok(accounts)
}
