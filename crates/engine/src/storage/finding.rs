//! Which rows a filter is answered from.

use partitura_broker::{Error, ErrorKind, Result, ScanRange};

use crate::messaging::directory::Destination;
use crate::storage::index::INDEX;
use crate::storage::index_keys::{
    is_exact_attribute, is_exact_tag, newest_first, of_attribute, of_parent, of_tag, of_workflow,
};
use crate::storage::search::{Position, Row, Search, Stream, names};
use crate::storage::turn_store::TurnStore;
use crate::storage::{history, index, served};
use crate::wire::Payloads;
use crate::wire::find::{Cursor, InstanceCount, InstanceFilter, InstancePage};
use crate::wire::names::InstanceKey;
use crate::wire::summary::{Order, StatusKind, Summary};

/// The largest page.
const LARGEST: usize = 1_000;
/// How many rows are looked at for a page.
const LOOKED_AT: usize = 2_000;

/// The rows that a filter is answered from.
struct Plan {
    /// How they are ordered.
    by: char,
    streams: Vec<Stream>,
    /// The filter for each row: the default if all rows match.
    rest: InstanceFilter,
}

/// A page of the instances that match, behind a cursor.
///
/// # Errors
/// Those of the store.
pub(crate) async fn page(
    turn_store: &TurnStore,
    filter: &InstanceFilter,
    after: Option<&Cursor>,
    limit: usize,
) -> Result<InstancePage> {
    let Plan { by, streams, rest } = plan(turn_store, filter).await?;
    let limit = limit.clamp(1, LARGEST);
    if after.is_some_and(|cursor| cursor.by != by) {
        let message = "the cursor is of a filter that orders otherwise; begin with the first page";
        return Err(Error::new(ErrorKind::InvalidArgument, "find instances", message));
    }
    let after = after.map(|Cursor { rest, prefix, .. }| Position { rest: rest.clone(), prefix: prefix.clone() });
    let mut search = Search::new(turn_store, &streams, after.as_ref(), limit);
    let (mut instances, mut next) = (Vec::new(), None);
    for _ in 0..LOOKED_AT {
        let Some(row) = search.next().await? else { break };
        instances.extend(read(&row).filter(|summary| rest.matches(summary)));
        next = Some(Cursor { by, rest: row.rest, prefix: (by == 'i').then_some(row.prefix) });
        if instances.len() == limit {
            break;
        }
    }
    Ok(InstancePage { instances, next: next.filter(|_| search.goes_on()) })
}

/// How many instances match: up to `most` are counted, or looked at.
///
/// # Errors
/// Those of the store.
pub(crate) async fn count(turn_store: &TurnStore, filter: &InstanceFilter, most: usize) -> Result<InstanceCount> {
    let Plan { streams, rest, .. } = plan(turn_store, filter).await?;
    if rest == InstanceFilter::default() {
        return count_rows(turn_store, streams.iter().map(|stream| stream.range(None)).collect(), most).await;
    }
    let mut counted = 0;
    let mut search = Search::new(turn_store, &streams, None, most);
    for _ in 0..most {
        let Some(row) = search.next().await? else { break };
        counted += usize::from(read(&row).is_some_and(|summary| rest.matches(&summary)));
    }
    Ok(InstanceCount { counted, is_capped: search.goes_on() })
}

/// How many instances of these workflows stand where: for each the numbers in the order of [`StatusKind::ALL`]. Up to
/// `most` of each are counted.
///
/// # Errors
/// Those of the store.
pub(crate) async fn tally(turn_store: &TurnStore, names: &[String], most: usize) -> Result<Vec<Vec<InstanceCount>>> {
    let scopes = |name: &String| StatusKind::ALL.map(|status| of_workflow(Order::Started, status, name));
    let ranges = names.iter().flat_map(scopes).map(|scope| ScanRange::prefix(INDEX, scope)).collect();
    let counted = turn_store.count_each(ranges, most.saturating_add(1)).await?;
    let count = |counted: &usize| InstanceCount { counted: *counted.min(&most), is_capped: *counted > most };
    Ok(counted.chunks(StatusKind::ALL.len()).map(|counted| counted.iter().map(count).collect()).collect())
}

/// Counts the rows of ranges, up to `most` of all. A part of that is counted in each, and more in those that have more:
/// all of them are asked at once, and yet no more is read than a few times of what is counted.
async fn count_rows(turn_store: &TurnStore, mut ranges: Vec<ScanRange>, most: usize) -> Result<InstanceCount> {
    let (mut counted, mut share) = (0, most / ranges.len().max(1) + 1);
    while !ranges.is_empty() {
        let counts = turn_store.count_each(ranges.clone(), share).await?;
        if counted + counts.iter().sum::<usize>() > most {
            return Ok(InstanceCount { counted: most, is_capped: true });
        }
        counted += counts.iter().filter(|count| **count < share).sum::<usize>();
        ranges = ranges.into_iter().zip(counts).filter(|(_, count)| *count >= share).map(|(range, _)| range).collect();
        let open = (most - counted) / ranges.len().max(1) + 1;
        share = share.saturating_mul(2).max(open).min(most.saturating_add(1));
    }
    Ok(InstanceCount { counted, is_capped: false })
}

/// The names of the workflows that have instances, in the order of their bytes.
///
/// # Errors
/// Those of the store.
pub(crate) async fn workflows(turn_store: &TurnStore) -> Result<Vec<String>> {
    // Nearly all of them have had a worker, which has noted it.
    let served = served::all(turn_store).await?.into_iter().filter_map(|served| match served.destination {
        Destination::Workflow(name) => Some(name),
        Destination::Service(_) => None,
    });
    let names = names(turn_store, history::INSTANCES, b"", &served.collect()).await?;
    Ok(names.iter().map(|name| String::from_utf8_lossy(&name[..name.len() - 1]).into_owned()).collect())
}

async fn plan(turn_store: &TurnStore, filter: &InstanceFilter) -> Result<Plan> {
    let mut rest = InstanceFilter { order: Order::default(), ..filter.clone() };
    if let Some(prefix) = rest.id_prefix.take() {
        let streams = by_id(turn_store, rest.workflow.take(), &prefix).await?;
        return Ok(Plan { by: 'i', streams, rest });
    }
    let scope = if let Some(parent) = rest.parent.take() {
        Some(('p', of_parent(&parent.workflow, &parent.id)))
    } else if let Some((name, value)) = rest.attributes.pop_first() {
        let scope = of_attribute(&name, &value);
        if !is_exact_attribute(&name, &value) {
            rest.attributes.insert(name, value);
        }
        Some(('a', scope))
    } else {
        let scope = rest.tag.as_ref().map(|tag| ('t', of_tag(tag)));
        rest.tag = rest.tag.filter(|tag| !is_exact_tag(tag));
        scope
    };
    if let Some((by, prefix)) = scope {
        let between = (rest.started_from.take(), rest.started_before.take());
        return Ok(Plan { by, streams: vec![timed(prefix, between)], rest });
    }
    let by_end = filter.order == Order::Closed || rest.closed_from.is_some() || rest.closed_before.is_some();
    let (by, order, between) = if by_end {
        ('c', Order::Closed, (rest.closed_from.take(), rest.closed_before.take()))
    } else {
        ('s', Order::Started, (rest.started_from.take(), rest.started_before.take()))
    };
    let all = if rest.status.is_empty() { StatusKind::ALL.to_vec() } else { std::mem::take(&mut rest.status) };
    let scopes = scopes(turn_store, order, &all, rest.workflow.take()).await?;
    Ok(Plan { by, streams: scopes.into_iter().map(|scope| timed(scope, between)).collect(), rest })
}

/// The instances of a workflow, or of all, by their ids.
async fn by_id(turn_store: &TurnStore, workflow: Option<String>, id_prefix: &str) -> Result<Vec<Stream>> {
    let workflows = match workflow {
        Some(workflow) => vec![workflow],
        None => workflows(turn_store).await?,
    };
    let workflows = workflows.iter().map(|workflow| [workflow.as_bytes(), b"\0"].concat());
    let ScanRange { to, .. } = ScanRange::prefix(history::INSTANCES, id_prefix.as_bytes().to_vec());
    let (from, to) = (id_prefix.as_bytes().to_vec(), to.map(|to| to.to_vec()));
    let of = |prefix| Stream { from: from.clone(), to: to.clone(), ..Stream::whole(history::INSTANCES, prefix) };
    Ok(workflows.map(of).collect())
}

/// A scope for each workflow and each of these places where instances stand.
async fn scopes(
    turn_store: &TurnStore,
    order: Order,
    status: &[StatusKind],
    workflow: Option<String>,
) -> Result<Vec<Vec<u8>>> {
    let mut status = status.to_vec();
    status.sort_unstable_by_key(|status| status.code());
    status.dedup();
    let workflows = match workflow {
        Some(workflow) => vec![workflow],
        None => workflows(turn_store).await?,
    };
    let of_all = status.iter().flat_map(|status| workflows.iter().map(|name| of_workflow(order, *status, name)));
    Ok(of_all.collect())
}

/// The rows of a scope from one time on, before another.
fn timed(scope: Vec<u8>, (from, before): (Option<u64>, Option<u64>)) -> Stream {
    let whole = Stream::whole(INDEX, scope);
    let first = before.map(|before| newest_first(before.saturating_sub(1)).to_vec());
    // All that is older comes behind the last row of that time.
    let last = from.and_then(|from| from.checked_sub(1)).map(|older| newest_first(older).to_vec());
    Stream { from: first.unwrap_or_default(), to: last, ..whole }
}

/// Reads the summary of a row, without payloads. `None`: this version cannot read it.
fn read(row: &Row) -> Option<Summary> {
    let key = InstanceKey::new("…", &String::from_utf8_lossy(&row.rest));
    match history::decode_summary(&Payloads::default(), &row.value, &key) {
        Ok(summary) => Some(index::listed(summary)),
        Err(error) => {
            tracing::warn!(%error, "a summary is left out of what was asked for");
            None
        }
    }
}
