//! Any bytes from a server of memcached.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| protocol::fuzz::memcache_response(data));
