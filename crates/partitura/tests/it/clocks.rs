//! Workers whose machines' clocks differ, on one broker and one store.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use partitura::{Cx, Partitura, Retry, millis, seconds};
use partitura_broker::{
    Broker, Clock, CorrectedClock, Entry, Put, Result, ScanRange, Space, SystemClock, Timestamp, Version,
};
use partitura_embedded::{Embedded, Options};
use partitura_engine::{BrokerStore, Store};
use tokio::time::Instant;

use crate::hooked::{Hooked, Nothing};
use crate::recorder::Recorded;
use crate::support::{Oops, TextService, TextStub, Texts, soon};

const FIVE_MINUTES: i64 = 300_000;
const ORDERS: usize = 24;

#[derive(Debug, Default)]
struct Patient;

#[partitura::workflow]
impl Patient {
    /// How long a second was, and the attempt of the task that went well.
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(Duration, u32), Oops> {
        let texts = cx.service::<TextStub>();
        let policy = Retry::fixed(millis(20)).max_attempts(5);
        let attempts = texts.busy_until(3).retry(policy).overall_timeout(seconds(10)).await?;
        let began = cx.now();
        cx.sleep(seconds(1)).await?;
        Ok((cx.now().duration_since(began).unsigned_abs(), attempts))
    }
}

#[tokio::test(start_paused = true)]
async fn orders_settle_in_time_although_clocks_differ_by_ten_minutes() {
    let server = Machine { start: Instant::now(), origin: SystemClock.now(), off: 0 };
    let embedded = Embedded::memory(Options::default().clock(Arc::new(server))).expect("a broker in memory");
    let embedded: Arc<dyn Broker> = Arc::new(embedded);
    let kept = BrokerStore::new(embedded.clone()).expect("it keeps state");
    let store: Arc<dyn Store> = Arc::new(Server { kept, clock: server });
    let on_machine = |off: i64| {
        let mut broker = Hooked::new(embedded.clone(), Arc::new(Nothing)).without_transactions();
        broker.clock = CorrectedClock::over(Arc::new(Machine { off, ..server }));
        Partitura::on(Arc::new(broker)).ask_again(Duration::MAX)
    };
    let recorded = Recorded::default();
    let _recorder = metrics::set_default_local_recorder(&recorded);
    let (mut connections, mut workers) = (Vec::new(), Vec::new());
    for off in [FIVE_MINUTES, -FIVE_MINUTES] {
        let partitura = on_machine(off).store(store.clone()).await.expect("an engine");
        workers.push(partitura.worker().workflow::<Patient>().start().await.expect("a worker"));
        assert_eq!(partitura.clock_offset().expect("compared at the start").millis, -off);
        connections.push(partitura);
    }
    // Without the store: they learn the time from the workers that send them tasks.
    let mut services = Vec::new();
    for off in [FIVE_MINUTES, -FIVE_MINUTES] {
        let partitura = on_machine(off).await.expect("an engine");
        let worker = partitura.worker().service(TextService(Texts::default()));
        workers.push(worker.start().await.expect("a worker"));
        services.push((partitura, -off));
    }
    let client = on_machine(0).await.expect("an engine").client();
    let began = Instant::now();
    let ids: Vec<String> = (0..ORDERS).map(|number| format!("o-{number}")).collect();
    for id in &ids {
        client.workflow::<Patient>(id).start(()).await.expect("started");
    }
    for id in &ids {
        let (second, attempts) = soon(client.workflow::<Patient>(id).result()).await.expect("a result");
        assert!((seconds(1)..seconds(2)).contains(&second), "a second took {second:?}");
        assert_eq!(attempts, 3);
    }
    assert!(began.elapsed() < seconds(10), "{:?} for what takes a second and 40 ms", began.elapsed());
    let learnt: BTreeSet<_> =
        services.iter().filter_map(|(partitura, _)| Some(partitura.clock_offset()?.millis)).collect();
    assert_eq!(learnt, services.iter().map(|(_, off)| *off).collect());
    let measured = recorded.values("partitura_clock_offset_seconds", &[]);
    assert_eq!(measured.len(), 4, "{measured:?}");
    assert!(measured.iter().all(|offset| offset.abs() == 300.0), "{measured:?}");
    for worker in workers {
        worker.stop().await.expect("an orderly end");
    }
}

/// The clock of a machine, off by this number of milliseconds.
#[derive(Debug, Clone, Copy)]
struct Machine {
    start: Instant,
    origin: Timestamp,
    off: i64,
}

impl Clock for Machine {
    fn now(&self) -> Timestamp {
        let right = (self.origin + self.start.elapsed()).as_millis();
        Timestamp::from_millis(right.saturating_add_signed(self.off))
    }
}

/// A store whose server tells the time.
#[derive(Debug)]
struct Server {
    kept: BrokerStore,
    clock: Machine,
}

#[async_trait]
impl Store for Server {
    async fn write(&self, groups: Vec<Vec<Put>>) -> Vec<Result<()>> {
        self.kept.write(groups).await
    }

    async fn get(&self, space: Space, key: Bytes) -> Result<Option<(Version, Bytes)>> {
        self.kept.get(space, key).await
    }

    async fn scan(&self, range: ScanRange, limit: usize) -> Result<Vec<Entry>> {
        self.kept.scan(range, limit).await
    }

    async fn now(&self) -> Result<Option<Timestamp>> {
        Ok(Some(self.clock.now()))
    }
}
