//! Anybody can listen to what happens, with a plain handler.

use std::sync::{Arc, Mutex};

use partitura::events::{CloudEvent, TaskEvent};
use partitura::history::EventKind;
use tokio::sync::mpsc;

use crate::in_memory;
use crate::support::{TextService, TextStub, Texts, Three, soon};

#[tokio::test]
async fn what_happens_to_workflows_and_tasks_is_published_as_cloud_events() {
    let partitura = in_memory().await;
    let workflows = partitura.events().workflow::<Three>("audit").await.expect("a subscription");
    let tasks = partitura.events().tasks::<TextStub>("audit").await.expect("a subscription");

    let (heard, mut hearing) = mpsc::unbounded_channel();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let until = |mut stopped: tokio::sync::watch::Receiver<bool>| async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let listen_to_workflows = workflows.process({
        let heard = heard.clone();
        move |event: CloudEvent<EventKind>| {
            let heard = heard.clone();
            async move { heard.send((event.kind, event.subject, event.id)) }
        }
    });
    let listen_to_tasks = tasks.process({
        let seen = seen.clone();
        move |event: CloudEvent<TaskEvent>| {
            let (heard, seen) = (heard.clone(), seen.clone());
            async move {
                assert_eq!(event.specversion, "1.0");
                assert_eq!(event.source, "/services/Text");
                assert!(event.time.ends_with('Z'), "{}", event.time);
                seen.lock().expect("seen").push((event.data.method.clone(), event.data.attempt));
                heard.send((event.kind, event.subject, event.id))
            }
        }
    });
    let listening = tokio::spawn(listen_to_workflows.run_until(until(stopped.clone())));
    let listening_too = tokio::spawn(listen_to_tasks.run_until(until(stopped)));

    let worker = partitura.worker().service(TextService(Texts::default())).workflow::<Three>();
    let worker = worker.start().await.expect("a worker");
    let three = partitura.client().workflow::<Three>("t");
    three.start("x".into()).await.expect("started");
    soon(three.result()).await.expect("a result");

    // Started, 3 × (scheduled, completed), ended; 3 × (started, completed).
    let mut kinds = Vec::new();
    let mut ids = std::collections::HashSet::new();
    while kinds.len() < 14 {
        let (kind, subject, id) = soon(hearing.recv()).await.expect("an event");
        assert_eq!(subject, "Three/t");
        // Delivery is at least once; ids tell.
        if ids.insert(id) {
            kinds.push(kind);
        }
    }
    let count = |kind: &str| kinds.iter().filter(|other| *other == kind).count();
    assert_eq!(count("partitura.workflow.WorkflowStarted"), 1, "{kinds:?}");
    assert_eq!(count("partitura.workflow.TaskScheduled"), 3, "{kinds:?}");
    assert_eq!(count("partitura.workflow.TaskCompleted"), 3, "{kinds:?}");
    assert_eq!(count("partitura.workflow.WorkflowCompleted"), 1, "{kinds:?}");
    assert_eq!(count("partitura.task.started"), 3, "{kinds:?}");
    assert_eq!(count("partitura.task.completed"), 3, "{kinds:?}");
    assert!(seen.lock().expect("seen").iter().all(|(method, attempt)| method == "dot" && *attempt == 1));
    worker.stop().await.expect("stopped");
    stop.send_replace(true);
    listening.await.expect("no panic").expect("stopped");
    listening_too.await.expect("no panic").expect("stopped");
}

#[tokio::test]
async fn who_subscribes_knows_namespace_and_partitions_and_keeps_no_worker_from_starting() {
    let connect = || partitura::connect("memory:").with(|settings| settings.namespace("staging").partitions(3));
    for subscribes_first in [true, false] {
        let partitura = connect().await.expect("an embedded broker in memory");
        let start = || partitura.worker().service(TextService(Texts::default())).workflow::<Three>().start();
        let mut worker = None;
        if !subscribes_first {
            worker = Some(start().await.expect("a worker"));
        }
        let events = partitura.events().workflow::<Three>("audit").await.expect("a subscription");
        drop(partitura.events().tasks::<TextStub>("audit").await.expect("a subscription"));
        let worker = match worker {
            Some(worker) => worker,
            None => start().await.expect("a worker, after the subscriptions"),
        };
        let (heard, mut hearing) = mpsc::unbounded_channel();
        let listening = events.process(move |event: CloudEvent<EventKind>| {
            let heard = heard.clone();
            async move { heard.send(event.kind) }
        });
        let listening = tokio::spawn(listening.run_until(std::future::pending::<()>()));
        partitura.client().workflow::<Three>("t").start("x".into()).await.expect("started");
        assert_eq!(soon(hearing.recv()).await.as_deref(), Some("partitura.workflow.WorkflowStarted"));
        listening.abort();
        worker.stop().await.expect("stopped");
    }
}
