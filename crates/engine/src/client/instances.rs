//! Instances of all workflows, as the store has them.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use partitura_workflow::Attribute;

use super::connection::Connection;
use crate::error::ClientError;
use crate::storage::{finding, index};
use crate::wire::find::{Cursor, InstanceCount, InstanceFilter, InstanceName, InstancePage};
use crate::wire::summary::{Order, StatusKind, Summary};

/// Instances of all workflows, as they stand in the store: to be found without their Rust types, and without a worker
/// that runs.
///
/// They come newest first, page by page. A page costs the same however many instances there are, in what follows.
///
/// * The order is that of their starts; that of their ends where those are asked for
///   ([`closed_from`](Self::closed_from), [`ordered`](Self::ordered)); that of their ids where these begin with
///   something ([`id_prefix`](Self::id_prefix)).
/// * There are rows of their own for each status, each workflow, each tag, each attribute and each parent. Conditions
///   beside the most selective of these are looked for in its rows, up to 2,000 of them for a page: see
///   [`InstancePage::next`].
/// * An instance counts once, with its latest run. A page shows what was committed when it was read.
///
/// ```
/// # use partitura_engine::{Client, ClientError, StatusKind};
/// # async fn example(client: Client) -> Result<(), ClientError> {
/// let stopped = client.instances().workflow("Checkout").status(StatusKind::Stopped).attribute("customer", "acme");
/// println!("{} are stopped", stopped.count(10_000).await?);
/// let mut page = stopped.page(50).await?;
/// loop {
///     for summary in &page.instances {
///         println!("{}: {}", summary.id, summary.status.reason().unwrap_or_default());
///     }
///     let Some(next) = &page.next else { return Ok(()) };
///     page = stopped.page_after(next, 50).await?;
/// }
/// # }
/// ```
#[derive(Clone)]
#[must_use = "nothing is read before a page is asked for"]
pub struct Instances {
    pub(super) connection: Arc<Connection>,
    filter: InstanceFilter,
}

impl Instances {
    pub(crate) fn new(connection: Arc<Connection>) -> Self {
        Self { connection, filter: InstanceFilter::default() }
    }

    /// Those to which this applies, in place of all that was said before.
    pub fn matching(self, filter: InstanceFilter) -> Self {
        Self { filter, ..self }
    }

    /// Those that stand here, or at one of the other places that are named.
    pub fn status(mut self, status: StatusKind) -> Self {
        self.filter.status.push(status);
        self
    }

    /// Those of this workflow.
    pub fn workflow(mut self, name: impl Into<String>) -> Self {
        self.filter.workflow = Some(name.into());
        self
    }

    /// Those whose ids begin with this, in the order of their ids' bytes.
    pub fn id_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.filter.id_prefix = Some(prefix.into());
        self
    }

    /// Those with this tag.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.filter.tag = Some(tag.into());
        self
    }

    /// Those with this value of an [attribute](partitura_workflow::Cx::set_attribute).
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<Attribute>) -> Self {
        self.filter.attributes.insert(name.into(), value.into());
        self
    }

    /// Those whose latest turn was taken by this [build](crate::Worker::build_id).
    pub fn build(mut self, build: impl Into<String>) -> Self {
        self.filter.build = Some(build.into());
        self
    }

    /// The children of an instance.
    pub fn parent(mut self, parent: InstanceName) -> Self {
        self.filter.parent = Some(parent);
        self
    }

    /// Those that were started at this time or later.
    pub fn started_from(mut self, time: Timestamp) -> Self {
        self.filter.started_from = Some(millis(time));
        self
    }

    /// Those that were started before this time.
    pub fn started_before(mut self, time: Timestamp) -> Self {
        self.filter.started_before = Some(millis(time));
        self
    }

    /// Those that ended at this time or later.
    pub fn closed_from(mut self, time: Timestamp) -> Self {
        self.filter.closed_from = Some(millis(time));
        self
    }

    /// Those that ended before this time.
    pub fn closed_before(mut self, time: Timestamp) -> Self {
        self.filter.closed_before = Some(millis(time));
        self
    }

    /// Newest first by this time.
    pub fn ordered(mut self, order: Order) -> Self {
        self.filter.order = order;
        self
    }

    /// Which instances these are.
    pub fn filter(&self) -> &InstanceFilter {
        &self.filter
    }

    /// The first page, of up to `limit` instances, of which there may be 1,000.
    ///
    /// # Errors
    /// [`Unsupported`](partitura_broker::ErrorKind::Unsupported) when this connection has no store; those of the store.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn page(&self, limit: usize) -> Result<InstancePage, ClientError> {
        Ok(finding::page(&self.connection.stored, &self.filter, None, limit).await?)
    }

    /// The page behind [`next`](InstancePage::next) of an earlier one.
    ///
    /// # Errors
    /// As for [`page`](Self::page); [`InvalidArgument`](partitura_broker::ErrorKind::InvalidArgument) for a cursor of
    /// another order.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn page_after(&self, cursor: &Cursor, limit: usize) -> Result<InstancePage, ClientError> {
        Ok(finding::page(&self.connection.stored, &self.filter, Some(cursor), limit).await?)
    }

    /// Reads pages until there are `limit` instances, or no more.
    ///
    /// # Errors
    /// As for [`page`](Self::page).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn first(&self, limit: usize) -> Result<Vec<Summary>, ClientError> {
        let mut page = self.page(limit).await?;
        let mut found = std::mem::take(&mut page.instances);
        while let Some(next) = page.next.take().filter(|_| found.len() < limit) {
            page = self.page_after(&next, limit - found.len()).await?;
            found.append(&mut page.instances);
        }
        Ok(found)
    }

    /// How many there are. Up to `most` are counted, or, where instances have to be looked at, looked at.
    ///
    /// # Errors
    /// As for [`page`](Self::page).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn count(&self, most: usize) -> Result<InstanceCount, ClientError> {
        Ok(finding::count(&self.connection.stored, &self.filter, most).await?)
    }

    /// The names of all workflows that have instances, whatever the filter is, in the order of their bytes.
    ///
    /// # Errors
    /// As for [`page`](Self::page).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn workflows(&self) -> Result<Vec<String>, ClientError> {
        Ok(finding::workflows(&self.connection.stored).await?)
    }

    /// How many instances of these workflows stand where, whatever the filter is: for each the numbers in the order of
    /// [`StatusKind::ALL`]. Up to `most` of each are counted, all in one request to the store.
    ///
    /// # Errors
    /// As for [`page`](Self::page).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn tally(&self, workflows: &[String], most: usize) -> Result<Vec<Vec<InstanceCount>>, ClientError> {
        Ok(finding::tally(&self.connection.stored, workflows, most).await?)
    }

    /// Writes anew the rows by which all instances are found, whatever the filter is, and says of how many.
    ///
    /// Workers do that by themselves for the instances of a store that was written before there were such rows. By hand
    /// it is needed when workers of such a version have run beside newer ones. It may run at any time.
    ///
    /// # Errors
    /// As for [`page`](Self::page).
    ///
    /// # Cancel safety
    /// Dropped, some are written. Begin again.
    pub async fn reindex(&self) -> Result<usize, ClientError> {
        Ok(index::rebuild(&self.connection.stored).await?)
    }
}

impl fmt::Debug for Instances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Instances").field(&self.filter).finish()
    }
}

/// Times before 1970 are those of no instance.
fn millis(time: Timestamp) -> u64 {
    u64::try_from(time.as_millisecond()).unwrap_or(0)
}
