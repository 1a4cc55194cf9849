use partitura_broker::{Event, ProducerOptions, Topology};

use crate::case::case;
use crate::client::by_key;
use crate::stop::ensure;
use crate::{Case, CaseResult, Env, check};

pub(super) const CASES: &[Case] = &[
    case!("scale.topics", Four, [], "a thousand topics are declared, and each delivers its own", topics),
    case!("scale.keys", Four, [], "a million keys pass through one consumer, each once and in bounded time", keys),
];

async fn topics(env: &Env) -> CaseResult {
    let client = env.connect().await?;
    let queues: Vec<_> = (0..env.load(1_000, 60)).map(|i| env.queue(&format!("topic{i}"), by_key(2))).collect();
    for some in queues.chunks(50) {
        let topology = some.iter().fold(Topology::new(), |topology, queue| {
            topology
                .queue(queue.topic.clone(), queue.ordering)
                .subscription(queue.subscription.clone(), [queue.topic.clone()])
        });
        client.declare(&topology).await?;
    }
    for some in queues.chunks(100) {
        client.publish(some.iter().flat_map(|queue| queue.messages("k", 0..3)).collect()).await?;
    }
    for queue in &queues {
        client.join(queue.options()).await?.drain(3).await?;
    }
    check::nothing_lost(&env.history())?;
    Ok(check::each_once(&env.history())?)
}

async fn keys(env: &Env) -> CaseResult {
    let count_of_keys = env.load(1_000_000, 5_000);
    let (queue, client) = (env.queue("orders", by_key(16)), env.connect().await?);
    client.declare(&queue.topology()).await?;
    // Not recorded: the history of two million events would be larger than the load itself.
    let broker = env.unrecorded().await?;
    let producer = broker.producer(ProducerOptions::default()).await?;
    let mut consumer = broker.consumer(queue.options()).await?;
    let publishing = async {
        for chunk in 0..count_of_keys / 1_000 {
            let batch = (0..1_000).map(|i| queue.message(&format!("key{}", chunk * 1_000 + i), 0)).collect();
            for result in producer.publish(batch).await {
                result?;
            }
        }
        CaseResult::Ok(())
    };
    let consuming = async {
        let mut seen = vec![false; count_of_keys];
        let mut count = 0;
        while count < count_of_keys {
            let Event::Deliveries(got) = env.within("more keys", consumer.next()).await?? else { continue };
            for delivery in &got {
                let id = delivery.message.id.as_str();
                let number = id.trim_start_matches("key").trim_end_matches("-0").parse::<usize>().ok();
                let seen = number.and_then(|number| seen.get_mut(number)).ok_or_else(|| format!("a stranger: {id}"))?;
                ensure!(!std::mem::replace(seen, true), "{id} comes twice");
            }
            count += got.len();
            consumer.settle(&crate::client::tokens(&got));
        }
        CaseResult::Ok(())
    };
    tokio::try_join!(publishing, consuming).map(drop)
}
