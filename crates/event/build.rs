//! Names the switch of the `polling` crate that selects its poll(2) back end, which this crate
//! must know because that back end has no descriptor of its own.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(polling_test_poll_backend)");
    println!("cargo::rerun-if-changed=build.rs");
}
