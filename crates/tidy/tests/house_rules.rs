//! Holds this repository to the house rules, one test a rule, so that a failure names it. What a
//! rule means, and that it can fail, is tested beside the rule.

use tidy::{EXEMPTIONS, Rule, Tree, Violation, judge};

#[track_caller]
fn hold(rule: Rule, check: fn(&Tree) -> Vec<Violation>) {
    let tree = Tree::of_this_repository();
    if let Err(report) = judge(&[rule], &check(&tree), EXEMPTIONS) {
        panic!("broken house rule, or exemption that is not needed:\n{report}");
    }
}

#[test]
fn crates_know_only_what_the_design_lets_them_know() {
    hold(Rule::Edges, tidy::edges::check);
}

#[test]
fn serde_stays_at_the_edge() {
    hold(Rule::Serde, tidy::edges::check);
}

#[test]
fn unsafe_code_stays_in_its_crates_and_says_why() {
    hold(Rule::Unsafe, tidy::unsafety::check);
}

#[test]
fn files_are_short() {
    hold(Rule::FileLines, tidy::sizes::check);
}

#[test]
fn functions_are_short() {
    hold(Rule::FunctionLines, tidy::sizes::check);
}

#[test]
fn lines_are_narrow() {
    hold(Rule::LineColumns, tidy::sizes::check);
}

#[test]
fn files_begin_by_saying_what_they_are() {
    hold(Rule::Header, tidy::sizes::check);
}

#[test]
fn no_file_is_dead() {
    hold(Rule::DeadFile, tidy::modules::check);
}

#[test]
fn banned_words_are_not_used() {
    hold(Rule::BannedWord, tidy::words::check);
}

#[test]
fn nothing_is_left_unfinished() {
    hold(Rule::Unfinished, tidy::words::check);
}

#[test]
fn pure_crates_are_pure() {
    hold(Rule::Impure, tidy::words::check);
}

#[test]
fn nothing_is_measured_by_the_clock_on_the_wall() {
    hold(Rule::WallClock, tidy::words::check);
}

#[test]
fn tests_do_not_sleep() {
    hold(Rule::SleepInTest, tidy::words::check);
}

#[test]
fn decisions_have_numbers_of_their_own() {
    hold(Rule::Decisions, tidy::decisions::check);
}
