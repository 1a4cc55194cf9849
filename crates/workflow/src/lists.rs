//! Several futures of one list.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

use futures::future::{Either, select};
use futures::stream::{FuturesUnordered, StreamExt};

use crate::Cx;

impl<W> Cx<W> {
    /// Awaits a list and takes the first that is ready: its place in the list, from 0, and its output. The others are
    /// dropped, which cancels what they began. They are polled in the order of the list: of two that are ready at once,
    /// the earlier wins.
    ///
    /// [`join_all`](crate::join_all) waits for all of a list, [`try_join_all`](crate::try_join_all) until one of them
    /// fails.
    ///
    /// ```
    /// # use partitura_workflow::{Cx, Never, Task, TaskError};
    /// # struct Suppliers;
    /// # impl Suppliers { fn quote(&self, _: String) -> Task<u64, Never> { unimplemented!() } }
    /// # async fn example<W>(cx: Cx<W>, suppliers: Suppliers, names: Vec<String>) -> Result<u64, TaskError<Never>> {
    /// let (fastest, price) = cx.any(names.iter().map(|name| suppliers.quote(name.clone()))).await;
    /// println!("{} asks for {:?}", names[fastest], price);
    /// # price }
    /// ```
    ///
    /// # Panics
    /// When the list is empty: there is nothing to wait for.
    ///
    /// # Cancel safety
    /// Dropping it drops all of the list.
    pub async fn any<F: Future>(&self, list: impl IntoIterator<Item = F>) -> (usize, F::Output) {
        let mut list = pinned(list);
        assert!(!list.is_empty(), "cx.any waits for the first of a list, and the list is empty");
        poll_fn(|cx| {
            let mut polled = list.iter_mut().map(|future| future.as_mut().poll(cx)).enumerate();
            let first = polled.find_map(|(index, polled)| match polled {
                Poll::Ready(output) => Some((index, output)),
                Poll::Pending => None,
            });
            first.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// As [`any`](Cx::any), but passes over errors: takes the first that is `Ok`.
    ///
    /// # Errors
    /// Those of all, in the order of the list, if none of them is `Ok`; also if the list is empty.
    ///
    /// # Cancel safety
    /// Dropping it drops all of the list.
    pub async fn any_ok<F, T, E>(&self, list: impl IntoIterator<Item = F>) -> Result<(usize, T), Vec<E>>
    where
        F: Future<Output = Result<T, E>>,
    {
        let mut list: Vec<_> = pinned(list).into_iter().map(Some).collect();
        let mut errors: Vec<Option<E>> = list.iter().map(|_| None).collect();
        poll_fn(|cx| {
            for (index, place) in list.iter_mut().enumerate() {
                let Some(Poll::Ready(output)) = place.as_mut().map(|future| future.as_mut().poll(cx)) else { continue };
                *place = None;
                match output {
                    Ok(value) => return Poll::Ready(Ok((index, value))),
                    Err(error) => errors[index] = Some(error),
                }
            }
            match list.iter().all(Option::is_none) {
                true => Poll::Ready(Err(errors.iter_mut().filter_map(Option::take).collect())),
                false => Poll::Pending,
            }
        })
        .await
    }

    /// Awaits all of a list until `limit` is ready, and gives the outputs of those that were ready by then, in the
    /// order of the list. The others are dropped, which cancels what they began, and so is `limit`.
    ///
    /// ```
    /// # use partitura_workflow::{Cx, Never, Task, hours};
    /// # struct Suppliers;
    /// # impl Suppliers { fn quote(&self, _: String) -> Task<u64, Never> { unimplemented!() } }
    /// # async fn example<W>(cx: Cx<W>, suppliers: Suppliers, names: Vec<String>) -> Option<u64> {
    /// // The best price of those that come within the hour.
    /// let quotes = cx.all_until(cx.sleep(hours(1)), names.into_iter().map(|name| suppliers.quote(name))).await;
    /// quotes.into_iter().flatten().flatten().min()
    /// # }
    /// ```
    ///
    /// # Cancel safety
    /// Dropping it drops all of the list.
    pub async fn all_until<F: Future>(
        &self,
        limit: impl Future,
        list: impl IntoIterator<Item = F>,
    ) -> Vec<Option<F::Output>> {
        let numbered = |(index, future): (usize, F)| async move { (index, future.await) };
        let mut open: FuturesUnordered<_> = list.into_iter().enumerate().map(numbered).collect();
        let mut outputs: Vec<Option<F::Output>> = (0..open.len()).map(|_| None).collect();
        let mut limit = pin!(limit);
        // An element that is ready at the same time as the limit counts.
        while let Either::Left((Some((index, output)), _)) = select(open.next(), limit.as_mut()).await {
            outputs[index] = Some(output);
        }
        outputs
    }
}

fn pinned<F>(list: impl IntoIterator<Item = F>) -> Vec<Pin<Box<F>>> {
    list.into_iter().map(Box::pin).collect()
}
