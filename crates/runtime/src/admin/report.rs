//! What operators ask, as JSON: the process, its servers, its clients, the way of a key.
//!
//! Times are told in seconds before now. Invariant: nothing here changes anything.

use std::sync::Arc;
use std::time::Duration;

use base::{Address, Time};
use proxy::inspect::KeyView;
use proxy::latency::Latencies;
use proxy::options::PoolOptions;
use proxy::slow_log::SlowEntry;
use proxy::stats::{ServerStats, WorkerStats};
use serde_json::{Value, json};

use super::Context;
use super::inspection::Inspection;
use crate::process::Shared;
use crate::snapshot;

/// The process at a glance.
pub(super) fn status(context: &Context) -> Value {
    let shared = &context.shared;
    let total = snapshot::sum(&shared.stats());
    let pools = shared.running();
    let pools = pools.in_order().map(|(index, options)| {
        let stats = total.pools.get(index).cloned().unwrap_or_default();
        let ejected = stats.servers.iter().filter(|server| server.ejected > 0).count();
        json!({
            "pool": options.name,
            "listen": options.listen.address.to_string(),
            "clients": stats.client_connections,
            "requests": stats.client_requests,
            "errors": stats.forward_errors,
            "faults": stats.client_faults,
            "servers": options.servers.len(),
            "ejected": ejected,
        })
    });
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "process": std::process::id(),
        "uptime_seconds": shared.started.elapsed().as_secs(),
        "state": if context.is_draining() { "draining" } else { "serving" },
        "clients_by_worker": shared.balance.counts(),
        "buffered_bytes": total.buffered_bytes,
        "pools": pools.collect::<Vec<_>>(),
    })
}

/// Every server of every pool.
pub(super) fn servers(shared: &Shared) -> Value {
    let total = snapshot::sum(&shared.stats());
    let pools = shared.running();
    let mut rows = Vec::new();
    for (index, options) in pools.in_order() {
        let Some(stats) = total.pools.get(index) else { continue };
        let both = stats.servers.iter().zip(&stats.latencies);
        for (place, (stats, latencies)) in both.enumerate().take(options.servers.len()) {
            rows.push(server(shared, options, place, stats, latencies, &total));
        }
    }
    Value::Array(rows)
}

fn server(
    shared: &Shared,
    pool: &PoolOptions,
    place: usize,
    stats: &ServerStats,
    latencies: &Latencies,
    total: &WorkerStats,
) -> Value {
    let options = &pool.servers[place];
    let took = latencies.total();
    let ms = |share| took.quantile_ns(share).map(|ns| ns as f64 / 1e6);
    json!({
        "pool": pool.name,
        "server": options.name,
        "address": options.address.to_string(),
        "weight": options.weight,
        "state": state(stats.ejected, shared.workers.len() as u64),
        "ejected_by_workers": stats.ejected,
        "ejects": stats.ejects,
        "ejected_seconds_ago": stats.ejected_at.map(|at| seconds(total.now, at)),
        "probes": stats.probes,
        "connections": stats.connections,
        "requests": stats.requests,
        "responses": stats.responses,
        "waiting": stats.in_queue + stats.out_queue,
        "errors": stats.error_count,
        "closed": stats.eof_count,
        "timed_out": stats.timedout_count,
        "below_ms_p50": ms(0.5),
        "below_ms_p99": ms(0.99),
    })
}

fn state(ejected_by: u64, workers_count: u64) -> &'static str {
    match ejected_by {
        0 => "live",
        count if count < workers_count => "ejected by some workers",
        _ => "ejected",
    }
}

fn seconds(now: Time, then: Time) -> f64 {
    (now - then).as_millis() as f64 / 1e3
}

/// Clients, no more than `max` of each worker.
pub(super) fn clients(shared: &Shared, max: usize) -> Value {
    let pools = shared.pools();
    let name = |pool: usize| {
        let options = pools.get(pool).and_then(Option::as_ref);
        options.map(|options| options.name.clone())
    };
    let mut rows = Vec::new();
    let answers = shared.inspect(|reply| Inspection::Clients { max, reply });
    for (worker, answer) in answers.into_iter().enumerate() {
        let Some(answer) = answer else { continue };
        for (client, peer) in answer.clients {
            rows.push(json!({
                "client": client_name(worker, client.token),
                "address": peer.as_ref().map(shown),
                "id": client.id,
                "name": text(&client.name),
                "library": text(&client.library.join(b" ".as_slice())),
                "resp": client.version.number(),
                "pool": name(client.pool),
                "age_seconds": seconds(answer.now, client.accepted_at),
                "idle_seconds": seconds(answer.now, client.received_at),
                "requests": client.requests_count,
                "output_bytes": client.output_size,
                "input_bytes": client.input_size,
                "paused": client.is_paused,
            }));
        }
    }
    let total: u64 = shared.balance.counts().into_iter().map(u64::from).sum();
    json!({ "total": total, "clients": rows })
}

/// The requests that took longer than their pool allows, the last `max` of all workers, newest
/// first.
pub(super) fn slow_log(shared: &Shared, max: usize) -> Value {
    let pools = shared.pools();
    let mut entries = Vec::new();
    let answers = shared.inspect(|reply| Inspection::SlowLog { reply });
    for (worker, answer) in answers.into_iter().enumerate() {
        let Some(answer) = answer else { continue };
        for entry in answer.entries {
            entries.push((answer.now - entry.at, worker, entry));
        }
    }
    entries.sort_by_key(|(ago, ..)| *ago);
    let rows = entries.into_iter().take(max).map(|(ago, worker, entry)| {
        let pool = pools.get(entry.pool).and_then(Option::as_ref);
        slow(ago, worker, &entry, pool)
    });
    Value::Array(rows.collect())
}

fn slow(ago: Duration, worker: usize, entry: &SlowEntry, pool: Option<&PoolOptions>) -> Value {
    let ms = |duration: Duration| duration.as_micros() as f64 / 1e3;
    let command = pool.and_then(|pool| pool.protocol.commands().get(entry.command));
    let server = pool.zip(entry.server).and_then(|(pool, server)| pool.servers.get(server));
    let unwritten = entry.unwritten.unwrap_or_default();
    json!({
        "seconds_ago": ago.as_millis() as f64 / 1e3,
        "pool": pool.map(|pool| pool.name.clone()),
        "client": client_name(worker, entry.client),
        "address": entry.address.as_ref().map(shown),
        "name": text(&entry.name),
        "command": command.map(|command| command.name),
        "key_hash": format!("{:08x}", entry.key_hash),
        "server": server.map(|server| server.name.clone()),
        "total_ms": ms(entry.queued + entry.server_time + unwritten),
        "queued_ms": ms(entry.queued),
        "server_ms": ms(entry.server_time),
        "unwritten_ms": entry.unwritten.map(ms),
    })
}

/// A client's own word, which is printable; nothing when it has not said one.
fn text(word: &[u8]) -> Option<String> {
    let word = word.trim_ascii();
    (!word.is_empty()).then(|| String::from_utf8_lossy(word).into_owned())
}

/// Clients of a unix socket have no address of their own.
fn shown(address: &Address) -> String {
    let text = address.to_string();
    if text.is_empty() { "unix socket".to_owned() } else { text }
}

/// What a client is called: its worker, its place there, and how often that place was used.
fn client_name(worker: usize, token: base::Token) -> String {
    format!("{worker}.{}.{}", token.index(), token.generation())
}

/// Where a key goes, and why.
pub(super) fn explain(shared: &Shared, pool: Option<&str>, key: &str) -> Result<Value, String> {
    let pools = shared.running();
    let (index, options) = choose(&pools.in_order().collect::<Vec<_>>(), pool)?;
    let bytes: Arc<[u8]> = key.as_bytes().into();
    let ask = |reply| Inspection::Explain { pool: index, key: Arc::clone(&bytes), reply };
    let answers: Vec<KeyView> = shared.inspect(ask).into_iter().flatten().flatten().collect();
    let view = answers.first().ok_or("no worker answers")?;
    let others = answers.iter().filter(|other| other.server != view.server).count();
    let name = |server: &usize| options.servers.get(*server).map(|server| server.name.clone());
    let address = |server: usize| Some(options.servers.get(server)?.address.to_string());
    Ok(json!({
        "pool": options.name,
        "key": key,
        "hashed": String::from_utf8_lossy(&view.hashed),
        "hash_tag": options.hash_tag.map(|tag| tag.to_string()),
        "hash_function": options.hash.name(),
        "hash": view.hash,
        "distribution": options.distribution.name(),
        "point": view.point,
        "server": view.server.as_ref().and_then(name),
        "address": view.server.and_then(address),
        "owner": view.owner.as_ref().and_then(name),
        "ejected": view.ejected.iter().filter_map(name).collect::<Vec<_>>(),
        "why": why(options, view, key),
        "workers_that_say_otherwise": others,
    }))
}

/// The pool of this name, or the only one.
fn choose<'a>(
    pools: &[(usize, &'a PoolOptions)],
    name: Option<&str>,
) -> Result<(usize, &'a PoolOptions), String> {
    let names: Vec<&str> = pools.iter().map(|(_, options)| options.name.as_str()).collect();
    let names = names.join(", ");
    match (name, pools) {
        (None, [only]) => Ok(*only),
        (None, _) => Err(format!("which pool? one of: {names}")),
        (Some(name), _) => {
            let found = pools.iter().find(|(_, options)| options.name == name);
            found.copied().ok_or_else(|| format!("there is no pool '{name}', only: {names}"))
        }
    }
}

fn why(options: &PoolOptions, view: &KeyView, key: &str) -> String {
    let name = |server: usize| options.servers.get(server).map_or("?", |s| s.name.as_str());
    let Some(server) = view.server else {
        return "every server of the pool is ejected".to_owned();
    };
    let Some((hash, point)) = view.hash.zip(view.point) else {
        return "the pool has one server, so nothing is hashed".to_owned();
    };
    let distribution = options.distribution.name();
    if distribution == "random" {
        return "the distribution is random: keys have no owner, and this is the next draw"
            .to_owned();
    }
    let part =
        if view.hashed == key.as_bytes() { "the whole key" } else { "what the hash tag holds" };
    let mut text = format!(
        "{} of {part} is {hash}; {distribution} gives it to the point {point}, which is {}'s",
        options.hash.name(),
        name(server),
    );
    if let Some(owner) = view.owner.filter(|owner| *owner != server) {
        text.push_str(&format!("; it is {}'s while that is not ejected", name(owner)));
    }
    text
}
