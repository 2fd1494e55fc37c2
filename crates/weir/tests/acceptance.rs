//! `make acceptance` takes too long for `make test`; this checks that what it counts with is right.

#![allow(clippy::unwrap_used)]

mod support;

use support::process::{python, repository};

/// Framing, the relay's order, and the judgement of failures, each against cases of its own.
#[test]
fn the_relay_and_the_judgement_of_failures_are_right() {
    let checks = repository().join("acceptance/checks.py");
    let output = python().arg("-B").arg(checks).output().expect("Python starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("Ran 10 tests"), "{text}");
}
