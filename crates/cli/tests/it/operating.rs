use std::time::Duration;

use partitura::testing::replay;

use crate::deployment::{Hold, Pair, done, open, run};

#[tokio::test]
async fn a_tree_shows_the_children_below_their_parent() {
    let (partitura, _worker) = open("memory:").await;
    done(&partitura, r#"start Pair p "tea""#).await;
    let tree = loop {
        let tree = done(&partitura, "tree Pair p").await;
        if tree.lines().count() == 4 {
            break tree;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let lines: Vec<&str> = tree.lines().collect();
    assert!(lines[1].starts_with("running  Pair/p "), "{tree}");
    assert!(lines[2..].iter().all(|line| line.starts_with("running    Hold/p-")), "{tree}");
    assert_eq!(done(&partitura, "tree Pair p --depth 0 -o ids").await, "p\n");
    let json: serde_json::Value = serde_json::from_str(&done(&partitura, "tree Pair p -o json").await).unwrap();
    assert_eq!((json["members"][1]["depth"].as_u64(), json["is_capped"].as_bool()), (Some(1), Some(false)));
    assert_eq!(run(&partitura, "tree Pair none").await.0, 3);
}

#[tokio::test]
async fn an_update_answers_is_applied_once_under_its_id_and_may_be_refused() {
    let (partitura, _worker) = open("memory:").await;
    done(&partitura, r#"start Hold h-1 "tea""#).await;
    assert_eq!(done(&partitura, r#"update Hold h-1 rename {"text":"a"} --update-id u-1"#).await, "\"\"\n");
    assert_eq!(done(&partitura, r#"update Hold h-1 rename {"text":"b"}"#).await, "\"a\"\n");
    assert_eq!(done(&partitura, r#"update Hold h-1 rename {"text":"c"} --update-id u-1"#).await, "\"\"\n");
    assert_eq!(done(&partitura, "query Hold h-1 text {}").await, "\"b\"\n");
    assert_eq!(run(&partitura, r#"update Hold h-1 rename {"text":""}"#).await.0, 4);
    assert_eq!(run(&partitura, r#"update Hold none rename {"text":"d"}"#).await.0, 3);
}

#[tokio::test]
async fn an_exported_history_is_replayed_and_forked() {
    let (partitura, _worker) = open("memory:").await;
    done(&partitura, r#"start Hold h-1 "tea""#).await;
    done(&partitura, r#"signal Hold h-1 go {"text":"now"}"#).await;
    partitura.client().workflow::<Hold>("h-1").result().await.unwrap();
    let exported = done(&partitura, "export Hold h-1").await;
    replay::<Hold>(&exported).unwrap();
    let otherwise = replay::<Pair>(&exported).unwrap_err();
    assert!(otherwise.contains("Pair") || !otherwise.is_empty(), "{otherwise}");

    assert_eq!(run(&partitura, "fork Hold h-1 h-2 -n 1").await.0, 2, "a reason is asked for");
    let forked = done(&partitura, "fork Hold h-1 h-2 -n 1 --reason again").await;
    assert_eq!(forked, "Hold/h-2: goes on from the history of h-1\n");
    // The signal that came later goes along.
    assert_eq!(partitura.client().workflow::<Hold>("h-2").result().await.unwrap(), "tea");
    assert_eq!(run(&partitura, "fork Hold h-1 h-2 -n 1 --reason again").await.0, 4, "there is one of this id");
}

#[tokio::test]
async fn schedules_are_listed_paused_resumed_and_triggered() {
    let (partitura, _worker) = open("memory:").await;
    assert_eq!(done(&partitura, "schedule list").await, "there are no schedules\n");
    let nightly = partitura.client().schedule("nightly").cron("0 3 * * *").time_zone("Europe/Berlin");
    nightly.start::<Hold>("tea".to_owned()).await.unwrap();
    let listed = done(&partitura, "schedule list").await;
    assert!(listed.contains("nightly") && listed.trim_end().ends_with("ok"), "{listed}");
    done(&partitura, "schedule pause nightly --reason moving").await;
    assert!(done(&partitura, "schedule describe nightly").await.contains("paused: moving"));
    done(&partitura, "schedule trigger nightly").await;
    let described = done(&partitura, "schedule describe nightly -o json").await;
    let described: serde_json::Value = serde_json::from_str(&described).unwrap();
    assert_eq!(described["started"], 1);
    done(&partitura, "schedule resume nightly").await;
    assert_eq!(run(&partitura, "schedule backfill nightly --from sometime").await.0, 2);
    let (from, to) = ("2026-01-01T00:00:00Z", "2026-01-03T12:00:00Z");
    done(&partitura, &format!("schedule backfill nightly --from {from} --to {to} --overlap allow-all")).await;
    while done(&partitura, "list --workflow Hold -o ids").await.lines().count() < 4 {}
    assert_eq!(done(&partitura, "schedule list -o ids").await, "nightly\n");
    assert_eq!(run(&partitura, "schedule describe none").await.0, 3);
}

#[tokio::test]
async fn workflows_and_methods_are_paused_listed_and_resumed() {
    let (partitura, _worker) = open("memory:").await;
    assert_eq!(done(&partitura, "pauses").await, "nothing is paused\n");
    assert_eq!(run(&partitura, "pause workflow/Hold").await.0, 2, "a reason is asked for");
    assert_eq!(run(&partitura, "pause Hold --reason moving").await.0, 2, "neither an instance nor a name");
    assert_eq!(done(&partitura, "pause workflow/Hold --reason moving").await, "workflow/Hold: it is paused\n");
    let unknown = done(&partitura, "pause service/Payments/charge --reason down").await;
    assert!(unknown.contains("it is paused; no worker has served a service Payments yet"), "{unknown}");
    done(&partitura, r#"start Hold h-1 "tea""#).await;
    let pauses = done(&partitura, "pauses").await;
    assert!(pauses.contains("workflow/Hold") && pauses.contains("moving"), "{pauses}");
    assert!(done(&partitura, "status").await.contains("service/Payments/charge"));
    assert!(done(&partitura, "describe Hold h-1").await.contains("its workflow is paused: moving"));
    let resumed = done(&partitura, "resume workflow/Hold").await;
    assert_eq!(resumed, "workflow/Hold: it goes on; 1 instances were paused with it\n");
    assert_eq!(done(&partitura, "pauses -o ids").await, "service/Payments/charge\n");
    done(&partitura, r#"signal Hold h-1 go {"text":"now"}"#).await;
    partitura.client().workflow::<Hold>("h-1").result().await.unwrap();
}
