//! Lists of instances.

use partitura_engine::{Cursor, InstanceFilter, Summary};

use crate::admin::{Admin, within};
use crate::error::AdminError;

/// Which page of which instances.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// Which instances.
    pub filter: InstanceFilter,
    /// Behind this place: the `next` of an earlier page.
    pub after: Option<String>,
    /// How many at most.
    pub limit: usize,
}

/// A page of instances.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Listing {
    /// The instances, the newest first.
    pub instances: Vec<Summary>,
    /// Where to read on, if there may be more.
    pub next: Option<String>,
}

impl Admin {
    /// A page of instances.
    ///
    /// # Errors
    /// [`Refused`](AdminError::Refused) for a place that no page has given; [`Timeout`](AdminError::Timeout); those of
    /// the store.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn list(&self, search: &Search) -> Result<Listing, AdminError> {
        let after = match search.after.as_deref().map(str::parse::<Cursor>) {
            None => None,
            Some(Ok(cursor)) => Some(cursor),
            Some(Err(error)) => return Err(AdminError::Refused(error.to_string())),
        };
        let found = self.partitura.client().instances().matching(search.filter.clone());
        let page = within("list instances", async {
            match &after {
                None => found.page(search.limit).await,
                Some(cursor) => found.page_after(cursor, search.limit).await,
            }
        });
        let page = page.await?;
        Ok(Listing { instances: page.instances, next: page.next.map(|next| next.to_string()) })
    }

    /// The names of the workflows that have instances.
    ///
    /// # Errors
    /// [`Timeout`](AdminError::Timeout); those of the store.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn workflows(&self) -> Result<Vec<String>, AdminError> {
        within("list workflows", async { self.partitura.client().instances().workflows().await }).await
    }
}
