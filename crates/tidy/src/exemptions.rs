//! What may break a rule, and why.
//!
//! An exemption is not for a thing that has merely grown: split it. Invariant: an exemption that
//! nothing needs any more is itself an error, so that the list only holds what is true.

use std::fmt::Write;

use crate::{Rule, Violation};

/// Leave to break one rule in one place.
#[derive(Debug, Clone, Copy)]
pub struct Exemption {
    /// Which rule.
    pub rule: Rule,
    /// The file, from the root of the repository.
    pub path: &'static str,
    /// The function or word, as [`Violation::item`] has it.
    pub item: &'static str,
    /// Why this is better than keeping the rule.
    pub reason: &'static str,
}

/// Everything that is exempt.
pub const EXEMPTIONS: &[Exemption] = &[
    Exemption {
        rule: Rule::WallClock,
        path: "crates/runtime/src/process.rs",
        item: "SystemTime",
        reason: "`timestamp` in the statistics is the time of day for whoever reads them",
    },
    Exemption {
        rule: Rule::WallClock,
        path: "crates/loadgen/src/commands/run.rs",
        item: "SystemTime",
        reason: "a run's log says when it was, and its values are told apart from an earlier one's",
    },
];

/// Takes what is exempt out of `violations`.
///
/// # Errors
/// The violations that are left, and exemptions from `rules` that exempt nothing, one a line.
pub fn judge(
    rules: &[Rule],
    violations: &[Violation],
    exemptions: &[Exemption],
) -> Result<(), String> {
    let exempts = |exemption: &Exemption, one: &Violation| {
        exemption.rule == one.rule && exemption.path == one.path && exemption.item == one.item
    };
    let mut report = String::new();
    for one in violations.iter().filter(|one| rules.contains(&one.rule)) {
        if !exemptions.iter().any(|exemption| exempts(exemption, one)) {
            let Violation { rule, path, line, message, .. } = one;
            writeln!(report, "{path}:{line}: {rule:?}: {message}").expect("a string takes all");
        }
    }
    for exemption in exemptions.iter().filter(|exemption| rules.contains(&exemption.rule)) {
        let Exemption { rule, path, item, reason } = exemption;
        if !violations.iter().any(|one| exempts(exemption, one)) {
            writeln!(report, "{path}: {rule:?}: no longer needs its exemption for `{item}`")
                .expect("a string takes all");
        }
        if reason.is_empty() {
            writeln!(report, "{path}: {rule:?}: exempt without a reason")
                .expect("a string takes all");
        }
    }
    if report.is_empty() { Ok(()) } else { Err(report) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &[Rule] = &[Rule::FunctionLines];

    fn violation(item: &str) -> Violation {
        Violation {
            rule: Rule::FunctionLines,
            path: "a.rs".to_owned(),
            line: 7,
            item: item.to_owned(),
            message: "too long".to_owned(),
        }
    }

    fn exemption(item: &'static str, reason: &'static str) -> Exemption {
        Exemption { rule: Rule::FunctionLines, path: "a.rs", item, reason }
    }

    #[test]
    fn a_violation_fails_unless_it_is_exempt() {
        let report = judge(RULES, &[violation("b")], &[]);
        assert_eq!(report, Err("a.rs:7: FunctionLines: too long\n".to_owned()));
        assert_eq!(judge(RULES, &[violation("b")], &[exemption("b", "why")]), Ok(()));
        assert!(judge(RULES, &[violation("b"), violation("c")], &[exemption("b", "why")]).is_err());
    }

    #[test]
    fn a_stale_or_unexplained_exemption_fails() {
        assert!(judge(RULES, &[], &[exemption("b", "why")]).is_err());
        assert!(judge(RULES, &[violation("b")], &[exemption("b", "")]).is_err());
    }

    #[test]
    fn rules_that_were_not_asked_for_are_left_alone() {
        assert_eq!(judge(&[Rule::Header], &[violation("b")], &[exemption("c", "why")]), Ok(()));
    }
}
