//! A refusal to load probes names its true cause. The thread under test gives up the privilege in
//! question, for itself alone.

use std::io::{Read, Write};
use std::thread;

use ebpf_congestion_signals::{EbpfSource, LoadError};
use live_test::fault::{Fault, under};
use live_test::{Skip, TestResult};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};

use crate::kernel::{self, Version};

/// What loading answered where it is not permitted.
fn refused(loaded: Result<EbpfSource, LoadError>) -> String {
    match loaded {
        Err(error @ LoadError::NotPermitted { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
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
        let denied = Fault::new(libc::SYS_bpf, error);
        let told = refused(under(&[denied], EbpfSource::load));
        assert!(told.contains("seccomp"), "{told}");
        assert!(!told.contains('\n'), "{told}");
    }
    Ok(())
}

#[test]
fn missing_capabilities_are_named() -> TestResult {
    crate::source()?;
    let load = thread::spawn(|| {
        keep_capabilities(0);
        EbpfSource::load()
    });
    let told = refused(load.join().expect("the thread ends"));
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
