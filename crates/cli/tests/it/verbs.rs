use std::time::Duration;

use partitura::StatusKind;
use partitura::history::Event;

use crate::deployment::{Hold, done, open, run};

#[tokio::test]
async fn an_instance_is_started_asked_and_signalled_by_the_command_alone() {
    let (partitura, _worker) = open("memory:").await;
    let started = done(&partitura, r#"start Hold h-1 "tea" --tag green"#).await;
    assert!(started.contains("Hold/h-1: started, as run"), "{started}");
    let (code, _) = run(&partitura, r#"start Hold h-1 "tea" --reject"#).await;
    assert_eq!(code, 4, "it is there already");

    let described = done(&partitura, "describe Hold h-1").await;
    for wanted in ["running", "a condition on its own state", "\"tea\"", "green", "b-7"] {
        assert!(described.contains(wanted), "{wanted}: {described}");
    }
    assert_eq!(done(&partitura, "query Hold h-1 text {}").await, "\"\"\n");
    done(&partitura, r#"signal Hold h-1 go {"text":"now"}"#).await;
    // It has ended, and answers with the state in which it did.
    done(&partitura, "query Hold h-1 text {}").await;
}

#[tokio::test]
async fn lists_have_three_forms_and_filters() {
    let (partitura, _worker) = open("memory:").await;
    for number in 0..3 {
        done(&partitura, &format!(r#"start Hold h-{number} "tea" --tag t{number}"#)).await;
    }
    assert_eq!(done(&partitura, "list -o ids --status running --since 1h").await.lines().count(), 3);
    assert_eq!(done(&partitura, "list -o ids --tag t1").await, "h-1\n");
    assert_eq!(done(&partitura, "list -o ids -n 2").await.lines().count(), 2);
    let json: serde_json::Value = serde_json::from_str(&done(&partitura, "list -o json --id h-2").await).unwrap();
    assert_eq!(json[0]["id"], "h-2");
    let table = done(&partitura, "list --workflow Hold").await;
    assert!(table.starts_with("STATUS   WORKFLOW") && table.contains("running  Hold"), "{table}");
    let status = done(&partitura, "status").await;
    assert!(status.contains("Hold") && status.contains('3'), "{status}");
    for (line, code) in
        [("list --status perhaps", 2), ("list --since soon", 2), ("describe Hold none", 3), ("list --parent x", 2)]
    {
        assert_eq!(run(&partitura, line).await.0, code, "{line}");
    }
}

#[tokio::test]
async fn a_history_is_followed_to_its_end() {
    let (partitura, _worker) = open("memory:").await;
    done(&partitura, r#"start Hold h-1 "tea""#).await;
    let of = partitura.clone();
    let followed = tokio::spawn(async move { done(&of, "history Hold h-1 --follow -o json").await });
    done(&partitura, r#"signal Hold h-1 go {"text":"now"}"#).await;
    let followed = tokio::time::timeout(Duration::from_secs(60), followed).await.expect("it ends").unwrap();
    let events: Vec<Event> = followed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.last().unwrap().kind.is_end(), "{followed}");
    let last = done(&partitura, "history Hold h-1 -n 1").await;
    assert!(last.lines().count() == 1 && last.contains("WorkflowCompleted"), "{last}");
    assert_eq!(done(&partitura, "history Hold h-1 --failed").await, "");
}

#[tokio::test]
async fn instances_are_ended_with_a_reason_and_deleted() {
    let (partitura, _worker) = open("memory:").await;
    let hold = |id: &str| partitura.client().workflow::<Hold>(id);
    for id in ["c-1", "t-1", "p-1"] {
        done(&partitura, &format!(r#"start Hold {id} "tea""#)).await;
    }
    assert_eq!(run(&partitura, "cancel Hold c-1").await.0, 2, "a reason is asked for");
    done(&partitura, "cancel Hold c-1 --reason over").await;
    done(&partitura, "terminate Hold t-1 -r over").await;
    hold("c-1").result().await.unwrap_err();
    assert_eq!(hold("t-1").describe().await.unwrap().status.kind(), StatusKind::Failed);
    assert_eq!(run(&partitura, "delete Hold p-1").await.0, 4, "it has not ended");
    done(&partitura, "delete Hold c-1").await;
    assert_eq!(run(&partitura, "describe Hold c-1").await.0, 3);
    assert_eq!(done(&partitura, "bulk delete --dry-run").await, "Hold/t-1\n1 instances: nothing was done to them\n");
    assert_eq!(done(&partitura, "bulk delete --workflow Hold").await, "1 instances: done\n");
    assert_eq!(run(&partitura, "bulk pause").await.0, 2, "a reason is asked for");
    assert_eq!(done(&partitura, "bulk pause --reason later").await, "1 instances: done\n");
    assert!(done(&partitura, "describe Hold p-1").await.contains("paused"));
    done(&partitura, "resume Hold p-1").await;
    assert_eq!(done(&partitura, "list -o ids").await, "p-1\n");
}

#[tokio::test]
async fn the_doctor_names_a_stopped_instance_its_cause_and_its_build() {
    let (partitura, _worker) = open("memory:").await;
    let (code, healthy) = run(&partitura, "doctor").await;
    assert_eq!((code, healthy.contains("none is stopped")), (0, true), "{healthy}");
    done(&partitura, r#"start Hold h-1 "broken""#).await;
    let stopped = loop {
        let stopped = done(&partitura, "stopped").await;
        if stopped.contains("h-1") {
            break stopped;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(stopped.contains("there is no room") && stopped.contains("b-7"), "{stopped}");
    let (code, found) = run(&partitura, "doctor").await;
    assert_eq!(code, 5, "{found}");
    assert!(found.contains("1 of Hold are stopped, h-1 for example, tried last by build b-7"), "{found}");
    let (code, _) = run(&partitura, "resume Hold h-1").await;
    assert_eq!(code, 4, "its code still cannot go on");
}

#[tokio::test]
async fn commands_for_an_operator_are_of_one_broker_and_of_what_is_named() {
    let (partitura, _worker) = open("memory:").await;
    assert_eq!(run(&partitura, "topics workflow/Hold").await.0, 2, "of which broker?");
    let line = "topics --for memory workflow/Hold";
    assert_eq!(run(&partitura, line).await.0, 1, "declaring makes its topics");
    assert_eq!(run(&partitura, "topics --for memory Hold").await.0, 2, "is it a workflow?");
}

#[tokio::test]
async fn dead_letters_topics_and_workers_are_told() {
    let (partitura, worker) = open("memory:").await;
    assert!(done(&partitura, "topics").await.contains("workflow.Hold.commands"));
    let workers = done(&partitura, "workers").await;
    assert!(workers.lines().any(|line| line.starts_with("workflow/Hold ") && line.contains(" ok ")), "{workers}");
    assert_eq!(done(&partitura, "dead-letters list").await, "there are no dead letters\n");

    // No instance can read that.
    let topics = partitura.topics(&partitura::Destination::Workflow("Hold".to_owned())).unwrap();
    let topic: partitura::contract::TopicName = topics.takes.parse().unwrap();
    let producer = partitura.broker().producer(Default::default()).await.unwrap();
    let message = partitura::contract::Message::new(topic.clone(), "odd-1", "no JSON").key("h-9");
    producer.publish(vec![message]).await.pop().unwrap().unwrap();
    let listed = loop {
        let listed = done(&partitura, "dead-letters list").await;
        if listed.contains("workflow/Hold") {
            break listed;
        }
    };
    assert!(listed.contains("workflow/Hold  1"), "{listed}");
    assert!(done(&partitura, "dead-letters show workflow/Hold").await.contains("no JSON"));
    assert_eq!(run(&partitura, "dead-letters discard workflow/Hold").await.0, 2, "which?");
    assert_eq!(run(&partitura, "dead-letters discard workflow/Hold none").await.0, 4);
    done(&partitura, "dead-letters redrive workflow/Hold odd-1").await;
    while done(&partitura, "dead-letters list -o ids").await.is_empty() {}
    assert_eq!(run(&partitura, "dead-letters edit workflow/Hold odd-1 {").await.0, 4, "it is not JSON");
    let start = r#"{"Start":{"run":"0198f7e2-5d0c-7cc3-98c4-dc0c0c07398f","input":"tea"}}"#;
    done(&partitura, &format!("dead-letters edit workflow/Hold odd-1 {start}")).await;
    while run(&partitura, "describe Hold h-9").await.0 != 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(done(&partitura, "dead-letters list -o ids").await, "");
    let message = partitura::contract::Message::new(topic, "odd-2", "no JSON").key("h-9");
    producer.publish(vec![message]).await.pop().unwrap().unwrap();
    while done(&partitura, "dead-letters list -o ids").await.is_empty() {}
    done(&partitura, "dead-letters discard workflow/Hold --all").await;
    assert_eq!(done(&partitura, "dead-letters list -o ids").await, "");
    worker.stop().await.unwrap();
    assert!(done(&partitura, "workers").await.contains("none answers"));
}
