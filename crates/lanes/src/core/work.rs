/// The work that is under way, and whether more may begin.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Batches with the handler.
    running: usize,
    /// Dead letters that are being published.
    burying: usize,
    /// Messages that are being moved to the parking topic.
    moving: usize,
    draining: bool,
}

impl Work {
    pub(super) fn drain(&mut self) {
        self.draining = true;
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining
    }

    /// Whether another batch may begin.
    pub(super) fn has_room(&self, concurrency: usize) -> bool {
        !self.draining && self.has_place(concurrency)
    }

    /// The same, also while the core drains.
    pub(super) fn has_place(&self, concurrency: usize) -> bool {
        self.running < concurrency
    }

    pub(super) fn is_moving(&self) -> bool {
        self.moving > 0
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.running == 0 && self.burying == 0 && self.moving == 0
    }

    pub(super) fn begin_run(&mut self) {
        self.running += 1;
    }

    pub(super) fn end_run(&mut self) {
        self.running = self.running.saturating_sub(1);
    }

    pub(super) fn begin_burial(&mut self) {
        self.burying += 1;
    }

    pub(super) fn end_burial(&mut self) {
        self.burying = self.burying.saturating_sub(1);
    }

    pub(super) fn begin_move(&mut self) {
        self.moving += 1;
    }

    pub(super) fn end_move(&mut self) {
        self.moving = self.moving.saturating_sub(1);
    }

    #[cfg(test)]
    pub(super) fn running(&self) -> usize {
        self.running
    }
}
