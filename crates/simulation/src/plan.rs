use partitura_broker::ErrorKind;

use crate::catalogue::changed::Generation;
use crate::random::Random;

/// How a world goes wrong, drawn from its seed.
///
/// Each kind of fault is there in some worlds only: a world in which everything goes wrong at once hides what one fault
/// alone would show ("swarm testing", Groce et al. 2012). Rates are in thousandths, times in milliseconds.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Nothing goes wrong: requests take their time, and workers join, leave and share as they do every day.
    pub(crate) faultless: bool,
    /// Who keeps the state of workflows.
    pub(crate) keeper: Keeper,
    pub(crate) workers: usize,
    pub(crate) partitions: u32,
    /// Instances that a worker keeps in memory.
    pub(crate) cache: usize,
    pub(crate) concurrency: usize,
    /// Faults stop after this long.
    pub(crate) chaos: u64,
    /// The longest that an ordinary request takes.
    pub(crate) latency: u64,
    /// The longest that a stored message takes to become visible.
    pub(crate) visible_after: u64,
    /// The longest that a settlement takes to be sent.
    pub(crate) settle_after: u64,
    /// How much too early delayed messages may come.
    pub(crate) early: u64,
    /// Requests that fail without effect, and those of which nobody knows.
    pub(crate) refused: u64,
    pub(crate) unknown: u64,
    /// Reads that fail.
    pub(crate) unread: u64,
    /// Messages that are stored twice.
    pub(crate) duplicated: u64,
    /// Keys that a batch of deliveries passes over.
    pub(crate) passed_over: u64,
    /// What is refused as if for good, until somebody mends it.
    pub(crate) broken: Option<Broken>,
    /// Replies that do not arrive.
    pub(crate) lost_replies: u64,
    /// A process dies after about so many effects.
    pub(crate) crash_after: Option<u64>,
    /// Whether clients die, too.
    pub(crate) clients_crash: bool,
    /// The code that workers have until the last of it is rolled out.
    pub(crate) generations: Vec<Generation>,
    /// An operator does something about this often.
    pub(crate) operator: Option<u64>,
    /// Something befalls a process, or the subscription, about this often; and what.
    pub(crate) mishap_every: Option<u64>,
    pub(crate) mishaps: Vec<Mishap>,
    /// How long a process that has vanished keeps its partitions.
    pub(crate) session: u64,
}

/// Who keeps the state of workflows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeper {
    /// The broker: settlement, messages and values are one commit.
    Broker,
    /// A store, beside a broker without transactions.
    Store,
    /// A store, beside a broker that has them: services use them.
    Both,
}

/// What gives final errors for as long as things go wrong, and is mended then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Nobody may ask for tasks.
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

/// What befalls a world now and then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// A process stands still, perhaps for longer than its session.
    Pause,
    /// The broker takes all from a process, which does not hear of it for a while and goes on.
    Zombie,
    /// A connection is lost, and everybody hears of it at once.
    Disconnect,
    /// Partitions are wanted elsewhere.
    Rebalance,
    /// Of each shared subscription, the delivery that was held longest goes to another.
    TakeBack,
    /// The wall clock jumps, everybody's.
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
    /// What is no fault.
    const EVERYDAY: &[Self] = &[Self::Rebalance, Self::Shutdown];
}

impl Plan {
    /// How long a worker that leaves waits for what runs, in milliseconds. Where nothing goes wrong, nothing is cut short
    /// but what goes on until it is told to end.
    pub(crate) fn drain_within(&self) -> u64 {
        if self.faultless { 30_000 } else { 2_000 }
    }

    /// Whether the history of the first instance cannot be read for a while.
    pub(crate) fn breaks_history(&self) -> bool {
        matches!(self.broken, Some(Broken::Damaged | Broken::Newer))
    }

    pub(crate) fn draw(random: &mut Random) -> Self {
        let faultless = random.chance(250);
        let mut rate = |choices: &[u64]| {
            let wanted = random.chance(550) && !faultless;
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
        let broken = Some(random.pick(Broken::ALL)).filter(|_| random.chance(100) && !faultless);
        // Nobody else ends what cannot be read.
        let unreadable = matches!(broken, Some(Broken::Damaged | Broken::Newer));
        let mut mishaps: Vec<_> = kinds.iter().copied().filter(|_| random.coin()).collect();
        if mishaps.is_empty() {
            mishaps.push(random.pick(kinds));
        }
        let mut generations: Vec<_> = Generation::ALL.into_iter().filter(|_| random.coin() && !faultless).collect();
        if generations.is_empty() {
            generations.push(Generation::Fixed);
        }
        Self {
            faultless,
            keeper: random.pick(&[Keeper::Broker, Keeper::Broker, Keeper::Store, Keeper::Store, Keeper::Both]),
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
            operator: Some(random.pick(&[500, 3_000])).filter(|_| random.chance(200) || unreadable),
            mishap_every: mishap_every.or(everyday),
            mishaps,
            session: random.pick(&[200, 2_000, 6_000]),
        }
    }
}
