//! The process's memory as a whole: giving back what a burst left behind.

/// Asks the allocator to return free memory to the system. It walks the heap, so call it at most
/// every few seconds and only after much was freed. Does nothing where the allocator has no such
/// call.
pub fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim takes no pointer and may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
