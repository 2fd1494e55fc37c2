//! A process in which io_uring is forbidden, as in many containers: it says why, and the readiness
//! back end works, also when the newer of epoll's calls is forbidden too.

#![cfg(target_os = "linux")]

use std::process::Command;

use event::conformance::kernel::{Family, Kernel};
use event::conformance::{BaseOptions, cases};
use event::{Readiness, ReadinessOptions, uring_supported};

const VARIABLE: &str = "WEIR_TEST_FORBIDDEN_WITH";

/// The test runs itself in child processes, which install the filter.
#[test]
fn a_filter_of_system_calls_is_named_and_readiness_works() {
    if let Ok(errno) = std::env::var(VARIABLE) {
        return in_child(errno.parse().expect("the parent has written a number"));
    }
    for (errno, words) in [(libc::EPERM, "seccomp"), (libc::ENOSYS, "does not have it")] {
        let output = Command::new(std::env::current_exe().expect("a test has a file"))
            .args(["--exact", "a_filter_of_system_calls_is_named_and_readiness_works"])
            .args(["--nocapture", "--test-threads=1"])
            .env(VARIABLE, errno.to_string())
            .output()
            .expect("the test can run itself");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        let line = text.lines().find(|line| line.contains("refused: ")).expect("the child says");
        assert!(line.contains("io_uring_setup failed: "), "{line}");
        assert!(line.contains(words), "{line}");
        assert!(text.contains("readiness works"), "{text}");
    }
}

fn in_child(errno: i32) {
    forbid(&[libc::SYS_io_uring_setup, libc::SYS_epoll_pwait2], errno);
    println!("refused: {}", uring_supported().expect_err("the filter forbids it"));
    let harness = Kernel::<Readiness> {
        make: |BaseOptions { client_buffers, server_buffers }| {
            let options = ReadinessOptions { client_buffers, server_buffers, oneshot: false };
            Readiness::new(options).expect("it needs nothing that is forbidden")
        },
        counters: Readiness::counters,
        family: Family::Inet,
    };
    cases::a_deadline_passes_without_events(&harness);
    cases::no_wake_is_lost(&harness);
    cases::connecting_succeeds(&harness);
    println!("readiness works");
}

/// Makes the calls fail with the number in this thread and those that it starts.
fn forbid(calls: &[i64], errno: i32) {
    let statement =
        |code: u32, value: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k: value };
    // The number of the call is the first field of what the filter sees.
    let mut filter = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)];
    for call in calls {
        filter.push(libc::sock_filter {
            jf: 1,
            ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, *call as u32)
        });
        let answer = libc::SECCOMP_RET_ERRNO | errno as u32;
        filter.push(statement(libc::BPF_RET | libc::BPF_K, answer));
    }
    filter.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the calls take numbers, and a program that lives until they return.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program), 0);
    }
}
