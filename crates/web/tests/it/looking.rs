use axum::Router;
use axum::http::StatusCode;

use crate::support::{Broken, Browser, Hold, HoldSignal, Long, Parent, Refused, deployment};

#[tokio::test]
async fn the_overview_counts_instances_and_names_the_cause_of_a_stop() {
    let (partitura, _worker) = deployment().await;
    let client = partitura.client();
    for id in ["h-1", "h-2"] {
        client.workflow::<Hold>(id).start("a".to_owned()).await.unwrap();
    }
    for id in ["b-1", "b-2"] {
        client.workflow::<Broken>(id).start("tea".to_owned()).await.unwrap();
    }
    let refused = client.workflow::<Refused>("r-1");
    refused.start("a".to_owned()).await.unwrap();
    refused.result().await.unwrap_err();
    let browser = Browser::on(&partitura);
    for wanted in [
        "In the last minute 5 started and 1 ended.",
        "there is no room for tea",
        r#"<a href="/dead-letters"><b>1</b><span class="status">dead letters</span></a>"#,
        "Stopped, by cause",
        r#"href="/instances?workflow=Hold&amp;status=running""#,
        "b-7",
        "Started last",
        "Text.dot",
        "p95",
    ] {
        // Each becomes true at its own time.
        browser.until("/", wanted).await;
    }
    browser.until("/instances?status=stopped", "b-1").await;
    let stopped = browser.until("/instances?status=stopped", "b-2").await.text;
    assert!(!stopped.contains("h-1"), "{stopped}");
}

#[tokio::test]
async fn the_list_is_filtered_and_paged_by_its_address() {
    let (partitura, _worker) = deployment().await;
    for number in 0..60 {
        let hold = partitura.client().workflow::<Hold>(format!("order-{number:02}"));
        hold.start("a".to_owned()).tag(format!("tag-{}", number % 2)).confirmed().await.unwrap();
    }
    let browser = Browser::on(&partitura);
    let count = |text: &str| text.matches("/instances/Hold/order-").count();
    let first = browser.get("/instances?workflow=Hold&status=running").await.text;
    assert_eq!(count(&first), 50);
    let (_, link) = first.split_once(r#"rel="next""#).expect("a next page");
    let next = link.split('"').find(|part| part.starts_with("/instances?")).expect("its address").replace("&amp;", "&");
    let second = browser.get(&next).await.text;
    assert_eq!(count(&second), 10);
    assert!(!second.contains(r#"rel="next""#), "{second}");

    assert_eq!(count(&browser.get("/instances?tag=tag-1").await.text), 30);
    assert_eq!(count(&browser.get("/instances?id=order-0").await.text), 10);
    assert_eq!(count(&browser.get("/instances?status=failed").await.text), 0);
    assert_eq!(count(&browser.get("/instances?within=1h&build=b-7&workflow=Hold").await.text), 50);
    for wrong in ["status=perhaps", "within=ever", "parent=x", "after=?"] {
        let answer = browser.get(&format!("/instances?{wrong}")).await;
        assert!(answer.status.is_client_error(), "{wrong}: {}", answer.status);
    }
}

#[tokio::test]
async fn an_instance_says_what_it_waits_for_and_links_parent_and_child() {
    let (partitura, _worker) = deployment().await;
    let parent = partitura.client().workflow::<Parent>("p/1 ü");
    parent.start("tea".to_owned()).await.unwrap();
    let browser = Browser::on(&partitura);
    let page = browser.until("/instances/Parent/p%2F1%20%C3%BC", "child Hold/p/1 ü child").await.text;
    let to_child = r#"href="/instances/Hold/p%2F1%20%C3%BC%20child""#;
    for wanted in ["task Nobody.comes", to_child, "&quot;tea&quot;", "TaskScheduled"] {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
    let to_parent = r#"href="/instances/Parent/p%2F1%20%C3%BC""#;
    for wanted in ["a condition on its own state", "timer, due in 2 d 23 h", "child of ", to_parent, "Text.dot", "tea."]
    {
        browser.until("/instances/Hold/p%2F1%20%C3%BC%20child", wanted).await;
    }
    let of_parent = browser.get("/instances?parent=Parent%2Fp%2F1%20%C3%BC").await.text;
    assert!(of_parent.contains("p/1 ü child"), "{of_parent}");
}

#[tokio::test]
async fn everything_is_shown_while_all_workers_are_down() {
    let (partitura, worker) = deployment().await;
    let hold = partitura.client().workflow::<Hold>("h-1");
    hold.start("tea".to_owned()).confirmed().await.unwrap();
    let browser = Browser::on(&partitura);
    browser.until("/instances/Hold/h-1", "timer, due in").await;
    worker.stop().await.unwrap();

    let page = browser.get("/instances/Hold/h-1").await.text;
    for wanted in ["timer, due in", "no worker of Hold answered", "Text.dot"] {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
    assert!(browser.get("/").await.text.contains("Hold"));
}

#[tokio::test]
async fn a_failure_stands_on_its_row_and_can_be_filtered_for() {
    let (partitura, _worker) = deployment().await;
    let refused = partitura.client().workflow::<Refused>("r-1");
    refused.start("tea".to_owned()).await.unwrap();
    refused.result().await.unwrap_err();
    let browser = Browser::on(&partitura);
    let page = browser.get("/instances/Refused/r-1?rows=failed&events=failed").await.text;
    for wanted in ["How it ended", "Text.refuse", "no: tea", "attempt 2", "TaskFailed"] {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
    assert!(!page.contains("TaskScheduled"), "{page}");
}

#[tokio::test]
async fn a_page_has_a_bounded_number_of_rows_and_the_download_has_all() {
    let (partitura, _worker) = deployment().await;
    let long = partitura.client().workflow::<Long>("l-1");
    long.start(400).await.unwrap();
    assert_eq!(long.result().await.unwrap(), 400);
    let browser = Browser::on(&partitura);
    let page = browser.get("/instances/Long/l-1").await.text;
    let (timeline, history) = page.split_once(r#"id="history""#).expect("two parts");
    assert!(timeline.matches("<rect").count() <= 250 && history.matches("<tr").count() <= 100, "{}", page.len());
    assert!(history.contains("702 to 801 of 802"), "{history}");
    let earlier = browser.get("/instances/Long/l-1?from=602").await.text;
    assert!(earlier.contains("602 to 701 of 802"), "{earlier}");

    let all = browser.get("/instances/Long/l-1/history.json").await;
    assert_eq!(all.text.lines().count(), 802);
    assert!(all.text.lines().all(|line| serde_json::from_str::<partitura::history::Event>(line).is_ok()));
    assert!(all.headers["content-disposition"].to_str().unwrap().contains("l-1.jsonl"));
}

#[tokio::test]
async fn links_stay_below_the_place_where_the_page_is_mounted() {
    let (partitura, _worker) = deployment().await;
    partitura.client().workflow::<Hold>("h-1").start("a".to_owned()).confirmed().await.unwrap();
    let browser = Browser::new(Router::new().nest("/ops/partitura", partitura_web::page(&partitura)));
    for path in ["", "/instances", "/instances/Hold/h-1", "/topics", "/dead-letters", "/nowhere"] {
        let page = browser.get(&format!("/ops/partitura{path}")).await.text;
        let links = page.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
        let is_stray = |link: &&str| !link.starts_with("/ops/partitura") && !link.starts_with('#');
        let strays: Vec<&str> = links.filter(is_stray).collect();
        assert!(strays.is_empty(), "{path}: {strays:?}");
    }
    assert_eq!(browser.get("/ops/partitura/assets/page.css").await.status, StatusCode::OK);
    assert_eq!(browser.get("/ops/partitura/nowhere").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_live_page_is_told_when_it_has_changed() {
    let (partitura, _worker) = deployment().await;
    let hold = partitura.client().workflow::<Hold>("h-1");
    hold.start("a".to_owned()).confirmed().await.unwrap();
    let browser = Browser::on(&partitura);
    let told = tokio::spawn(async move { browser.first_event("/live?of=%2Finstances%2FHold%2Fh-1").await });
    // The stream tells each change once, and this goes on until it has begun to look.
    while !told.is_finished() {
        hold.signal(HoldSignal::go()).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    assert!(told.await.unwrap().contains("event: changed"));
}

#[tokio::test]
async fn topics_and_workers_are_those_that_workers_have_served() {
    let (partitura, _worker) = deployment().await;
    let browser = Browser::on(&partitura);
    let page = browser.get("/topics").await.text;
    for wanted in ["workflow.Hold.commands", "service.Text.tasks", "b-7"] {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints how long a page of 100,000 events takes"]
async fn a_page_of_a_hundred_thousand_events() {
    let (partitura, _worker) = deployment().await;
    let long = partitura.client().workflow::<Long>("l-1");
    long.start(50_000).await.unwrap();
    assert_eq!(long.result().await.unwrap(), 50_000);
    let short = partitura.client().workflow::<Long>("s-1");
    short.start(400).await.unwrap();
    assert_eq!(short.result().await.unwrap(), 400);
    for id in ["s-1", "l-1"] {
        let began = std::time::Instant::now();
        let last = partitura.client().instance("Long", id).last_events(600).await.unwrap();
        println!("the last {} of {} events of {id}: {:?}", last.events.len(), last.total, began.elapsed());
    }
    let browser = Browser::on(&partitura);
    for path in [
        "/instances/Long/s-1",
        "/instances/Long/l-1",
        "/instances/Long/l-1?from=0",
        "/instances/Long/l-1/history.json",
        "/",
    ] {
        let began = std::time::Instant::now();
        let answer = browser.get(path).await;
        println!("{path}: {:?}, {} bytes", began.elapsed(), answer.text.len());
    }
}
