//! The features of workflows and the fate of workers, the same on every broker.
//!
//! `PARTITURA_BROKERS` names the brokers, separated by spaces, for which the facade's features must be on; their
//! servers, and the one for the store, are the standing ones. Without it, the broker that needs no server is tried, in
//! memory. `PARTITURA_BROKER_URL` and `PARTITURA_STORE_URL` name servers that run elsewhere, for one broker. Trials that
//! take minutes run only with `--ignored`.

mod acting;
mod answering;
mod asking;
#[path = "../it/booths.rs"]
mod booths;
#[path = "../it/builds.rs"]
mod builds;
mod busy;
mod calling;
#[path = "../it/carts.rs"]
mod carts;
mod chains;
mod composing;
mod continuing;
mod delegated;
mod deployments;
mod extremes;
mod failing;
mod families;
mod finding;
mod keeping;
mod layering;
mod lifecycle;
mod limits;
mod lists;
mod once;
mod operating;
mod pausing;
mod repairing;
mod report;
mod retrying;
mod sagas;
mod scenarios;
mod schedules;
mod shop;
mod side_by_side;
mod stage;
mod starting;
mod stores;
#[path = "../it/support.rs"]
mod support;
mod times;
mod updates;
mod workers;

use std::error::Error;

use libtest_mimic::{Arguments, Trial};

use crate::stage::Backend;

/// The number of trials at once, unless the command line says another. They wait most of the time.
const AT_ONCE: usize = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(AT_ONCE));
    let brokers = std::env::var("PARTITURA_BROKERS").unwrap_or_else(|_| stage::IN_MEMORY.to_owned());
    let mut trials = Vec::new();
    for broker in brokers.split_whitespace() {
        let backend = Backend::named(broker)?;
        trials.extend(trials_on(&backend));
        trials.extend(long_trials_on(&backend));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// A trial for each function. One that is not listed is unused, which the compiler says.
macro_rules! trials {
    ($backend:expr, $($module:ident: $($test:ident),* ;)*) => { trials!(run, $backend, $($module: $($test),* ;)*) };
    ($run:ident, $backend:expr, $($module:ident: $($test:ident),* ;)*) => {
        vec![$($({
            let (backend, name) = ($backend.clone(), concat!(stringify!($module), "::", stringify!($test)));
            let trial = move || report::reported((backend.name(), name), || backend.$run($module::$test));
            Trial::test(format!("{}::{name}", $backend.name()), trial)
        }),*),*]
    };
}

/// Trials that take minutes, on a server that lets a delivery be held for one, if the broker has such a limit.
fn long_trials_on(backend: &Backend) -> Vec<Trial> {
    if !backend.can_be_impatient() {
        return Vec::new();
    }
    let trials = trials![
        run_impatiently,
        backend,
        once: tasks_of_three_minutes_run_once_though_a_delivery_may_be_held_for_one;
    ];
    trials.into_iter().map(|trial| trial.with_ignored_flag(true)).collect()
}

fn trials_on(backend: &Backend) -> Vec<Trial> {
    trials![
        backend,
        scenarios: tasks_run_one_after_the_other, many_tasks_run_at_once_and_are_joined, tasks_that_were_started_are_awaited_in_any_order, a_task_and_a_timer_race_and_the_first_wins, a_parent_gets_the_results_and_the_errors_of_its_children, a_child_whose_id_is_taken_fails_in_the_parent, inline_steps_run_on_the_runtime_and_are_recorded, a_failed_workflow_runs_its_compensations_in_reverse, signals_to_a_channel_are_kept_in_order_also_when_they_come_early, a_workflow_signals_another;
        lifecycle: starting_twice_is_starting_once, a_start_can_insist_on_a_new_instance, a_start_can_replace_a_running_instance, what_has_ended_is_deleted_when_its_time_is_over, a_query_reads_the_state_of_a_running_instance, a_cancelled_workflow_ends_as_cancelled, cancelling_reaches_the_children, terminating_a_parent_cancels_its_children, instances_are_listed_by_status_and_tag_page_by_page, the_history_tells_what_happened, a_query_of_an_instance_that_has_ended_reads_its_last_state, a_signal_reaches_all_instances_of_a_tag_once;
        continuing: an_instance_continues_under_its_id_and_every_signal_counts_once, a_parent_gets_the_result_of_the_last_run, a_parent_that_is_cancelled_reaches_a_child_that_has_continued;
        starting: a_start_says_which_run_there_is_and_whether_it_is_new, a_start_may_begin_anew_what_has_ended_or_failed, a_signal_that_goes_with_a_start_counts_once, an_instance_whose_time_is_up_is_ended, a_delayed_start_begins_at_its_time_and_not_before;
        retrying: a_workflow_that_fails_is_tried_again_and_gives_the_result_of_its_last_attempt, a_parent_gets_the_outcome_of_the_last_attempt_of_its_child, a_run_whose_time_is_over_is_tried_again_within_the_time_of_the_whole, an_attempt_that_waits_begins_in_the_next_worker_with_the_signals_that_came, what_is_cancelled_or_terminated_while_an_attempt_waits_is_not_tried_again;
        lists: the_first_of_a_list_wins_and_what_comes_in_time_counts, the_children_that_lose_are_cancelled, each_signal_of_a_channel_goes_to_one_receiver_that_wants_it;
        side_by_side: instances_stay_with_their_version_and_new_ones_take_the_highest;
        schedules: a_schedule_starts_each_time_once_up_to_its_limit, a_paused_schedule_goes_on_in_another_worker;
        delegated: a_delegated_task_is_completed_once_from_another_process, a_completion_waits_for_the_next_worker, an_attempt_that_was_given_up_is_not_completed, a_delegated_task_fails_with_the_error_of_its_method, a_task_that_was_cancelled_is_not_completed, a_delegated_task_that_is_heard_of_no_more_is_tried_again, a_fork_asks_anew_for_a_task_in_flight;
        busy: no_more_tasks_of_a_key_run_at_a_time_than_its_limit, calls_of_a_batch_each_get_their_own_result, tasks_begin_no_faster_than_the_rate_of_their_method, a_rate_across_processes_is_kept_by_all_of_them_together;
        stores: the_store_passes_the_suite_for_stores, a_write_is_not_guessed_about_though_its_connection_is_cut;
        updates: an_update_is_answered_and_counts_once_under_its_id, a_start_with_an_update_gives_its_result, an_update_that_waits_is_answered_by_the_next_worker, a_handler_that_waits_answers_after_its_worker_has_gone;
        limits: what_is_too_large_for_the_broker_fails_tasks_and_children_with_the_reason, what_a_workflow_sends_and_is_too_large_is_refused_to_its_code;
        deployments: what_is_optional_may_come_and_go_while_both_builds_run, a_signal_of_a_wider_type_waits_in_the_old_build_for_the_new_one, an_input_that_the_new_build_cannot_read_waits_there_for_the_old_one, methods_and_arguments_that_one_build_does_not_know_are_left_to_the_other, a_guarded_change_goes_on_in_the_new_build, an_unguarded_change_waits_for_the_old_build, an_unguarded_change_that_is_taken_back_waits_for_the_new_build, a_guarded_change_that_is_taken_back_waits_for_the_new_build, a_deployment_sees_what_its_code_would_stop_before_it_takes_over;
        once: eight_long_tasks_run_once_in_two_processes, a_task_of_twice_the_length_runs_once_beside_other_workflows, a_task_that_ends_while_its_worker_stops_runs_once, a_task_that_ends_while_a_worker_of_35_workflows_stops_runs_once, two_hundred_steps_run_once_with_one_instance_in_memory, the_retries_of_what_lost_a_select_end, a_dead_letter_that_is_sent_again_does_nothing_for_a_workflow_that_has_ended, a_task_that_beat_is_called_again_after_its_process_vanished;
        composing: a_timer_and_a_signal_race_and_either_may_win, a_timer_is_cancelled_and_another_set_to_an_instant, time_chance_and_ids_are_the_same_in_another_worker, children_have_children_of_their_own, children_that_were_started_are_signalled_and_awaited_in_any_order, a_child_goes_on_or_ends_with_its_parent_as_it_was_told, joins_of_races_and_races_of_joins_are_awaited, a_workflow_knows_how_long_its_history_is, a_child_knows_its_id_its_tags_and_its_parent, several_handlers_of_a_running_instance_share_its_state;
        failing: a_task_that_takes_too_long_is_caught_or_fails_the_workflow, errors_arrive_with_their_fields_and_policies_try_again, a_method_says_after_which_time_it_is_tried_again, a_step_fails_with_its_own_error, a_task_that_no_worker_takes_in_time_fails;
        asking: instances_are_found_by_their_attributes_without_a_worker, instances_are_counted_and_read_page_by_page, instances_are_found_by_the_time_of_their_start, an_ended_instance_is_deleted_by_hand_and_its_id_is_free, all_that_has_ended_is_purged_by_filter, everything_works_without_the_type_of_the_workflow, a_signal_under_an_id_counts_once, the_sender_of_a_request_is_told_whether_it_had_an_effect, a_fork_goes_on_beside_its_instance, an_instance_is_reset_to_an_earlier_event, the_versions_of_living_instances_are_counted, events_of_workflows_and_tasks_are_heard_by_who_subscribes, children_are_found_by_their_parent, all_instances_of_a_filter_are_cancelled_after_a_dry_run;
        acting: a_child_uses_or_replaces_what_has_its_id, a_task_is_cancelled_and_another_outlives_its_workflow, what_is_shielded_runs_though_its_workflow_is_cancelled, a_workflow_that_succeeds_undoes_nothing, an_instance_says_what_it_waits_for, a_history_is_replayed_against_the_code_of_today, a_terminated_instance_runs_no_more_of_its_code, a_schedule_is_triggered_updated_and_listed, a_span_of_the_past_is_made_up_for;
        operating: an_operator_sees_who_is_served_and_acts_without_types;
        layering: layers_see_and_refuse_requests_turns_and_tasks;
        pausing: tasks_of_a_paused_service_wait_until_it_is_resumed, other_methods_go_on_while_one_is_paused, instances_of_a_paused_workflow_keep_what_arrives_and_go_on_with_it;
        repairing: a_paused_instance_keeps_what_arrives_until_it_is_resumed, tasks_that_failed_for_good_run_again_by_filter_with_a_dry_run, failed_tasks_are_given_a_result_by_filter, a_task_that_hangs_is_given_a_result, a_timer_fires_by_hand_also_while_its_instance_is_paused, all_instances_of_a_filter_are_paused_resumed_and_ended;
        extremes: a_signal_just_below_the_limit_is_refused_or_takes_effect, prices_arrive_to_the_bit, for_ever_and_the_year_9999_are_waited_for, a_timer_is_not_a_microsecond_early, a_long_error_arrives_typed_and_its_dead_letter_is_kept, a_compensation_runs_to_its_end_though_its_workflow_is_cancelled;
        answering: a_workflow_lets_its_handlers_end_or_cuts_them_short, updates_and_queries_are_told_that_an_instance_is_paused_or_gone, a_cancelled_workflow_may_go_on_and_give_a_result, a_request_for_another_run_has_no_effect, a_signal_that_cannot_be_read_is_refused_or_reported_to_its_receiver, a_result_is_given_to_all_that_await_it;
        calling: a_method_knows_its_workflow_its_key_and_its_time, the_type_of_an_error_says_which_of_its_values_are_tried_again, all_attempts_together_have_no_more_than_their_overall_time, a_method_that_no_worker_knows_fails_with_the_builds_that_were_asked, a_worker_runs_no_more_tasks_at_a_time_than_it_has_places, a_batch_has_one_key_and_goes_when_its_time_is_up;
        chains: the_children_of_a_run_end_with_it_unless_they_are_abandoned, updates_are_answered_once_by_all_runs_together, a_chain_of_runs_has_one_time_together, attempts_are_counted_anew_once_a_run_has_continued, tags_and_attributes_go_along_and_each_run_is_read_by_itself;
        families: a_parent_hears_how_others_ended_its_child, a_reset_starts_open_children_anew, a_hundred_children_report_to_one_parent;
        finding: instances_are_found_by_what_their_attributes_are_now, instances_are_found_by_the_time_of_their_end, workflows_and_their_instances_are_counted_and_indexed_anew;
        keeping: an_id_may_be_any_printable_text, namespaces_on_one_broker_do_not_meet, an_instance_is_kept_for_ever_by_name, a_payload_is_read_only_where_its_codec_is, an_instance_whose_history_is_too_long_stops_until_more_is_allowed, an_instance_whose_code_panics_stops_and_goes_on_once_it_is_mended;
        sagas: a_part_that_fails_is_undone_alone_and_the_workflow_goes_on, a_compensation_that_fails_keeps_no_other_from_running, a_child_undoes_its_part_before_its_parent_does;
        times: times_are_skipped_or_wait_while_an_instance_runs, a_new_time_ends_what_runs_or_starts_an_instance_beside_it, a_time_that_the_clocks_skip_or_repeat_is_started_once, jitter_is_the_same_in_every_worker, times_without_a_worker_are_made_up_for_within_the_window, a_schedule_is_declared_by_each_program_that_begins;
        workers: two_processes_share_the_work_and_one_may_leave, a_process_that_vanishes_is_replaced, what_fell_out_of_memory_is_read_again, what_was_started_before_any_worker_runs_once_there_is_one;
    ]
}
