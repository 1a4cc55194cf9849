use std::sync::{Arc, Mutex};

use axum::http::StatusCode;
use partitura::StatusKind;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::support::{Broken, Browser, Hold, deployment};

/// Keeps the records of actions.
#[derive(Clone, Default)]
struct Audit(Arc<Mutex<Vec<String>>>);

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.push_str(&format!("{field}={value:?} "));
    }
}

impl Subscriber for Audit {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "partitura::audit"
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().expect("no writer panics").push(text.0);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn an_action_is_carried_out_and_leaves_a_record() {
    let audit = Audit::default();
    let _kept = tracing::subscriber::set_default(audit.clone());
    let (partitura, _worker) = deployment().await;
    let hold = partitura.client().workflow::<Hold>("h-1");
    hold.start("tea".to_owned()).confirmed().await.unwrap();
    let browser = Browser::signed_in(&partitura).await;
    let path = "/instances/Hold/h-1";
    let csrf = browser.csrf(path).await;

    let no_reason = browser.post(&format!("{path}/cancel"), &[("csrf", &csrf)]).await;
    assert_eq!(no_reason.status, StatusCode::BAD_REQUEST);
    let no_json = browser.post(&format!("{path}/signal"), &[("csrf", &csrf), ("name", "go"), ("payload", "{")]).await;
    assert_eq!(no_json.status, StatusCode::CONFLICT);
    let signal = browser.post(&format!("{path}/signal"), &[("csrf", &csrf), ("name", "go")]).await;
    assert_eq!(signal.status, StatusCode::SEE_OTHER, "{}", signal.text);
    assert_eq!(signal.headers["location"], "/instances/Hold/h-1?done=signal");
    assert_eq!(hold.result().await.unwrap(), "tea.");
    let late = browser.post(&format!("{path}/terminate"), &[("csrf", &csrf), ("reason", "late")]).await;
    assert_eq!(late.status, StatusCode::CONFLICT, "{}", late.text);
    let deleted = browser.post(&format!("{path}/delete"), &[("csrf", &csrf)]).await;
    assert_eq!(deleted.status, StatusCode::SEE_OTHER);
    assert_eq!(browser.get(path).await.status, StatusCode::NOT_FOUND);

    let records = audit.0.lock().unwrap().join("\n");
    let who = r#"who="token from 127.0.0.1:5000""#;
    for wanted in [who, r#"action="signal""#, r#"id="h-1""#, r#"outcome="done""#, "has ended"] {
        assert!(records.contains(wanted), "{wanted}: {records}");
    }
    assert!(!records.contains("secret"), "{records}");
}

#[tokio::test]
async fn a_form_that_the_page_did_not_send_does_nothing() {
    let (partitura, _worker) = deployment().await;
    let hold = partitura.client().workflow::<Hold>("h-1");
    hold.start("tea".to_owned()).confirmed().await.unwrap();
    let browser = Browser::signed_in(&partitura).await;
    let (path, csrf) = ("/instances/Hold/h-1/terminate", browser.csrf("/instances/Hold/h-1").await);
    let mut foreign = browser.clone();
    foreign.headers.push(("sec-fetch-site", "cross-site".to_owned()));
    let (reason, guessed) = (("reason", "because"), "0".repeat(64));
    for (browser, form) in [
        (&browser, vec![reason]),
        (&browser, vec![reason, ("csrf", &guessed)]),
        (&foreign, vec![reason, ("csrf", &csrf)]),
    ] {
        assert_eq!(browser.post(path, &form).await.status, StatusCode::FORBIDDEN);
    }
    // With the right token of the form, and without a session.
    let mut visitor = browser.clone();
    visitor.headers.retain(|(name, _)| *name != "cookie");
    assert_eq!(visitor.post(path, &[reason, ("csrf", &csrf)]).await.status, StatusCode::FORBIDDEN);
    assert!(!visitor.get("/instances/Hold/h-1").await.text.contains("<form method=\"post\""));
    assert_eq!(hold.describe().await.unwrap().status.kind(), StatusKind::Running);
}

#[tokio::test]
async fn what_is_stopped_can_be_tried_again_and_ended() {
    let (partitura, _worker) = deployment().await;
    partitura.client().workflow::<Broken>("b-1").start("tea".to_owned()).await.unwrap();
    let browser = Browser::signed_in(&partitura).await;
    let path = "/instances/Broken/b-1";
    let page = browser.until(path, "Its code cannot go on").await.text;
    assert!(page.contains("Resume") && page.contains("there is no room for tea"), "{page}");
    let csrf = browser.csrf(path).await;
    let resumed = browser.post(&format!("{path}/resume"), &[("csrf", &csrf)]).await;
    // Its code has the same fault, which the answer names.
    assert_eq!(resumed.status, StatusCode::CONFLICT);
    assert!(resumed.text.contains("there is no room for tea"), "{}", resumed.text);
    let ended = browser.post(&format!("{path}/terminate"), &[("csrf", &csrf), ("reason", "beyond repair")]).await;
    assert_eq!(ended.status, StatusCode::SEE_OTHER, "{}", ended.text);
    let page = browser.until(path, "How it ended").await.text;
    assert!(page.contains("beyond repair"), "{page}");
}

#[tokio::test]
async fn a_workflow_is_paused_and_resumed_with_a_reason() {
    let (partitura, _worker) = deployment().await;
    let browser = Browser::signed_in(&partitura).await;
    partitura.client().workflow::<Hold>("h-1").start("tea".to_owned()).confirmed().await.unwrap();
    let csrf = browser.csrf("/topics").await;
    let what = ("what", "workflow/Hold");
    let no_reason = browser.post("/pauses/pause", &[("csrf", &csrf), what]).await;
    assert_eq!(no_reason.status, StatusCode::CONFLICT, "{}", no_reason.text);
    let unknown = browser.post("/pauses/pause", &[("csrf", &csrf), ("what", "Hold"), ("reason", "moving")]).await;
    assert_eq!(unknown.status, StatusCode::BAD_REQUEST, "{}", unknown.text);
    let paused = browser.post("/pauses/pause", &[("csrf", &csrf), what, ("reason", "moving")]).await;
    assert_eq!(paused.status, StatusCode::SEE_OTHER, "{}", paused.text);
    let overview = browser.get("/").await.text;
    assert!(overview.contains("workflow/Hold") && overview.contains("moving"), "{overview}");
    assert!(!overview.contains("is that its name?"), "{overview}");
    let (misspelt, reason) = (("what", "service/Holt"), ("reason", "moving"));
    let paused = browser.post("/pauses/pause", &[("csrf", &csrf), misspelt, reason]).await;
    let overview = browser.get(paused.headers["location"].to_str().unwrap()).await.text;
    let told = "service/Holt: it is paused; no worker has served a service Holt yet: is that its name?";
    assert!(overview.contains(told), "{overview}");
    browser.post("/pauses/resume", &[("csrf", &csrf), misspelt]).await;
    assert!(!browser.get("/?unknown=service%2FHolt").await.text.contains("is that its name?"));
    let resumed = browser.post("/pauses/resume", &[("csrf", &csrf), what]).await;
    assert_eq!(resumed.status, StatusCode::SEE_OTHER, "{}", resumed.text);
    assert!(partitura.client().pauses().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_dead_letter_is_edited_and_sent_again() {
    let (partitura, _worker) = deployment().await;
    let topics = partitura.topics(&partitura::Destination::Workflow("Hold".to_owned())).unwrap();
    let producer = partitura.broker().producer(Default::default()).await.unwrap();
    let odd = "no JSON <b>";
    let message = partitura::contract::Message::new(topics.takes.parse().unwrap(), "odd-1", odd).key("h-9");
    producer.publish(vec![message]).await.pop().unwrap().unwrap();
    let browser = Browser::signed_in(&partitura).await;
    let path = "/dead-letters/workflow/Hold";
    let page = browser.until(path, "odd-1").await.text;
    assert!(page.contains("<textarea name=\"payload\"") && page.contains("no JSON &lt;b&gt;"), "{page}");
    let csrf = browser.csrf(path).await;
    let form = |payload| [("csrf", csrf.as_str()), ("id", "odd-1"), ("payload", payload)];
    assert_eq!(browser.post(&format!("{path}/edit"), &form("{")).await.status, StatusCode::CONFLICT);
    assert!(browser.get(path).await.text.contains("odd-1"), "what is not JSON is not sent");
    let run = "0198f7e2-5d0c-7cc3-98c4-dc0c0c07398f";
    let mended = format!(r#"{{ "Start": {{ "run": "{run}", "input": "tea" }} }}"#);
    assert_eq!(browser.post(&format!("{path}/edit"), &form(&mended)).await.status, StatusCode::SEE_OTHER);
    browser.until("/instances/Hold/h-9", run).await;
    assert!(!browser.get(path).await.text.contains("odd-1"));
}
