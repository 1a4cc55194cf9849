use bytes::Bytes;

/// The keys of the rows that the store has of an instance, in their order. They are no part of what its summary says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Indexed(pub(crate) Vec<Bytes>);

impl PartialEq for Indexed {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
