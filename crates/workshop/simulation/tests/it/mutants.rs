//! Each deliberate bug is found, within a thousand seeds.

use partitura_simulation::{Mutant, Options, simulate};

const WITHIN: u64 = 1_000;

/// The seed at which a mutant is found, and the violated invariant.
fn found(mutant: Mutant) -> Option<(u64, &'static str)> {
    (0..WITHIN).find_map(|seed| {
        let violation = simulate(seed, Options::default().mutant(mutant)).violation?;
        Some((seed, violation.invariant))
    })
}

macro_rules! mutants {
    ($($name:ident: $mutant:ident,)*) => {
        $(
            #[test]
            fn $name() {
                match found(Mutant::$mutant) {
                    Some((seed, invariant)) => println!("{}: at seed {seed}, by “{invariant}”", Mutant::$mutant),
                    None => panic!("{} was not found within {WITHIN} seeds", Mutant::$mutant),
                }
            }
        )*

        #[test]
        fn every_mutant_is_tried() {
            assert_eq!(Mutant::ALL, [$(Mutant::$mutant),*]);
        }
    };
}

mutants! {
    a_store_without_the_fence_is_found: FenceOff,
    settling_before_the_commit_is_found: SettleAtDelivery,
    honoured_stale_tokens_are_found: StaleTokens,
    an_outbox_that_is_not_recovered_is_found: OutboxLost,
    messages_that_are_not_recognised_again_are_found: DedupeOff,
    half_a_write_is_found: TornWrite,
    a_confirm_before_the_store_is_found: LostPublish,
    a_key_out_of_order_is_found: KeyReordered,
    a_missing_redelivery_is_found: NoRedelivery,
    stale_reads_are_found: StaleReads,
    half_a_unit_is_found: TornUnit,
    a_step_that_nobody_looks_after_is_found: StepsForgotten,
    a_stopped_instance_that_nobody_tries_again_is_found: StopsForgotten,
    the_result_of_a_replaced_run_is_found: RunsConfused,
    a_forgotten_marker_of_a_version_is_found: VersionsForgotten,
    a_question_in_the_history_is_found: QueriesRecorded,
    an_instance_kept_past_the_loss_of_its_partition_is_found: LossUntold,
    a_summary_that_lags_behind_its_history_is_found: TornReads,
    a_timer_that_is_early_is_found: TimersEarly,
    rows_that_are_sent_again_are_found: OutboxKept,
    a_lost_result_of_a_step_is_found: StepResultsLost,
    what_is_settled_and_comes_again_is_found: FlushForgotten,
    a_task_that_is_asked_for_twice_is_found: TasksDoubled,
    children_that_are_left_behind_are_found: ChildrenForgotten,
    signals_that_are_left_behind_by_a_run_that_continues_are_found: SignalsLeftBehind,
    a_forgotten_delegation_is_found: DelegationsForgotten,
    answers_to_the_wrong_calls_of_a_batch_are_found: AnswersMixedUp,
    an_update_that_is_applied_twice_is_found: UpdatesAppliedTwice,
    a_row_of_an_instance_that_stands_elsewhere_is_found: IndexForgotten,
    a_schedule_that_starts_a_time_twice_is_found: ScheduleStartsTwice,
    a_start_that_is_early_is_found: StartsEarly,
    a_task_that_ends_its_process_without_end_is_found: CrashesForgotten,
    a_crash_that_counts_twice_is_found: CrashesDoubled,
    a_question_that_overtakes_a_delayed_start_is_found: QuestionsAhead,
    a_history_of_a_deleted_instance_is_found: DeletedHalf,
    a_task_of_a_deleted_instance_that_is_called_again_is_found: DeletedTasksAgain,
    last_words_of_a_deleted_instance_that_nobody_sends_are_found: LastWordsForgotten,
    a_sent_message_that_stays_set_aside_is_found: AsideKept,
    an_event_that_is_too_large_and_blocks_its_turn_is_found: EventsTooLarge,
    a_task_that_is_too_large_and_blocks_its_turn_is_found: TasksTooLarge,
}
