//! Any bytes from a client of memcached.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| protocol::fuzz::memcache_request(data));
