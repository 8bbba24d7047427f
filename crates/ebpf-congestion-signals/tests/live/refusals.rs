//! Who may not load probes is told the true cause. A thread gives up what the test is about, for
//! itself alone.

use std::io::{Read, Write};
use std::thread;

use ebpf_congestion_signals::{EbpfSource, LoadError};
use live_test::{Skip, TestResult};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};

use crate::kernel::{self, Version};

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

/// Leaves this thread these capabilities alone.
fn keep_capabilities(kept: u64) {
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
    let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or_default();
    let (low, high) = (half(kept), half(kept >> 32));
    // Effective, permitted and inheritable, first the low halves.
    let sets = [low, low, 0, high, high, 0];
    // SAFETY: a system call on this thread with structures of the sizes that its version has.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) };
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
    let told = refused(|| keep_capabilities(0));
    assert!(told.contains("CAP_BPF and CAP_PERFMON"), "{told}");
    Ok(())
}

/// First kernel that does not hold maps against the limit of locked memory.
const SINCE_WITHOUT_LIMIT: Version = Version(5, 11);

#[test]
fn a_limit_of_locked_memory_is_named() -> TestResult {
    const CAPABILITIES: u64 = 1 << 38 | 1 << 39;
    crate::source()?;
    if kernel::running() >= SINCE_WITHOUT_LIMIT {
        return Err(Skip::new("kernels from 5.11 on limit the memory of maps otherwise").into());
    }
    let (mut read, write) = std::io::pipe()?;
    // The limit is a process's.
    // SAFETY: the child has this thread alone, and ends without running destructors.
    match unsafe { fork() }? {
        ForkResult::Child => {
            let bytes = 65_536;
            let limited = setrlimit(Resource::RLIMIT_MEMLOCK, bytes, bytes);
            keep_capabilities(CAPABILITIES);
            let told = match EbpfSource::load().map(drop) {
                Err(error) => error.to_string(),
                Ok(()) => format!("it was loaded, limit {limited:?}"),
            };
            let _ = (&write).write_all(told.as_bytes());
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            drop(write);
            let mut told = String::new();
            read.read_to_string(&mut told)?;
            waitpid(child, None)?;
            assert!(
                told.contains("65536 bytes") && told.contains("ulimit -l"),
                "{told}"
            );
            assert!(!told.contains('\n'), "{told}");
        }
    }
    Ok(())
}
