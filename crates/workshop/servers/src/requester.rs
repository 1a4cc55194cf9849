/// The part for which software is installed: errors name it, and it gets a line for each action.
pub(crate) trait Requester {
    fn name(&self) -> &str;
    fn report(&self, line: &str);
}
