//! The pause between two attempts at the same.

use std::fmt;
use std::time::Duration;

use tokio::time::sleep;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);

/// A pause that is twice as long each time: from 50 ms up to 5 s. Shown as the length of the next one.
#[derive(Clone, Copy)]
pub(crate) struct Pause(Duration);

impl Pause {
    pub(crate) fn new() -> Self {
        Self(FIRST)
    }

    /// How long the next one is.
    pub(crate) fn length(self) -> Duration {
        self.0
    }

    pub(crate) async fn wait(&mut self) {
        sleep(self.0).await;
        self.0 = (self.0 * 2).min(LONGEST);
    }
}

impl fmt::Debug for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_the_longest() {
        let (mut pause, began) = (Pause::new(), tokio::time::Instant::now());
        for _ in 0..8 {
            pause.wait().await;
        }
        assert_eq!(pause.length(), LONGEST);
        let doubled = FIRST * (1 + 2 + 4 + 8 + 16 + 32 + 64);
        assert_eq!(began.elapsed().as_secs(), (doubled + LONGEST).as_secs());
    }
}
