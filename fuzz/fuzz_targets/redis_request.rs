//! Any bytes from a client of Redis.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| protocol::fuzz::redis_request(data));
