//! A real process is killed, as by a power failure that spares the disk.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use partitura_broker::{Broker, Expect, Put, Unit};
use partitura_embedded::{Embedded, Options};

use crate::support::*;

const DIRECTORY: &str = "PARTITURA_TEST_CRASH";

/// The process that will be killed. It publishes to several keys, settles some messages, moves some by transactions,
/// and prints the confirmed ones.
#[test]
fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let broker = Embedded::open(directory, Options::default()).unwrap();
        broker.declare(&queue(by_key(4))).await.unwrap();
        let consuming = broker.clone();
        tokio::spawn(async move {
            let mut consumer = consuming.consumer(options()).await.unwrap();
            loop {
                for delivery in receive_at_least(&mut consumer, 1).await {
                    let (key, number) =
                        text(&delivery).split_once(' ').map(|(k, n)| (k.to_owned(), n.to_owned())).unwrap();
                    match number.parse::<u32>().unwrap() % 3 {
                        0 => consumer.settle(&[delivery.token]),
                        1 => {
                            let put = Put {
                                space: "done",
                                key: bytes(&text(&delivery)),
                                expect: Expect::Absent,
                                value: Some(bytes("x")),
                            };
                            let unit = Unit { settle: vec![delivery.token], put: vec![put], ..Unit::default() };
                            consuming.transactions().unwrap().commit(vec![unit]).await.remove(0).unwrap();
                            println!("done {key} {number}");
                        }
                        _ => {}
                    }
                }
            }
        });
        let producing = (0..8).map(|key| {
            let broker = broker.clone();
            tokio::spawn(async move {
                let producer = producer(&broker).await;
                for i in 0_u32.. {
                    producer.publish(vec![message(&key.to_string(), format!("{key} {i}"))]).await.remove(0).unwrap();
                    println!("confirmed {key} {i}");
                }
            })
        });
        for task in producing.collect::<Vec<_>>() {
            task.await.unwrap();
        }
    });
}

fn spawn(directory: &tempfile::TempDir) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["crash::child", "--exact", "--nocapture"])
        .env(DIRECTORY, directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn confirmed_messages_are_delivered_in_order_after_kill_9() {
    for lines in [20, 700, 3_000] {
        let directory = tempfile::tempdir().unwrap();
        let mut child = spawn(&directory);
        let mut confirmed: BTreeMap<u32, u32> = BTreeMap::new();
        let mut done: Vec<String> = Vec::new();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut note = |line: String| match line.split(' ').collect::<Vec<_>>()[..] {
            ["confirmed", key, number] => {
                confirmed.insert(key.parse().unwrap(), number.parse().unwrap());
            }
            ["done", key, number] => done.push(format!("{key} {number}")),
            _ => {}
        };
        output.by_ref().take(lines).for_each(|line| note(line.unwrap()));
        child.kill().unwrap();
        child.wait().unwrap();
        // Its last lines before it died count as well. The very last may be half a line.
        let rest: Vec<String> = output.map_while(Result::ok).collect();
        rest.iter().take(rest.len().saturating_sub(1)).for_each(|line| note(line.clone()));

        let broker = Embedded::open(directory.path(), Options::default()).unwrap();
        broker.declare(&queue(by_key(4)).verify_only()).await.unwrap();
        let end = (0..8).map(|key| message(&key.to_string(), format!("{key} {}", u32::MAX))).collect();
        publish(&broker, end).await;
        let mut seen: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        let mut consumer = broker.consumer(options().credit(credit(1 << 20))).await.unwrap();
        while seen.values().filter(|numbers| numbers.contains(&u32::MAX)).count() < 8 {
            for delivery in receive_at_least(&mut consumer, 1).await {
                let text = text(&delivery);
                let (key, number) = text.split_once(' ').unwrap();
                assert!(!done.contains(&text), "{text} was settled by a commit that was answered");
                assert!(delivery.redelivered || number == u32::MAX.to_string());
                seen.entry(key.parse().unwrap()).or_default().push(number.parse().unwrap());
            }
        }
        for (key, last) in confirmed {
            let numbers = &seen[&key];
            assert!(numbers.is_sorted() && numbers.windows(2).all(|pair| pair[0] < pair[1]), "key {key}: {numbers:?}");
            // Every third was never settled.
            let missing: Vec<_> = (0..=last).filter(|number| number % 3 == 2 && !numbers.contains(number)).collect();
            assert!(missing.is_empty(), "key {key} has lost {missing:?}");
        }
        for done in &done {
            assert!(broker.transactions().unwrap().get("done", bytes(done)).await.unwrap().is_some(), "{done}");
        }
    }
}
