//! A workflow that is started again and again.

use std::time::Duration;

use partitura::{Cancelled, Cx, Overlap, Partitura};

use crate::said::Said;

#[derive(Default)]
struct Report;

#[partitura::workflow]
impl Report {
    #[run]
    async fn run(_cx: Cx<Self>, of: String) -> Result<String, Cancelled> {
        Ok(format!("report of {of}"))
    }
}

pub(crate) async fn run(partitura: &Partitura) -> Said {
    let worker = partitura.worker().workflow::<Report>().schedules().start().await?;
    let schedule = partitura.client().schedule("report");
    let nightly = schedule.cron("0 3 * * *").time_zone("Europe/Berlin").overlap(Overlap::Skip);
    nightly.start::<Report>("sales".to_owned()).await?;

    schedule.trigger().await?; // now, beside its times
    let ended = loop {
        let description = schedule.describe().await?;
        if let Some(ended) = description.recent.into_iter().next() {
            break ended;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    schedule.delete().await?;
    worker.stop().await?;
    let name = ended.id.split_once('-').map_or("", |(name, _time)| name);
    let end = ended.end.map_or_else(String::new, |end| format!("{end:?}"));
    Ok(format!("{name}-… was started by hand, and has ended: {end}"))
}
