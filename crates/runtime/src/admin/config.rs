//! The pools that run, as JSON, without secrets.
//!
//! Names are those of the configuration file. Invariant: no password is ever in it.

use std::time::Duration;

use proxy::options::{PoolOptions, Protocol};
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

fn pool(options: &PoolOptions) -> Value {
    let servers = options.servers.iter().map(|server| {
        json!({
            "name": server.name, "address": server.address.to_string(), "weight": server.weight,
        })
    });
    json!({
        "listen": options.listen.address.to_string(),
        "listen_mode": options.listen.unix_mode.map(|mode| format!("{mode:o}")),
        "backlog": options.listen.backlog,
        "tcpkeepalive": options.listen.keepalive,
        "redis": options.protocol == Protocol::Redis,
        "redis_auth": options.password.as_ref().map(|_| REDACTED),
        "redis_db": options.database,
        "hash": options.hash.name(),
        "distribution": options.distribution.name(),
        "hash_tag": options.hash_tag.map(|tag| tag.to_string()),
        "timeout": options.request_timeout.map_or(0, ms),
        "connect_timeout_ms": ms(options.connect_timeout),
        "server_connections": options.server_connections_per_worker,
        "preconnect": options.preconnect,
        "auto_eject_hosts": options.health.eject,
        "server_failure_limit": options.health.failure_limit,
        "server_retry_timeout": ms(options.health.retry_timeout),
        "client_connections": options.client_connections_max,
        "request_size_max_bytes": options.limits.request_size_max,
        "response_size_max_bytes": options.limits.response_size_max,
        "arguments_max": options.limits.arguments_max,
        "client_requests_inflight_max": options.client_requests_inflight_max,
        "client_output_high_water_bytes": options.client_output_high_water,
        "client_output_max_bytes": options.client_output_max,
        "server_requests_inflight_max": options.server_requests_inflight_max,
        "client_stall_timeout_ms": options.client_stall_timeout.map_or(0, ms),
        "slow_threshold_ms": options.slow_threshold.map_or(0, ms),
        "servers": servers.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Address;
    use proxy::options::{ServerAddress, ServerOptions};

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
