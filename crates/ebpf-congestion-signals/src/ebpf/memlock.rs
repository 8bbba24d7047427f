//! The limit of locked memory, which kernels before 5.11 hold maps against.

/// Lifts the process's limit as far as it may; whether it is higher now.
pub(super) fn lift() -> bool {
    let unlimited = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    let Some(before) = limit() else { return false };
    // SAFETY: the structure is valid for the kernel to read.
    let raised = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const unlimited) } == 0;
    // Without CAP_SYS_RESOURCE, up to the hard limit.
    let raised = raised || {
        let hard = libc::rlimit {
            rlim_cur: before.rlim_max,
            ..before
        };
        // SAFETY: as above.
        unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const hard) == 0 }
    };
    raised && limit().is_some_and(|now| now.rlim_cur > before.rlim_cur)
}

/// First kernel that accounts maps to the memory of a control group instead.
const SINCE_WITHOUT: (u32, u32) = (5, 11);

/// The limit in bytes, where this kernel holds maps against it and it is one.
pub(super) fn limit_of_maps() -> Option<u64> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    let mut number = || numbers.next()?.parse::<u32>().ok();
    if (number()?, number()?) >= SINCE_WITHOUT {
        return None;
    }
    let limit = limit()?.rlim_cur;
    (limit != libc::RLIM_INFINITY).then_some(limit)
}

fn limit() -> Option<libc::rlimit> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the structure is valid for the kernel to write.
    let answer = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    (answer == 0).then_some(limit)
}
