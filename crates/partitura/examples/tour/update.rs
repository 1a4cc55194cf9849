//! A workflow that is changed and answers: validated first, then recorded, and applied once.

use partitura::{Cancelled, Cx, Partitura, UpdateError};

use crate::said::Said;

#[derive(Default)]
struct Cart {
    items: Vec<String>,
    is_paid: bool,
}

#[partitura::workflow]
impl Cart {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<String, Cancelled> {
        cx.until(|cart: &Self| cart.is_paid).await?;
        Ok(cx.state(|cart| cart.items.join(" and ")))
    }

    #[update(validate = Self::has_name)]
    fn add(&mut self, item: String) -> Result<usize, String> {
        self.items.push(item);
        Ok(self.items.len())
    }

    fn has_name(&self, item: &str) -> Result<(), String> {
        if item.is_empty() { Err("an item has a name".to_owned()) } else { Ok(()) }
    }

    #[signal]
    fn pay(&mut self) {
        self.is_paid = true;
    }
}

pub(crate) async fn run(partitura: &Partitura) -> Said {
    let worker = partitura.worker().workflow::<Cart>().start().await?;
    let cart = partitura.client().workflow::<Cart>("cart-7");
    cart.start(()).with_update(CartUpdate::add("tea".to_owned())).await?; // starts it, if it is not there
    let items = cart.update(CartUpdate::add("milk".to_owned())).await?;
    let nameless = cart.update(CartUpdate::add(String::new())).await;
    assert!(matches!(nameless, Err(UpdateError::Rejected(_))), "nothing was recorded");
    cart.signal(CartSignal::pay()).await?;
    let said = format!("{items} items, then: {}", cart.result().await?);
    worker.stop().await?;
    Ok(said)
}
