//! Who may not load probes is told the true cause. A thread gives up what the test is about, for
//! itself alone.

use std::thread;

use ebpf_congestion_signals::{EbpfSource, LoadError};
use live_test::TestResult;

/// What loading answers in a thread that has given something up.
fn refused(give_up: impl FnOnce() + Send + 'static) -> String {
    let load = thread::spawn(|| {
        give_up();
        EbpfSource::load().map(drop)
    });
    match load.join().expect("the thread ends") {
        Err(error @ LoadError::NotPermitted { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Lets the system call bpf() answer with an error, in this thread.
fn filter(error: i32) {
    const ALLOW: u32 = 0x7fff_0000;
    const ERROR: u32 = 0x0005_0000;
    let step = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter {
        code: u16::try_from(code).expect("16 bits"),
        jt,
        jf,
        k,
    };
    let number = u32::try_from(libc::SYS_bpf).expect("a small number");
    let mut steps = [
        // The system call's number lies first.
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number),
        step(
            libc::BPF_RET | libc::BPF_K,
            0,
            0,
            ERROR | error.unsigned_abs(),
        ),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, ALLOW),
    ];
    let program = libc::sock_fprog {
        len: 4,
        filter: steps.as_mut_ptr(),
    };
    // SAFETY: a system call on this thread without pointers.
    let given_up = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(given_up, 0);
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: a system call on this thread; the program lives until it returns.
    let filtered = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) };
    assert_eq!(filtered, 0);
}

/// Takes every capability from this thread.
fn drop_capabilities() {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    // `_LINUX_CAPABILITY_VERSION_3` (include/uapi/linux/capability.h): two words of each set.
    let header = Header {
        version: 0x2008_0522,
        pid: 0,
    };
    let none = [0u32; 6];
    // SAFETY: a system call on this thread with structures of the sizes that its version has.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn a_filter_of_system_calls_is_named() -> TestResult {
    crate::source()?;
    for error in [libc::EPERM, libc::ENOSYS] {
        let told = refused(move || filter(error));
        assert!(told.contains("seccomp"), "{told}");
        assert!(!told.contains('\n'), "{told}");
    }
    Ok(())
}

#[test]
fn missing_capabilities_are_named() -> TestResult {
    crate::source()?;
    let told = refused(drop_capabilities);
    assert!(told.contains("CAP_BPF and CAP_PERFMON"), "{told}");
    Ok(())
}
