/// On whose behalf software is installed: errors name it, and it is told what goes on.
pub(crate) trait Requester {
    fn name(&self) -> &str;
    fn report(&self, line: &str);
}
