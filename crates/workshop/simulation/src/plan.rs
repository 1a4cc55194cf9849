use partitura_broker::ErrorKind;

use crate::random::Random;

/// The number of crashes with which a task is given up that ends its process.
pub(crate) const CRASHES: u32 = 5;

/// The bytes of a payload in worlds where that is little.
pub(crate) const LITTLE: usize = 4 << 10;

/// The faults of a world, drawn from its seed.
///
/// Each kind of fault is in some worlds only: a world with all faults hides bugs that one fault alone would show
/// ("swarm testing", Groce et al. 2012). Rates are in thousandths, times in milliseconds.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// There are no faults: requests take time, and workers join, leave and share as in normal operation.
    pub(crate) faultless: bool,
    /// A task, or a turn, ends the process that runs it, each time; a turn until the end of the faults. There are no
    /// other faults, and no operator before that.
    pub(crate) poison: bool,
    /// The part that keeps the state of workflows.
    pub(crate) state_in: StateIn,
    pub(crate) workers: usize,
    pub(crate) partitions: u32,
    /// Instances that a worker keeps in memory.
    pub(crate) cache: usize,
    pub(crate) concurrency: usize,
    /// Faults stop after this long.
    pub(crate) chaos: u64,
    /// The longest time of an ordinary request.
    pub(crate) latency: u64,
    /// The longest time until a stored message is visible.
    pub(crate) visible_after: u64,
    /// The longest time until a settlement is sent.
    pub(crate) settle_after: u64,
    /// The time by which delayed messages may come too early.
    pub(crate) early: u64,
    /// Requests that fail without effect, and those whose outcome is unknown.
    pub(crate) refused: u64,
    pub(crate) unknown: u64,
    /// Reads that fail.
    pub(crate) unread: u64,
    /// Messages that are stored twice.
    pub(crate) duplicated: u64,
    /// Keys that a batch of deliveries passes over.
    pub(crate) passed_over: u64,
    /// The part that gives final errors, until it is mended.
    pub(crate) broken: Option<Broken>,
    /// Replies that do not arrive.
    pub(crate) lost_replies: u64,
    /// A process dies after about this many effects.
    pub(crate) crash_after: Option<u64>,
    /// Whether clients die, too.
    pub(crate) clients_crash: bool,
    /// The generations of code of the workers, until the last is rolled out.
    pub(crate) generations: Vec<Generation>,
    /// The mean interval between the actions of an operator.
    pub(crate) operator: Option<u64>,
    /// Whether that operator deletes instances that have ended.
    pub(crate) deletes: bool,
    /// How many bytes the payload of a message may have, where that is little.
    pub(crate) payload: Option<usize>,
    /// The mean interval between the pauses of workflows, of the service and of its methods.
    pub(crate) pauses: Option<u64>,
    /// The mean interval between incidents of a process or of the subscription, and their kinds.
    pub(crate) mishap_every: Option<u64>,
    pub(crate) mishaps: Vec<Mishap>,
    /// The time for which a lost process keeps its partitions.
    pub(crate) session: u64,
}

/// The part that keeps the state of workflows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StateIn {
    /// The broker: settlement, messages and values are one commit.
    Broker,
    /// A store, beside a broker without transactions.
    Store,
    /// A store, beside a broker that has them: services use them.
    Both,
}

/// The generation of a worker's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Generation {
    /// The first code. It has a flaw, and panics where its input says so; it does not have the change.
    Old,
    /// Without the flaw, and with a change that takes no account of older instances.
    Hasty,
    /// That is corrected, too. In the end all workers have this code.
    Fixed,
}

impl Generation {
    pub(crate) const ALL: [Self; 3] = [Self::Old, Self::Hasty, Self::Fixed];
}

/// The part that gives final errors while there are faults, and is mended then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Publishing tasks is refused.
    Tasks(ErrorKind),
    /// The history of the first instance cannot be read: it is damaged.
    Damaged,
    /// It was written by a newer engine.
    Newer,
}

impl Broken {
    const ALL: &[Self] =
        &[Self::Tasks(ErrorKind::Unauthorized), Self::Tasks(ErrorKind::NotFound), Self::Damaged, Self::Newer];
}

/// An incident that happens now and then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// A process pauses, perhaps for longer than its session.
    Pause,
    /// The broker takes all partitions from a process, which is not told for a while and goes on.
    Zombie,
    /// A connection is lost, and both sides know it at once.
    Disconnect,
    /// Partitions get other owners.
    Rebalance,
    /// In each shared subscription the delivery that was held longest goes to another member.
    TakeBack,
    /// The wall clock of all processes jumps.
    ClockJump,
    /// The clock of one process is put forward or back.
    ClockSkew,
    /// A process is shut down in good order.
    Shutdown,
}

impl Mishap {
    const ALL: &[Self] = &[
        Self::Pause,
        Self::Zombie,
        Self::Disconnect,
        Self::Rebalance,
        Self::TakeBack,
        Self::ClockJump,
        Self::ClockSkew,
        Self::Shutdown,
    ];
    /// The incidents that are no faults.
    const EVERYDAY: &[Self] = &[Self::Rebalance, Self::Shutdown];
}

impl Plan {
    /// The time for which a leaving worker waits for running calls, in milliseconds. Without faults only calls that go
    /// on until they are told to end are cut short.
    pub(crate) fn drain_within(&self) -> u64 {
        if self.faultless { 30_000 } else { 2_000 }
    }

    /// With how many crashes a task or a turn is given up. Processes die for no fault of the code that they run, unless
    /// it is poison. Without faults none dies, and the requests of the count would keep questions waiting behind
    /// commands that were handed over for longer than they are asked.
    pub(crate) fn crashes(&self) -> u32 {
        match self {
            Self { faultless: true, .. } => 0,
            Self { poison: true, .. } => CRASHES,
            _ => u32::MAX,
        }
    }

    /// Whether the history of the first instance cannot be read for a while.
    pub(crate) fn breaks_history(&self) -> bool {
        matches!(self.broken, Some(Broken::Damaged | Broken::Newer))
    }

    pub(crate) fn draw(random: &mut Random) -> Self {
        let faultless = random.chance(250);
        let poison = !faultless && random.chance(60);
        let calm = faultless || poison;
        let mut rate = |choices: &[u64]| {
            let wanted = random.chance(550) && !calm;
            let rate = random.pick(choices);
            if wanted { rate } else { 0 }
        };
        let (refused, unknown, unread) = (rate(&[5, 20, 80]), rate(&[5, 20, 80]), rate(&[5, 20, 80]));
        let duplicated = rate(&[10, 50, 200]);
        let (lost_replies, early) = (rate(&[50, 300, 800]), rate(&[1, 50, 3_000]));
        let crash_after = Some(rate(&[20, 60, 200, 600])).filter(|effects| *effects > 0);
        let mishap_every = Some(rate(&[150, 500, 2_000, 5_000])).filter(|interval| *interval > 0);
        let everyday = Some(random.pick(&[0, 500, 2_000, 5_000])).filter(|interval| *interval > 0 && faultless);
        let kinds = if faultless { Mishap::EVERYDAY } else { Mishap::ALL };
        let passed_over = random.pick(&[0, 0, 100, 500]);
        let broken = Some(random.pick(Broken::ALL)).filter(|_| random.chance(150) && !calm);
        // Only an operator ends an instance that cannot be read.
        let unreadable = matches!(broken, Some(Broken::Damaged | Broken::Newer));
        let mut mishaps: Vec<_> = kinds.iter().copied().filter(|_| random.coin()).collect();
        if mishaps.is_empty() {
            mishaps.push(random.pick(kinds));
        }
        let mut generations: Vec<_> = Generation::ALL.into_iter().filter(|_| random.coin() && !calm).collect();
        if generations.is_empty() {
            generations.push(Generation::Fixed);
        }
        let mut plan = Self {
            faultless,
            poison,
            state_in: random.pick(&[StateIn::Broker, StateIn::Broker, StateIn::Store, StateIn::Store, StateIn::Both]),
            workers: random.pick(&[1, 2, 2, 3]),
            partitions: random.pick(&[1, 2, 4]),
            cache: random.pick(&[1, 2, 100]),
            concurrency: random.pick(&[4, 16]),
            chaos: random.between(3_000, 25_000),
            latency: random.pick(&[0, 2, 2, 30, 400]),
            visible_after: random.pick(&[0, 5, 200]),
            settle_after: random.pick(&[0, 10, 500]),
            early,
            refused,
            unknown,
            unread,
            duplicated,
            passed_over,
            broken,
            lost_replies,
            crash_after,
            clients_crash: random.coin(),
            generations,
            operator: Some(random.pick(&[500, 3_000])).filter(|_| (random.chance(200) || unreadable) && !poison),
            mishap_every: mishap_every.or(everyday),
            mishaps,
            session: random.pick(&[200, 2_000, 6_000]),
            // Crashes of a turn are counted by its command, and an instance that is paused goes on with another.
            pauses: Some(random.pick(&[1_000, 4_000])).filter(|_| random.chance(250) && !faultless && !poison),
            deletes: random.coin(),
            payload: Some(LITTLE).filter(|_| random.chance(150) && !poison),
        };
        if plan.deletes && matches!(plan.broken, Some(Broken::Tasks(_))) {
            // The broker refuses messages of instances that are deleted then. Few are at that moment, so it comes often.
            plan.operator = Some(100);
        }
        plan
    }
}
