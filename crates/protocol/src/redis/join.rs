//! Split requests: what each server gets, and how the responses become one. Not which server gets
//! which key. Invariant: the one response has exactly as many elements as the request has keys, or
//! is an error.

use crate::decimal::{self, NumberLine};
use crate::redis::commands::{Joined, Place, ROWS};
use crate::redis::{push_bulk, push_header, response, usual_bulk};
use crate::{Framed, KeySpan, Limits, Part, Request, ResponseState, Version};

/// See [`crate::Protocol::plan_join`].
#[derive(Debug)]
pub(crate) struct Plan {
    joined: Joined,
    part_of_key: Vec<u32>,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan { joined: Joined::Array, part_of_key: Vec::new() }
    }
}

impl Plan {
    pub(crate) fn set(&mut self, request: &Request, part_of_key: &[u32]) {
        self.joined = match ROWS[request.command.index as usize].place {
            Place::Scripts => Joined::Agreed,
            Place::Flush => Joined::AllOk,
            Place::Everywhere { join } => join,
            _ => split_of(request).1,
        };
        self.part_of_key.clear();
        self.part_of_key.extend_from_slice(part_of_key);
    }

    /// In bytes.
    pub(crate) fn capacity(&self) -> usize {
        self.part_of_key.capacity() * size_of::<u32>()
    }
}

/// See [`crate::Protocol::encode_part`].
pub(crate) fn encode_part(
    request: &Request,
    bytes: &[u8],
    keys: &[KeySpan],
    picks: &[u32],
    out: &mut Vec<u8>,
) {
    let (step, _) = split_of(request);
    push_header(out, b'*', 1 + picks.len() * step);
    push_bulk(out, request.command.name.as_bytes());
    for &pick in picks {
        out.extend_from_slice(&bytes[keys[pick as usize].element.range()]);
    }
}

fn split_of(request: &Request) -> (usize, Joined) {
    match ROWS[request.command.index as usize].place {
        Place::Split { step, join } => (step as usize, join),
        _ => unreachable!("only requests of split commands are split"),
    }
}

/// See [`crate::Protocol::join`].
pub(crate) fn join(plan: &Plan, parts: &[Part<'_>], out: &mut Vec<u8>) {
    let start = out.len();
    let joined = match plan.joined {
        Joined::Array => join_array(plan, parts, out),
        Joined::Sum => join_sum(parts, out),
        Joined::AllOk => join_ok(parts, out),
        Joined::Agreed => join_agreed(parts, out),
        Joined::Chained => join_chained(parts, out),
        Joined::AnyOf => join_any_of(parts, out),
    };
    if let Err(fault) = joined {
        out.truncate(start);
        answer_fault(fault, out);
    }
}

/// Appends an error in the place of the one response.
pub(super) fn answer_fault(fault: Fault<'_>, out: &mut Vec<u8>) {
    match fault {
        Fault::Answered(line) => out.extend_from_slice(line),
        Fault::Text(text) => {
            out.extend_from_slice(b"-ERR ");
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Why the one response is an error.
pub(super) enum Fault<'a> {
    /// A server's own.
    Answered(&'a [u8]),
    Text(&'a str),
}

pub(super) const UNEXPECTED: Fault<'static> =
    Fault::Text("unexpected response to a part of the request");

/// The response to a part that has not failed; the first one that has decides for all.
pub(super) fn response_of<'a>(part: &Part<'a>) -> Result<&'a [u8], Fault<'a>> {
    match *part {
        Part::Failed(text) => Err(Fault::Text(text)),
        Part::Response(response) if matches!(response.first(), Some(b'-' | b'!')) => {
            Err(Fault::Answered(response))
        }
        Part::Response(response) => Ok(response),
    }
}

fn join_ok<'a>(parts: &[Part<'a>], out: &mut Vec<u8>) -> Result<(), Fault<'a>> {
    for part in parts {
        if response_of(part)? != b"+OK\r\n" {
            return Err(UNEXPECTED);
        }
    }
    out.extend_from_slice(b"+OK\r\n");
    Ok(())
}

fn join_sum<'a>(parts: &[Part<'a>], out: &mut Vec<u8>) -> Result<(), Fault<'a>> {
    let mut sum = 0i64;
    for part in parts {
        let response = response_of(part)?;
        let digits = response.strip_prefix(b":").and_then(|rest| rest.strip_suffix(b"\r\n"));
        let count = digits.and_then(decimal::integer).ok_or(UNEXPECTED)?;
        sum = sum.checked_add(count).ok_or(Fault::Text("the sum is out of range"))?;
    }
    out.push(b':');
    decimal::push(out, sum);
    out.extend_from_slice(b"\r\n");
    Ok(())
}

fn join_agreed<'a>(parts: &[Part<'a>], out: &mut Vec<u8>) -> Result<(), Fault<'a>> {
    let first = parts.first().map_or(Err(UNEXPECTED), response_of)?;
    let start = out.len();
    out.extend_from_slice(first);
    for part in &parts[1..] {
        let response = response_of(part)?;
        if response.len() != first.len() {
            return Err(UNEXPECTED);
        }
        for (agreed, &byte) in out[start..].iter_mut().zip(response) {
            match (*agreed, byte) {
                (b'0' | b'1', b'0' | b'1') if first[0] == b'*' => *agreed = byte.min(*agreed),
                (one, other) if one == other => {}
                _ => return Err(UNEXPECTED),
            }
        }
    }
    Ok(())
}

/// The number of elements of an array, and what follows it.
fn array_of(response: &[u8]) -> Option<(u64, &[u8])> {
    match decimal::number_line(response.strip_prefix(b"*")?, 0) {
        NumberLine::Whole { value: value @ 0.., next } => {
            Some((value as u64, &response[1 + next..]))
        }
        _ => None,
    }
}

fn join_chained<'a>(parts: &[Part<'a>], out: &mut Vec<u8>) -> Result<(), Fault<'a>> {
    let mut count = 0;
    let mut elements = Vec::with_capacity(parts.len());
    for part in parts {
        let (more, rest) = array_of(response_of(part)?).ok_or(UNEXPECTED)?;
        // Each was checked to have so many elements.
        count += more as usize;
        elements.push(rest);
    }
    push_header(out, b'*', count);
    elements.iter().for_each(|elements| out.extend_from_slice(elements));
    Ok(())
}

/// Which one is as good as drawn: the servers have drawn theirs, and all of these decide.
fn join_any_of<'a>(parts: &[Part<'a>], out: &mut Vec<u8>) -> Result<(), Fault<'a>> {
    let mut there = Vec::with_capacity(parts.len());
    let mut none: &[u8] = b"";
    for part in parts {
        match response_of(part)? {
            response @ (b"$-1\r\n" | b"_\r\n") => none = response,
            response if response[0] == b'$' => there.push(response),
            _ => return Err(UNEXPECTED),
        }
    }
    let bytes = there.iter().copied().flatten();
    let lot = bytes.fold(0u32, |lot, byte| lot.wrapping_mul(31).wrapping_add(u32::from(*byte)));
    let chosen = there.get((lot >> 7) as usize % there.len().max(1));
    out.extend_from_slice(chosen.copied().unwrap_or(none));
    Ok(())
}

fn join_array<'a>(plan: &Plan, parts: &[Part<'a>], out: &mut Vec<u8>) -> Result<(), Fault<'a>> {
    // What is left of each part's response.
    let mut rests = Vec::with_capacity(parts.len());
    let mut elements_count = 0i64;
    for part in parts {
        let response = response_of(part)?;
        match decimal::number_line(response, 1) {
            NumberLine::Whole { value: value @ 0.., next } if response[0] == b'*' => {
                elements_count = elements_count.saturating_add(value);
                rests.push(&response[next..]);
            }
            _ => return Err(UNEXPECTED),
        }
    }
    if elements_count != plan.part_of_key.len() as i64 {
        return Err(UNEXPECTED);
    }
    push_header(out, b'*', plan.part_of_key.len());
    for &part in &plan.part_of_key {
        let rest = rests.get_mut(part as usize).ok_or(UNEXPECTED)?;
        let size = element_size(rest).ok_or(UNEXPECTED)?;
        let (element, left) = rest.split_at_checked(size).ok_or(UNEXPECTED)?;
        out.extend_from_slice(element);
        *rest = left;
    }
    Ok(())
}

/// Bytes of the element at the beginning of what is left of a response, all of which was framed
/// within its limits before it came here. The elements of MGET are bulk strings, which need no
/// framer.
#[inline]
fn element_size(rest: &[u8]) -> Option<usize> {
    if let Some((_, end)) = usual_bulk(rest) {
        return Some(end + 2);
    }
    if rest.first() == Some(&b'$')
        && let NumberLine::Whole { value, next } = decimal::number_line(rest, 1)
    {
        return Some(if value < 0 { next } else { next + value as usize + 2 });
    }
    // Of either version: it was checked when it came.
    let mut state = ResponseState::new(Version::Resp3);
    match response::frame(&mut state, rest, &Limits::NONE) {
        Framed::Complete { size } => Some(size),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
