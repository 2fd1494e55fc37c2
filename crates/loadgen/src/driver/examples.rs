//! The first wrong replies, refusals and losses in words, for the report.
//!
//! It is off the path of what works. Invariant: at most a few are kept, and refusals and losses
//! leave room for wrong replies.

use super::Driver;
use super::session::{InFlight, Purpose, State};
use crate::reply::Reply;
use crate::workload::stream::key_kind;
use crate::workload::value::Violation;

/// Examples of violations that are kept for the report.
pub(super) const EXAMPLES_MAX: usize = 16;
/// Of those at most so many are refusals and lost connections, which must not hide a wrong reply.
const EXAMPLES_OF_FAILURES_MAX: usize = 4;

impl Driver {
    /// `one` is the request that was answered wrongly.
    #[cold]
    pub(super) fn violated(
        &mut self,
        index: usize,
        one: Option<&InFlight>,
        violation: Violation,
        detail: &str,
    ) {
        self.record.counts.violation(violation);
        if self.examples.len() >= EXAMPLES_MAX {
            return;
        }
        let about = match one {
            None => "nothing in flight".to_owned(),
            Some(InFlight { purpose: Purpose::Load, request, .. }) => {
                let mut key = Vec::new();
                let op = self.plan.ops[request.op as usize];
                self.plan.keys.write(key_kind(op), request.key, &mut key);
                let key = String::from_utf8_lossy(&key);
                format!("request {} ({} {key})", request.number, op.name())
            }
            Some(one) => format!("{:?}", one.purpose),
        };
        let text = violation.text();
        self.examples.push(format!("connection {index}: {about}: {text} {detail}"));
    }

    /// Why a connection with something in flight is lost.
    #[cold]
    pub(super) fn example_of_loss(&mut self, index: usize, why: &str) {
        let session = &self.sessions[index];
        let count = session.in_flight.len();
        let is_news = session.state != State::Closing && count > 0;
        if is_news && self.examples.len() < EXAMPLES_OF_FAILURES_MAX {
            self.examples.push(format!("connection {index}: {why}, with {count} in flight"));
        }
    }

    #[cold]
    pub(super) fn example_of_refusal(&mut self, index: usize, reply: Reply<'_>) {
        if self.examples.len() < EXAMPLES_OF_FAILURES_MAX {
            let text = match reply {
                Reply::Error(text) => String::from_utf8_lossy(text).into_owned(),
                _ => format!("{reply:?}"),
            };
            self.examples.push(format!("connection {index}: refused: {text}"));
        }
    }
}
