//! One suite for every implementation of [`EventBase`]: the kernel's two and the simulated one.
//!
//! A back end's tests give a [`Harness`] to [`crate::conformance_suite`], which makes a test of
//! each function in [`cases`] and [`closing`]. Invariant: whatever a case does, [`Driver`] checks
//! each event against the contract.

pub mod cases;
pub mod closing;
mod driver;
pub mod kernel;

use std::io;

use base::Address;

pub use driver::Driver;

use crate::{EventBase, ReceiveBuffers};

/// What a case needs to know about an event base and its world.
pub trait Harness {
    /// What is tested.
    type Base: EventBase;
    /// The other end of a connection.
    type Peer: Peer;

    /// A new event base. All of one harness are in one world.
    fn base(&self, options: BaseOptions) -> Self::Base;

    /// A connection: the end that is to be adopted, and the other. With `small_buffers` as few
    /// bytes as possible fit between them.
    fn pair(&self, small_buffers: bool) -> (Socket<Self>, Self::Peer);

    /// A socket that listens, and where.
    fn listener(&self) -> (Socket<Self>, Address);

    /// Connects to a listener of [`Harness::listener`] without waiting for it to be accepted.
    fn dial(&self, address: &Address) -> Self::Peer;

    /// Where nobody listens.
    fn nowhere(&self) -> Address;

    /// How often receives found no buffer so far.
    fn starved(&self, base: &Self::Base) -> u64;

    /// How many `Woken` so far stood only for wakes that the world itself made, as in a simulated
    /// one, where somebody else may call a waker at any time.
    fn foreign_wakes(&self, _base: &Self::Base) -> usize {
        0
    }
}

/// The socket of a harness.
pub type Socket<H> = <<H as Harness>::Base as EventBase>::Socket;

/// The other end of a connection. No call waits; where it would, it says `WouldBlock`.
pub trait Peer {
    /// Writes some of the bytes.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Reads some bytes; 0 at the end.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize>;
    /// Says that no more will be written.
    fn end(&mut self);
    /// Ends the connection by force.
    fn reset(self);
}

/// What a case needs of an event base.
#[derive(Debug, Clone, Copy)]
pub struct BaseOptions {
    /// Receive buffers of clients.
    pub client_buffers: ReceiveBuffers,
    /// Receive buffers of servers.
    pub server_buffers: ReceiveBuffers,
}

impl Default for BaseOptions {
    fn default() -> Self {
        let buffers = ReceiveBuffers { count: 16, size: 16 << 10 };
        BaseOptions { client_buffers: buffers, server_buffers: buffers }
    }
}

/// Makes a module with a test of each case. The expression makes a [`Harness`].
#[macro_export]
macro_rules! conformance_suite {
    ($name:ident, $harness:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $crate::conformance_suite!(@cases cases, $harness;
                received_bytes_keep_their_order,
                a_large_send_arrives_whole,
                a_send_of_many_slices_arrives_in_order,
                sends_of_many_sizes_arrive_in_order,
                a_send_that_is_blocked_goes_on,
                the_end_of_the_stream_is_told_once_and_sending_still_works,
                a_reset_ends_a_blocked_send_and_a_receive,
                connecting_succeeds,
                connecting_to_nobody_fails,
                connecting_to_a_path_that_does_not_exist_fails,
                a_credit_that_ends_with_the_bytes_ends_exactly,
                a_credit_smaller_than_what_is_there_stops_in_time,
                stopping_a_receive_loses_nothing,
                starved_clients_are_served_in_turn_and_servers_do_not_wait,
                many_ready_sockets_are_served_in_few_waits,
                a_wake_before_the_wait_is_told,
                wakes_are_told_once,
                no_wake_is_lost,
                a_waker_outlives_its_base,
                a_deadline_passes_without_events,
                events_that_are_let_gather_all_come,
                accepting_gives_every_connection,
                a_stopped_listener_leaves_connections_in_its_queue,
                an_exported_connection_goes_on_in_another_base,
                an_exported_listener_goes_on_in_another_base,
                a_busy_connection_is_not_exported,
                events_stay_small,
            );
            $crate::conformance_suite!(@cases closing, $harness;
                closing_ends_a_receive,
                closing_ends_a_blocked_send,
                closing_ends_a_connect,
                closing_a_listener_ends_accepting,
                closing_a_listener_gives_those_who_wait,
                closing_a_quiet_connection_is_told,
                closing_twice_is_told_once,
                closing_after_sent_delivers_although_input_is_unread,
                closing_at_once_after_send_delivers,
                closing_a_starved_connection,
                a_cancel_that_races_with_bytes_loses_nothing,
                a_close_that_races_with_everything_ends_everything_once,
                a_slot_that_is_used_again_gets_no_stale_event,
                stale_tokens_are_ignored,
                dropping_a_base_closes_its_connections,
            );
        }
    };
    (@cases $module:ident, $harness:expr; $($case:ident),* $(,)?) => {
        $(#[test]
        fn $case() {
            $crate::conformance::$module::$case(&$harness);
        })*
    };
}
