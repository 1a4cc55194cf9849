use super::members::Members;
use super::violation::Violation;
use crate::history::{History, Record};

/// Checks that at most one consumer of a subscription owns a partition, and that each term has a higher epoch than the
/// last.
///
/// A term ends when the consumer begins to release the partition or to leave, when it is told that it lost it, when
/// the time to release it is over, or when its process is killed.
///
/// # Errors
/// The first term that begins before another has ended, or with an epoch that does not grow.
pub fn one_owner(history: &History) -> Result<(), Violation> {
    let mut members = Members::default();
    for entry in history.entries() {
        if let Record::Assigned { consumer, partition, epoch } = &entry.record {
            let id = (entry.process, *consumer);
            if let Some(((process, other), _)) = members.other_owner(id, *partition, entry.at) {
                let what =
                    format!("partition {partition} is given to c{consumer} while c{other} of p{process} owns it");
                return Err(Violation::new("one_owner", what).at(entry));
            }
            let before = members.get(id).and_then(|member| member.terms.get(partition)).map(|term| term.epoch);
            if before.is_some_and(|before| before >= *epoch) {
                let what = format!("the epoch of partition {partition} does not grow: {before:?}, then {epoch}");
                return Err(Violation::new("one_owner", what).at(entry));
            }
        }
        members.apply(entry);
    }
    Ok(())
}

/// Checks that, in an ordered subscription, a partition's deliveries come after its assignment, with the epoch of
/// that term, and before the term ends.
///
/// # Errors
/// The first delivery outside of a term.
pub fn within_term(history: &History) -> Result<(), Violation> {
    let mut members = Members::default();
    for entry in history.entries() {
        if let Record::Delivered(delivered) = &entry.record {
            let id = (entry.process, delivered.consumer);
            let ordered = members.get(id).is_some_and(|member| member.ordered && member.group.is_some());
            let term = members.term(id, delivered.token.partition);
            if ordered && term.is_none_or(|term| term.epoch != delivered.token.epoch) {
                let what = format!("a delivery of partition {} outside of its term", delivered.token.partition);
                return Err(Violation::new("within_term", what).at(entry));
            }
        }
        members.apply(entry);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::Script;

    #[test]
    fn a_partition_that_is_released_may_go_to_another() {
        let history =
            Script::queue(2).join(0).assigned(0, 0, 1).join(1).revoking(0, 0).releasing(0, 0).assigned(1, 0, 2);
        assert_eq!(one_owner(&history.done()), Ok(()));
    }

    #[test]
    fn two_owners_at_once_are_found() {
        let history = Script::queue(2).join(0).assigned(0, 0, 1).join(1).assigned(1, 0, 2).done();
        assert!(one_owner(&history).unwrap_err().what.contains("partition 0 is given to c1 while c0"));
    }

    #[test]
    fn what_was_not_given_back_in_time_may_go_to_another_before_its_owner_hears_of_it() {
        let early = Script::queue(2).join(0).assigned(0, 0, 1).join(1).revoking(0, 0).assigned(1, 0, 2).done();
        assert!(one_owner(&early).is_err());
        let late = Script::queue(2).join(0).assigned(0, 0, 1).join(1).revoking(0, 0).wait(10_000).assigned(1, 0, 2);
        assert_eq!(one_owner(&late.done()), Ok(()));
    }

    #[test]
    fn a_term_ends_with_its_consumer_and_with_its_process() {
        assert_eq!(
            one_owner(&Script::queue(1).join(0).assigned(0, 0, 1).leave(0).join(1).assigned(1, 0, 2).done()),
            Ok(())
        );
        let killed =
            Script::queue(1).process(1).join(0).assigned(0, 0, 1).killed().process(2).join(0).assigned(0, 0, 2);
        assert_eq!(one_owner(&killed.done()), Ok(()));
    }

    #[test]
    fn the_partitions_of_a_process_that_stands_still_may_go_to_another() {
        let frozen = || Script::queue(1).process(1).join(0).assigned(0, 0, 1).then(Record::Frozen);
        let taken_over = || frozen().process(2).join(0).assigned(0, 0, 2);
        assert_eq!(one_owner(&taken_over().done()), Ok(()));
        // It goes on where it was, and does not know yet.
        let late = taken_over().process(1).then(Record::Thawed).deliver(0, "k-1", 1);
        assert_eq!(within_term(&late.done()), Ok(()));
        assert!(one_owner(&taken_over().process(3).join(0).assigned(0, 0, 3).done()).is_err());
    }

    #[test]
    fn an_epoch_that_does_not_grow_is_found() {
        let history = Script::queue(1).join(0).assigned(0, 0, 1).lost(0, 0).assigned(0, 0, 1).done();
        assert!(one_owner(&history).is_err());
    }

    #[test]
    fn a_delivery_belongs_into_a_term_and_carries_its_epoch() {
        let term = || Script::queue(1).join(0).assigned(0, 0, 3);
        assert_eq!(within_term(&term().deliver(0, "k-1", 3).done()), Ok(()));
        assert!(within_term(&term().deliver(0, "k-1", 2).done()).is_err());
        assert!(within_term(&term().releasing(0, 0).deliver(0, "k-1", 3).done()).is_err());
        assert!(within_term(&Script::queue(1).join(0).deliver(0, "k-1", 1).done()).is_err());
    }
}
