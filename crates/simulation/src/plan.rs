use crate::catalogue::changed::Generation;
use crate::random::Random;

/// How a world goes wrong, drawn from its seed.
///
/// Each kind of fault is there in some worlds only: a world in which everything goes wrong at once hides what one fault
/// alone would show ("swarm testing", Groce et al. 2012). Rates are in thousandths, times in milliseconds.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
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
    /// Replies that do not arrive.
    pub(crate) lost_replies: u64,
    /// A process dies after about so many effects.
    pub(crate) crash_after: Option<u64>,
    /// Whether clients die, too.
    pub(crate) clients_crash: bool,
    /// The code that workers have until the last of it is rolled out.
    pub(crate) generations: Vec<Generation>,
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

impl Plan {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let calm = random.chance(60);
        let mut rate = |choices: &[u64]| {
            let wanted = random.chance(550) && !calm;
            let rate = random.pick(choices);
            if wanted { rate } else { 0 }
        };
        let (refused, unknown, unread) = (rate(&[5, 20, 80]), rate(&[5, 20, 80]), rate(&[5, 20, 80]));
        let (duplicated, passed_over) = (rate(&[10, 50, 200]), rate(&[100, 500]));
        let (lost_replies, early) = (rate(&[50, 300, 800]), rate(&[1, 50, 3_000]));
        let crash_after = Some(rate(&[20, 60, 200, 600])).filter(|effects| *effects > 0);
        let mishap_every = Some(rate(&[150, 500, 2_000, 5_000])).filter(|interval| *interval > 0);
        let kinds = [
            Mishap::Pause,
            Mishap::Zombie,
            Mishap::Disconnect,
            Mishap::Rebalance,
            Mishap::TakeBack,
            Mishap::ClockJump,
            Mishap::ClockSkew,
            Mishap::Shutdown,
        ];
        let mut mishaps: Vec<_> = kinds.into_iter().filter(|_| random.coin()).collect();
        if mishaps.is_empty() {
            mishaps.push(random.pick(&kinds));
        }
        let mut generations: Vec<_> = Generation::ALL.into_iter().filter(|_| random.coin() && !calm).collect();
        if generations.is_empty() {
            generations.push(Generation::Fixed);
        }
        Self {
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
            lost_replies,
            crash_after,
            clients_crash: random.coin(),
            generations,
            mishap_every,
            mishaps,
            session: random.pick(&[200, 2_000, 6_000]),
        }
    }
}
