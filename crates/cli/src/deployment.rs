//! Topics and workers.

use partitura::contract::Topology;
use partitura::{Destination, InvalidDestination, operator_commands};
use partitura_admin::{Admin, Topic, Working, text};

use crate::args::{Format, Topics};
use crate::failure::Failure;
use crate::output::Out;

pub(crate) async fn topics(admin: &Admin, asked: &Topics, out: &mut Out<'_>) -> Result<(), Failure> {
    if let Some(broker) = &asked.broker {
        let script = operator_commands(broker, &topology(admin, &asked.names).await?)?;
        return script.lines().try_for_each(|line| out.line(line));
    }
    let topics = admin.topics().await?;
    match out.format {
        Format::Json => out.json(&topics),
        Format::Ids => topics.iter().try_for_each(|topic| out.line(&topic.takes)),
        Format::Table => {
            let row = |topic: &Topic| {
                let partitions = topic.partitions.map_or_else(|| "-".to_owned(), |partitions| partitions.to_string());
                vec![topic.destination.to_string(), partitions, topic.takes.clone(), topic.events.clone()]
            };
            out.table(&["of", "partitions", "takes", "events"], &topics.iter().map(row).collect::<Vec<_>>())
        }
    }
}

/// The topics and subscriptions of the named workflows and services, or else of all that were served.
async fn topology(admin: &Admin, names: &[String]) -> Result<Topology, Failure> {
    let destinations = if names.is_empty() {
        admin.topics().await?.into_iter().map(|topic| topic.destination).collect()
    } else {
        let parsed = names.iter().map(|name| name.parse()).collect::<Result<Vec<Destination>, _>>();
        parsed.map_err(|error: InvalidDestination| Failure::usage(error.to_string()))?
    };
    let mut all = Topology::new();
    for destination in &destinations {
        let Topology { topics, subscriptions, .. } = admin.partitura().topology(destination)?;
        all.topics.extend(topics);
        all.subscriptions.extend(subscriptions);
    }
    Ok(all)
}

pub(crate) async fn workers(admin: &Admin, out: &mut Out<'_>) -> Result<(), Failure> {
    let workers = admin.workers().await?;
    match out.format {
        Format::Json => out.json(&workers),
        Format::Ids => workers.iter().try_for_each(|working| out.line(&working.served.destination.to_string())),
        Format::Table => {
            let now = admin.now();
            let row = |Working { served, has_worker, .. }: &Working| {
                let has_worker = match has_worker {
                    Some(true) => "ok",
                    Some(false) => "none answers",
                    None => "not known",
                };
                let since = if served.since == 0 { "never".to_owned() } else { text::relative(served.since, now) };
                vec![served.destination.to_string(), has_worker.to_owned(), served.build.clone(), since]
            };
            out.table(&["serves", "workers", "build", "last started"], &workers.iter().map(row).collect::<Vec<_>>())
        }
    }
}
