//! A workflow that is updated: a cart that takes items until it is paid.

use partitura::{Cancelled, Cx};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum CartError {
    #[error("{0} items are enough")]
    Full(usize),
    #[error("an item has a name")]
    Nameless,
}

#[derive(Debug, Default)]
pub(crate) struct Cart {
    items: Vec<String>,
    paid: bool,
}

#[partitura::workflow]
impl Cart {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<String, Cancelled> {
        cx.until(|cart: &Cart| cart.paid).await?;
        Ok(cx.state(|cart| cart.items.join(" ")))
    }

    /// Puts an item into the cart, and says how many there are. Three are enough.
    #[update(validate = Self::may_add)]
    fn add(&mut self, item: String) -> Result<usize, CartError> {
        if self.items.len() == 3 {
            return Err(CartError::Full(3));
        }
        self.items.push(item);
        Ok(self.items.len())
    }

    fn may_add(&self, item: &str) -> Result<(), CartError> {
        if item.is_empty() { Err(CartError::Nameless) } else { Ok(()) }
    }

    #[update]
    fn pay(&mut self) -> bool {
        !std::mem::replace(&mut self.paid, true)
    }
}

pub(crate) fn add(item: impl Into<String>) -> partitura::Update<Cart, usize, CartError> {
    CartUpdate::add(item.into())
}
