//! Counters of one worker: plain integers that it alone writes; a reader gets a copy and sums.
//!
//! Invariant: every counter only grows; what can shrink is named a gauge.

use base::Time;

use crate::latency::Latencies;

/// Events of one server, as seen by one worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServerStats {
    /// Connections that the server closed.
    pub eof_count: u64,
    /// Connections that broke, could not be opened, or carried nonsense.
    pub error_count: u64,
    /// Requests that had no response in time.
    pub timedout_count: u64,
    /// Gauge: open connections.
    pub connections: u64,
    /// Requests sent or queued, each part of a split one counted.
    pub requests: u64,
    /// Their bytes.
    pub request_bytes: u64,
    /// Responses that belonged to a request.
    pub responses: u64,
    /// Their bytes.
    pub response_bytes: u64,
    /// Gauge: requests that are not sent yet.
    pub in_queue: u64,
    /// Gauge: their bytes.
    pub in_queue_bytes: u64,
    /// Gauge: requests that are sent and wait for a response.
    pub out_queue: u64,
    /// Gauge: their bytes.
    pub out_queue_bytes: u64,
    /// When the server was last ejected, on the worker's clock; `None` if it never was.
    pub ejected_at: Option<Time>,
    /// Times that the server was ejected, failed probes included.
    pub ejects: u64,
    /// Gauge: workers that have it ejected now.
    pub ejected: u64,
    /// Probes of the server while it was ejected.
    pub probes: u64,
}

impl ServerStats {
    /// Adds what another worker, or a server that this one has taken the place of, has counted.
    pub fn add(&mut self, other: &ServerStats) {
        self.eof_count += other.eof_count;
        self.error_count += other.error_count;
        self.timedout_count += other.timedout_count;
        self.connections += other.connections;
        self.requests += other.requests;
        self.request_bytes += other.request_bytes;
        self.responses += other.responses;
        self.response_bytes += other.response_bytes;
        self.in_queue += other.in_queue;
        self.in_queue_bytes += other.in_queue_bytes;
        self.out_queue += other.out_queue;
        self.out_queue_bytes += other.out_queue_bytes;
        self.ejected_at = self.ejected_at.max(other.ejected_at);
        self.ejects += other.ejects;
        self.ejected += other.ejected;
        self.probes += other.probes;
    }
}

/// Events of one pool, as seen by one worker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Clients that closed their connection.
    pub client_eof: u64,
    /// Clients whose connection broke or was closed by us.
    pub client_err: u64,
    /// Gauge: clients now.
    pub client_connections: u64,
    /// Clients ever.
    pub client_connections_total: u64,
    /// Clients turned away at the limit.
    pub client_refused: u64,
    /// Requests that were well formed, local ones included.
    pub client_requests: u64,
    /// Requests that were refused with an error by the client's fault.
    pub client_faults: u64,
    /// Requests that were answered with an error of ours because a server gave no response.
    pub forward_errors: u64,
    /// Parts that split requests were divided into.
    pub fragments: u64,
    /// One a server, in the pool's order.
    pub servers: Vec<ServerStats>,
    /// The same, from the request's arrival to the server's response, or to the error in its place.
    pub latencies: Vec<Latencies>,
}

impl PoolStats {
    /// Adds what another worker has counted.
    pub fn add(&mut self, other: &PoolStats) {
        self.client_eof += other.client_eof;
        self.client_err += other.client_err;
        self.client_connections += other.client_connections;
        self.client_connections_total += other.client_connections_total;
        self.client_refused += other.client_refused;
        self.client_requests += other.client_requests;
        self.client_faults += other.client_faults;
        self.forward_errors += other.forward_errors;
        self.fragments += other.fragments;
        let count = self.servers.len().max(other.servers.len());
        self.servers.resize(count, ServerStats::default());
        for (into, from) in self.servers.iter_mut().zip(&other.servers) {
            into.add(from);
        }
        self.latencies.resize(count, Latencies::default());
        for (into, from) in self.latencies.iter_mut().zip(&other.latencies) {
            into.add(from);
        }
    }
}

/// Everything that one worker counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkerStats {
    /// When this was, on the worker's clock.
    pub now: Time,
    /// One a pool, in the order of the configuration.
    pub pools: Vec<PoolStats>,
    /// Gauge: bytes of unfinished requests and waiting replies.
    pub buffered_bytes: u64,
    /// Sends started on connections of clients and servers.
    pub sends: u64,
}
