use proptest::prelude::*;

pub(super) const KEYS: u8 = 4;

#[derive(Debug, Clone)]
pub(super) enum Step {
    Publish { key: u8, kills: bool },
    Deliver { parking: bool, partition: u8, count: u8 },
    Begin,
    End { which: u8, how: How },
    Park { succeeds: bool, stored: bool },
    Bury { confirmed: bool },
    Mark { confirmed: bool },
    Pass(u16),
    Lose(u8),
    Revoke(u8),
    Crash,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum How {
    Done,
    Retry,
    Dead,
}

fn step() -> impl Strategy<Value = Step> {
    let how = prop_oneof![4 => Just(How::Done), 3 => Just(How::Retry), 1 => Just(How::Dead)];
    prop_oneof![
        12 => (0..KEYS).prop_map(|key| Step::Publish { key, kills: false }),
        16 => (any::<bool>(), 0..2u8, 1..6u8).prop_map(|(parking, partition, count)| Step::Deliver { parking, partition, count }),
        12 => Just(Step::Begin),
        16 => (any::<u8>(), how).prop_map(|(which, how)| Step::End { which, how }),
        6 => Just(Step::Park { succeeds: true, stored: true }),
        2 => any::<bool>().prop_map(|stored| Step::Park { succeeds: false, stored }),
        3 => Just(Step::Bury { confirmed: true }),
        1 => Just(Step::Bury { confirmed: false }),
        4 => Just(Step::Mark { confirmed: true }),
        1 => Just(Step::Mark { confirmed: false }),
        6 => (1..600u16).prop_map(Step::Pass),
        1 => (0..2u8).prop_map(Step::Lose),
        1 => (0..2u8).prop_map(Step::Revoke),
        1 => Just(Step::Crash),
    ]
}

impl Step {
    pub(super) fn is_fault(&self) -> bool {
        match self {
            Self::Park { succeeds, .. } => !succeeds,
            Self::Bury { confirmed } | Self::Mark { confirmed } => !confirmed,
            Self::Lose(_) | Self::Revoke(_) | Self::Crash => true,
            _ => false,
        }
    }
}

/// Publishes a message that ends its process with each of these keys, at moments that are spread over `steps`.
pub(super) fn with_killers(steps: Vec<Step>, killers: &[u8]) -> Vec<Step> {
    let every = steps.len() / (killers.len() + 1) + 1;
    let mut killers = killers.iter();
    let mut mixed = Vec::new();
    for (at, step) in steps.into_iter().enumerate() {
        if at % every == every - 1 {
            mixed.extend(killers.next().map(|key| Step::Publish { key: *key, kills: true }));
        }
        mixed.push(step);
    }
    mixed.extend(killers.map(|key| Step::Publish { key: *key, kills: true }));
    mixed
}

/// Up to 300 steps.
pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(step(), 1..300)
}
