//! The pools that run, as JSON, without secrets.
//!
//! Names are those of the configuration file. Invariant: no password is ever in it.

use std::time::Duration;

use proxy::options::{ListenOptions, PoolOptions, Protocol, ServerOptions};
use serde_json::{Value, json};

use crate::process::Shared;

/// Stands for a secret that is set.
const REDACTED: &str = "(redacted)";

/// The pools that run, by name.
pub(super) fn pools(shared: &Shared) -> Value {
    let pools = shared.running();
    let all = pools.in_order().map(|(_, options)| (options.name.clone(), pool(options)));
    Value::Object(all.collect())
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Every option by the name of its key. A new one does not compile before it stands here.
fn pool(options: &PoolOptions) -> Value {
    let PoolOptions {
        name: _,
        protocol,
        listen: ListenOptions { address, unix_mode, backlog, keepalive },
        hash,
        distribution,
        hash_tag,
        servers,
        request_timeout,
        connect_timeout,
        server_connections_per_worker,
        preconnect,
        health,
        client_connections_max,
        password,
        database,
        allow_flush,
        limits,
        client_requests_inflight_max,
        client_output_high_water,
        client_output_max,
        server_requests_inflight_max,
        dedicated_connections_max,
        client_stall_timeout,
        slow_threshold,
    } = options;
    json!({
        "listen": address.to_string(),
        "listen_mode": unix_mode.map(|mode| format!("{mode:o}")),
        "backlog": backlog,
        "tcpkeepalive": keepalive,
        "redis": *protocol == Protocol::Redis,
        "redis_auth": password.as_ref().map(|_| REDACTED),
        "redis_db": database,
        "allow_flush": allow_flush,
        "hash": hash.name(),
        "distribution": distribution.name(),
        "hash_tag": hash_tag.map(|tag| tag.to_string()),
        "timeout": request_timeout.map_or(0, ms),
        "connect_timeout_ms": ms(*connect_timeout),
        "server_connections": server_connections_per_worker,
        "preconnect": preconnect,
        "auto_eject_hosts": health.eject,
        "server_failure_limit": health.failure_limit,
        "server_retry_timeout": ms(health.retry_timeout),
        "client_connections": client_connections_max,
        "request_size_max_bytes": limits.request_size_max,
        "response_size_max_bytes": limits.response_size_max,
        "arguments_max": limits.arguments_max,
        "client_requests_inflight_max": client_requests_inflight_max,
        "client_output_high_water_bytes": client_output_high_water,
        "client_output_max_bytes": client_output_max,
        "server_requests_inflight_max": server_requests_inflight_max,
        "dedicated_connections_max": dedicated_connections_max,
        "client_stall_timeout_ms": client_stall_timeout.map_or(0, ms),
        "slow_threshold_ms": slow_threshold.map_or(0, ms),
        "servers": servers.iter().map(server).collect::<Vec<_>>(),
    })
}

fn server(options: &ServerOptions) -> Value {
    let ServerOptions { name, address, weight } = options;
    json!({ "name": name, "address": address.to_string(), "weight": weight })
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Address;
    use proxy::options::ServerAddress;

    #[test]
    fn a_password_is_never_told() {
        let address = ServerAddress::Inet { host: "h".to_owned(), port: 1 };
        let server = ServerOptions { name: "s".to_owned(), address, weight: 2 };
        let listen = Address::Inet(([127, 0, 0, 1], 1).into());
        let mut options = PoolOptions::new("p", Protocol::Redis, listen, vec![server]);
        assert_eq!(pool(&options)["redis_auth"], Value::Null);
        options.password = Some(b"hunter2".to_vec());
        let told = pool(&options);
        assert_eq!(told["redis_auth"], REDACTED);
        assert!(!told.to_string().contains("hunter2"));
        assert_eq!(told["servers"][0]["address"], "h:1");
    }
}
