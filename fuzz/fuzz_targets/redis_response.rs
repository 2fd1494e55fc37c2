//! Any bytes from a server of Redis.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| protocol::fuzz::redis_response(data));
