//! Deliberate bugs, each of which the checkers must find within a stated number of seeds. A bug
//! that is not found means that the silence of the other tests is worth nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};

use proxy::{Canary as Inner, Proxy};
use sim::{Canary as Outer, Plan, RunOptions, run_plan};

/// The first seed with which the bug is found, counted from 1.
fn found_after(seeds_max: u64, run: impl Fn(Plan) -> Option<String>) -> Option<(u64, String)> {
    (1..=seeds_max).find_map(|seed| {
        let plan = Plan::draw(seed);
        let failure = catch_unwind(AssertUnwindSafe(|| run(plan)))
            .unwrap_or_else(|_| Some("a panic".to_owned()))?;
        Some((seed, failure))
    })
}

/// Bugs of the proxy itself.
fn inner_bug_is_found(name: &str, prepare: fn(&mut Proxy), seeds_max: u64) {
    let options = RunOptions { prepare: Some(prepare), ..RunOptions::default() };
    let found = found_after(seeds_max, |plan| run_plan(plan, options).failure);
    let (seed, failure) = found.unwrap_or_else(|| panic!("{name}: not in {seeds_max} seeds"));
    println!("{name}: found by seed {seed}: {failure}");
}

/// Bugs of the event base under it.
fn outer_bug_is_found(bug: Outer, seeds_max: u64) {
    let found = found_after(seeds_max, |mut plan| {
        plan.canary = Some(bug);
        run_plan(plan, RunOptions::default()).failure
    });
    let (seed, failure) = found.unwrap_or_else(|| panic!("{bug:?}: not in {seeds_max} seeds"));
    println!("{bug:?}: found by seed {seed}: {failure}");
}

macro_rules! inner {
    ($($test:ident $bug:ident $seeds_max:literal;)*) => {$(
        #[test]
        fn $test() {
            let prepare: fn(&mut Proxy) = |proxy| proxy.set_canary(Some(Inner::$bug));
            inner_bug_is_found(stringify!($bug), prepare, $seeds_max);
        }
    )*};
}

macro_rules! outer {
    ($($test:ident $bug:ident $seeds_max:literal;)*) => {$(
        #[test]
        fn $test() {
            outer_bug_is_found(Outer::$bug, $seeds_max);
        }
    )*};
}

inner! {
    output_without_a_limit_is_found OutputUnbounded 300;
    two_sends_on_a_server_are_found TwoSends 300;
    two_sends_on_a_client_are_found ClientTwoSends 300;
    an_ejected_server_in_use_is_found EjectedServerUsed 300;
    parts_joined_in_the_wrong_order_are_found FragmentsSwapped 300;
    a_time_out_that_hits_the_neighbour_is_found TimeoutHitsNeighbour 300;
    a_late_response_given_to_the_next_request_is_found LateReplyToNext 300;
    a_client_that_never_goes_on_is_found ResumeForgotten 300;
    bytes_that_stay_counted_are_found BytesForgotten 300;
    a_reply_to_who_wants_none_is_found QuietAnswered 300;
    a_request_without_its_last_byte_is_found RequestTruncated 300;
    a_client_closed_before_its_replies_is_found EofDropsReplies 300;
    a_connection_cut_by_a_reload_is_found RetiredCut 300;
    a_failure_told_as_success_is_found FailureAcknowledged 300;
    a_request_sent_twice_is_found RequestSentTwice 300;
    replies_given_to_each_others_clients_are_found OutputsSwapped 300;
    a_reply_before_its_turn_is_found OrderIgnored 300;
    a_reply_to_a_client_that_is_gone_is_found OwnerOutlived 300;
    nonsense_that_closes_a_neighbour_is_found NonsenseHitsNeighbour 1000;
    a_break_that_hits_the_servers_beside_it_is_found BreakHitsNeighbour 6000;
    a_drain_that_drops_replies_is_found DrainCuts 5000;
    a_server_back_before_it_answered_is_found ReturnsUnprobed 300;
    a_connection_handed_on_in_a_transaction_is_found TransactionHandedOn 1000;
    an_answer_that_overtakes_one_to_a_subscription_is_found NoticeOvertaken 300;
    a_connection_for_clients_of_both_versions_is_found VersionsMixed 300;
}

outer! {
    bytes_of_two_servers_swapped_are_found ReceivedSwapped 300;
    received_bytes_lost_are_found ReceivedLost 300;
    received_bytes_told_twice_are_found ReceivedTwice 300;
    a_send_told_twice_is_found SentTwice 300;
    a_send_without_its_last_byte_is_found SendTruncated 300;
    a_credit_whose_end_is_not_told_is_found CreditLost 300;
    a_lost_wake_is_found WakeLost 300;
    a_connection_whose_end_is_not_told_is_found ClosedLost 300;
}
