/// The mean size of the messages of a consumer. Brokers bound the number of messages that they send in advance, while
/// memory is bounded in bytes.
///
/// A message that is larger than the mean becomes the mean at once, so that memory stays bounded; smaller ones lower it
/// slowly.
#[derive(Debug, Clone, Copy)]
pub struct MeanSize {
    bytes: usize,
    weight: usize,
    is_seen: bool,
}

impl MeanSize {
    /// The size before a message was seen: the largest message that every broker takes, 1 MiB.
    pub const GUESS: usize = 1 << 20;

    /// Makes one in which a message that is smaller than the mean counts for one part of `weight`. Zero counts as one.
    pub fn new(weight: usize) -> Self {
        Self { bytes: Self::GUESS, weight: weight.max(1), is_seen: false }
    }

    /// Takes note of a message of this many bytes. An empty one counts as one byte.
    pub fn add(&mut self, bytes: usize) {
        let bytes = bytes.max(1);
        // The first message says more than the guess.
        let is_followed = !self.is_seen || bytes > self.bytes;
        self.bytes = if is_followed { bytes } else { (self.bytes * (self.weight - 1) + bytes) / self.weight };
        self.is_seen = true;
    }

    /// The mean, in bytes: at least one.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_grows_at_once_and_shrinks_slowly_to_what_comes() {
        let mut mean = MeanSize::new(8);
        assert_eq!(mean.bytes(), MeanSize::GUESS);
        mean.add(0);
        assert_eq!(mean.bytes(), 1);
        mean.add(800);
        assert_eq!(mean.bytes(), 800);
        mean.add(80);
        assert_eq!(mean.bytes(), 710);
        (0..200).for_each(|_| mean.add(80));
        assert_eq!(mean.bytes(), 80);
    }
}
