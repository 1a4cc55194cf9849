//! An instance and what it has started.

use partitura_engine::{InstanceName, Summary};
use serde::Serialize;

use crate::admin::{Admin, within};
use crate::error::AdminError;

/// How many instances a tree has at most.
const MOST: usize = 1_000;

/// An instance in a tree.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Member {
    /// How far it is below the first.
    pub depth: usize,
    /// Where it stands.
    pub summary: Summary,
}

/// An instance, its children, theirs and so on.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Family {
    /// The instance, and below each its children, those that were started last first.
    pub members: Vec<Member>,
    /// There are others, which are left out.
    pub is_capped: bool,
}

impl Admin {
    /// An instance with its children, theirs and so on, up to this depth and up to 1,000 of them.
    ///
    /// # Errors
    /// [`NotFound`](AdminError::NotFound); [`Timeout`](AdminError::Timeout); those of the store.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn family(&self, workflow: &str, id: &str, depth: usize) -> Result<Family, AdminError> {
        let client = self.partitura.client();
        within("read a tree of instances", async {
            let first = client.instance(workflow, id).summary().await?;
            let mut next = vec![Member { depth: 0, summary: first }];
            let mut family = Family { members: Vec::new(), is_capped: false };
            while let Some(member) = next.pop() {
                if member.depth < depth {
                    let name = InstanceName::new(&*member.summary.workflow, &*member.summary.id);
                    let room = MOST.saturating_sub(family.members.len() + next.len() + 1);
                    // One more than there is room for tells whether there are others.
                    let mut children = client.instances().parent(name).first(room + 1).await?;
                    family.is_capped |= children.len() > room;
                    children.truncate(room);
                    let below = member.depth + 1;
                    next.extend(children.into_iter().rev().map(|summary| Member { depth: below, summary }));
                }
                family.members.push(member);
            }
            Ok(family)
        })
        .await
    }
}
