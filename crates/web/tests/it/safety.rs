use axum::http::StatusCode;
use partitura_web::{Access, Page};

use crate::support::{Browser, Hold, Refused, deployment};

const SCRIPT: &str = "<script>alert(1)</script>\"><img src=x onerror=alert(2)>";
const ENCODED: &str = "%3Cscript%3Ealert%281%29%3C%2Fscript%3E%22%3E%3Cimg%20src%3Dx%20onerror%3Dalert%282%29%3E";

#[tokio::test]
async fn no_payload_id_or_error_is_markup() {
    let (partitura, _worker) = deployment().await;
    let refused = partitura.client().workflow::<Refused>(SCRIPT);
    refused.start(SCRIPT.to_owned()).tag(SCRIPT).await.unwrap();
    refused.result().await.unwrap_err();
    let browser = Browser::on(&partitura);
    let path = format!("/instances/Refused/{ENCODED}");
    let mut pages = vec![browser.get(&path).await, browser.get("/").await, browser.get("/instances").await];
    assert_eq!(pages[0].status, StatusCode::OK, "{}", pages[0].text);
    assert!(pages[0].text.contains("&lt;script&gt;alert(1)"), "{}", pages[0].text);
    for query in ["status=%3Cscript%3E", "id=%22%3E%3Cimg%20src%3Dx", "parent=%3Cscript%3E%2F1", "after=%3Cimg%20"] {
        pages.push(browser.get(&format!("/instances?{query}")).await);
    }
    pages.push(browser.get("/instances/%3Cscript%3E/%3Cimg%20src%3Dx").await);
    for page in pages {
        let own = page.text.replace(r#"<script src="/assets/page.js" defer></script>"#, "");
        assert!(!own.contains("<script") && !own.contains("<img"), "{}", page.text);
    }
}

#[tokio::test]
async fn every_answer_forbids_what_is_not_the_pages_own() {
    let (partitura, _worker) = deployment().await;
    let browser = Browser::on(&partitura);
    for path in ["/", "/instances", "/instances/Hold/none", "/assets/page.css", "/nowhere", "/sign-in", "/topics"] {
        let answer = browser.get(path).await;
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        for wanted in ["default-src 'none'", "script-src 'self'", "form-action 'self'", "frame-ancestors 'none'"] {
            assert!(policy.contains(wanted), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert!(answer.headers.contains_key("cache-control"), "{path}");
        // The policy would forbid them: nothing of the page needs them.
        assert!(!answer.text.contains(" style=") && !answer.text.contains(" onclick="), "{path}");
    }
}

#[tokio::test]
async fn visitors_from_elsewhere_see_nothing_without_the_token() {
    let (partitura, _worker) = deployment().await;
    partitura.client().workflow::<Hold>("h-1").start("tea".to_owned()).confirmed().await.unwrap();
    let mut browser = Browser::new(Page::new(&partitura).token("secret").router());
    browser.peer = "10.0.0.7:5000";
    let instance = "/instances/Hold/h-1";
    for path in ["/", "/instances", instance, "/instances/Hold/h-1/history.json", "/live?of=%2F", "/dead-letters"] {
        let answer = browser.get(path).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
        assert!(!answer.text.contains("tea"), "{path}");
    }
    assert_eq!(browser.post("/sign-in", &[("token", "secre")]).await.status, StatusCode::FORBIDDEN);
    browser.headers.push(("authorization", "Bearer secret".to_owned()));
    assert_eq!(browser.get(instance).await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_application_may_decide_itself() {
    let (partitura, _worker) = deployment().await;
    let page = Page::new(&partitura).authorize(|request| match request.headers.get("x-user") {
        Some(_) => Access::Read,
        None => Access::Denied,
    });
    let mut browser = Browser::new(page.router());
    assert_eq!(browser.get("/").await.status, StatusCode::FORBIDDEN, "being local is not enough then");
    browser.headers.push(("x-user", "ada".to_owned()));
    assert_eq!(browser.get("/").await.status, StatusCode::OK);
}
