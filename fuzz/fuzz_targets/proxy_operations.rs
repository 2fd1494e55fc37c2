//! Any sequence of events for the proxy's state machine.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| proxy::fuzz::operations(data));
