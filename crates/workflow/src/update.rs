use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Failure, FailureKind, Payload, PayloadError};

/// The result of an update's handler, encoded.
pub type Answer = Result<Payload, Failure>;

/// A handler that runs beside `run`.
pub type HandlerFuture = BoxFuture<'static, Answer>;

/// An update of a workflow `W`, which is answered with a `T` or the handler's own error `E`.
///
/// `#[workflow]` generates a constructor for every handler.
///
/// ```
/// # extern crate partitura_workflow as partitura;
/// # use partitura::{Cancelled, Cx};
/// # use partitura_macros::workflow;
/// #[derive(Default)]
/// struct Cart {
///     items: Vec<String>,
/// }
///
/// #[workflow]
/// impl Cart {
///     #[run]
///     async fn run(cx: Cx<Self>) -> Result<(), Cancelled> {
///         cx.until(|cart: &Cart| cart.items.len() == 3).await
///     }
///
///     /// Puts an item into the cart, and says how many there are.
///     #[update(validate = Self::may_add)]
///     fn add(&mut self, item: String) -> Result<usize, String> {
///         self.items.push(item);
///         Ok(self.items.len())
///     }
///
///     fn may_add(&self, item: &str) -> Result<(), String> {
///         if item.is_empty() { Err("an item has a name".to_owned()) } else { Ok(()) }
///     }
/// }
///
/// // `handle.update(add).await` gives a `Result<usize, UpdateError<String>>`.
/// let add: partitura::Update<Cart, usize, String> = CartUpdate::add("nuts".to_owned());
/// ```
pub struct Update<W, T, E> {
    name: Cow<'static, str>,
    args: Result<Payload, PayloadError>,
    types: Types<W, T, E>,
}

/// A workflow, and the result and the error of one of its updates.
type Types<W, T, E> = PhantomData<fn() -> (W, T, E)>;

impl<W, T, E> Update<W, T, E> {
    #[doc(hidden)]
    pub fn new(name: impl Into<Cow<'static, str>>, args: Result<Payload, PayloadError>) -> Self {
        Self { name: name.into(), args, types: PhantomData }
    }

    /// The update's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name and the encoded arguments.
    ///
    /// # Errors
    /// When the arguments could not be encoded.
    pub fn into_parts(self) -> Result<(String, Payload), PayloadError> {
        Ok((self.name.into_owned(), self.args?))
    }
}

impl<W, T, E> fmt::Debug for Update<W, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Update").field("name", &self.name).field("args", &self.args).finish()
    }
}

/// Encodes what the handler of the update `name` returned. The update has been applied, so that a result that cannot be
/// encoded is an answer, too.
pub fn answer<T, E>(name: &str, returned: &Result<T, E>, describe: impl FnOnce(&E) -> String) -> Answer
where
    T: Serialize + DeserializeOwned,
    E: Serialize + DeserializeOwned,
{
    match returned {
        Ok(value) => Payload::encode(value)
            .map_err(|error| Failure::new(FailureKind::Unknown, format!("the result of update {name}: {error}"))),
        Err(error) => Err(Failure::application(error, describe(error))),
    }
}
