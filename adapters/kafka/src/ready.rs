//! Requests to brokers that are not ready yet.

use std::time::{Duration, Instant};

use rdkafka::error::KafkaResult;
use rdkafka::error::RDKafkaErrorCode::{
    CoordinatorLoadInProgress, CoordinatorNotAvailable, LeaderNotAvailable, NotCoordinator, NotLeaderForPartition,
    UnknownLeaderEpoch, UnknownTopicOrPartition, WaitingForCoordinator,
};

/// The time in which a coordinator or a leader gets ready: a broker that starts on a busy machine reads for a while.
const RETRY_FOR: Duration = Duration::from_secs(30);
/// The pause between two attempts.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);

/// Asks a coordinator or a leader again until it is ready. A broker that has just started reads its state first.
/// Blocks.
pub(crate) fn once_ready<T>(ask: impl Fn() -> KafkaResult<T>) -> KafkaResult<T> {
    let began = Instant::now();
    loop {
        match ask() {
            Err(error) if began.elapsed() < RETRY_FOR => match error.rdkafka_error_code() {
                Some(
                    CoordinatorLoadInProgress | CoordinatorNotAvailable | NotCoordinator | WaitingForCoordinator
                    // They do not know of a topic that was created a moment ago.
                    | LeaderNotAvailable | NotLeaderForPartition | UnknownLeaderEpoch | UnknownTopicOrPartition,
                ) => std::thread::sleep(PAUSE),
                _ => return Err(error),
            },
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use rdkafka::error::{KafkaError, RDKafkaErrorCode};

    use super::*;

    #[test]
    fn a_leader_that_does_not_lead_yet_is_asked_again_and_a_refusal_is_not() {
        for (code, asked) in [
            (RDKafkaErrorCode::UnknownLeaderEpoch, 2),
            (RDKafkaErrorCode::UnknownTopicOrPartition, 2),
            (RDKafkaErrorCode::TopicAuthorizationFailed, 1),
        ] {
            let times = Cell::new(0);
            let _ = once_ready(|| {
                times.set(times.get() + 1);
                if times.get() == 1 { Err(KafkaError::MetadataFetch(code)) } else { Ok(()) }
            });
            assert_eq!(times.get(), asked, "{code:?}");
        }
    }
}
