//! The pages that are read.

use std::net::SocketAddr;
use std::time::Instant;

use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::Request;
use partitura::{Instances, Order, Partitura, StatusKind};
use partitura_admin::Admin;
use partitura_bench_kit::Failure;
use tower::ServiceExt;

use crate::fill;

/// The instances of a page, as the web page has them.
const PAGE: usize = 50;
/// The number up to which the web page counts.
const COUNTED: usize = 10_000;

/// A page, what was on it, and how long it took in milliseconds.
pub(crate) struct Figure {
    pub(crate) page: String,
    pub(crate) found: usize,
    pub(crate) p50: f64,
    pub(crate) worst: f64,
}

pub(crate) async fn look(partitura: &Partitura, (count, repeat): (u64, usize)) -> Result<Vec<Figure>, Failure> {
    let all = || partitura.client().instances();
    let workflow = fill::workflow(3);
    let filters: Vec<(&str, Instances)> = vec![
        ("all", all()),
        ("of a workflow", all().workflow(&workflow)),
        ("running", all().status(StatusKind::Running)),
        ("stopped", all().status(StatusKind::Stopped)),
        ("running, of a workflow", all().status(StatusKind::Running).workflow(&workflow)),
        ("ended, by their end", all().ordered(Order::Closed)),
        ("with a tag", all().tag("customer-4711")),
        ("with a tag that none has", all().tag("nobody")),
        ("ids that begin with order-05", all().id_prefix("order-05")),
        ("ids that begin with order-0555555", all().id_prefix("order-0555555")),
        ("of a rare build, which is no index", all().build("rare")),
        ("stopped, of a rare build", all().status(StatusKind::Stopped).build("rare")),
    ];
    let mut figures = Vec::new();
    for (name, found) in &filters {
        let page = async || Ok(found.page(PAGE).await?.instances.len());
        figures.push(figure(format!("list: {name}"), repeat, page).await?);
        let count = async || Ok(found.count(COUNTED).await?.counted);
        figures.push(figure(format!("count: {name}"), repeat, count).await?);
    }
    let middle = middle(&all(), count).await?;
    let page = async || Ok(all().page_after(&middle, PAGE).await?.instances.len());
    figures.push(figure("list: all, a page far behind".to_owned(), repeat, page).await?);
    let page = async || Ok(all().workflows().await?.len());
    figures.push(figure("names of the workflows".to_owned(), repeat, page).await?);
    let admin = Admin::new(partitura);
    let page = async || Ok(admin.overview().await?.workflows.len());
    figures.push(figure("overview".to_owned(), repeat, page).await?);
    figures.extend(of_the_web(partitura, repeat).await?);
    Ok(figures)
}

/// The pages of the web, as its router gives them. No worker runs.
async fn of_the_web(partitura: &Partitura, repeat: usize) -> Result<Vec<Figure>, Failure> {
    let router = partitura_web::page(partitura);
    let long = format!("/instances/{}/{}", fill::workflow(0), fill::LONG);
    let paths = [
        "/".to_owned(),
        "/instances".to_owned(),
        format!("/instances?workflow={}&status=running", fill::workflow(3)),
        "/instances?status=stopped&within=30d".to_owned(),
        "/instances?tag=customer-4711".to_owned(),
        "/instances?id=order-05".to_owned(),
        "/instances?build=rare".to_owned(),
        "/topics".to_owned(),
        "/dead-letters".to_owned(),
        format!("{long}?from=50000"),
        long,
    ];
    let mut figures = Vec::new();
    for path in paths {
        let page = async || {
            let peer = ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 5_000)));
            let request = Request::get(&path).header("host", "localhost:7070").extension(peer).body(Body::empty())?;
            let response = router.clone().oneshot(request).await?;
            if !response.status().is_success() {
                return Err(Failure::from(format!("{path}: {}", response.status())));
            }
            Ok(to_bytes(response.into_body(), usize::MAX).await?.len())
        };
        figures.push(figure(format!("page {path}, bytes"), repeat, page).await?);
    }
    Ok(figures)
}

async fn figure(
    page: String,
    repeat: usize,
    read: impl AsyncFn() -> Result<usize, Failure>,
) -> Result<Figure, Failure> {
    let (mut took, mut found) = (Vec::new(), 0);
    for _ in 0..repeat {
        let begun = Instant::now();
        found = read().await?;
        took.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    took.sort_by(f64::total_cmp);
    let (p50, worst) = (took[took.len() / 2], took[took.len() - 1]);
    Ok(Figure { page, found, p50, worst })
}

/// The place behind a tenth of the instances, up to 100,000.
async fn middle(all: &Instances, count: u64) -> Result<partitura::Cursor, Failure> {
    let mut page = all.page(1_000).await?;
    for _ in 0..(count / 10_000).clamp(1, 100) {
        let Some(next) = page.next.take() else { break };
        page = all.page_after(&next, 1_000).await?;
    }
    Ok(page.next.ok_or("there are too few instances for a second page")?)
}
