//! Errors that say nothing of what was asked for, but that the system lacks something for it.

use std::io;

/// What would help; `None` for an error of another kind.
#[cfg(target_os = "linux")]
pub(crate) fn remedy(error: &io::Error) -> Option<&'static str> {
    Some(match error.raw_os_error()? {
        libc::EMFILE => {
            "this process has as many open files as it may: raise the limit (`ulimit -n`, \
             LimitNOFILE=)"
        }
        libc::ENFILE => "the host has as many open files as it may: raise fs.file-max",
        libc::ENOMEM | libc::ENOBUFS => {
            "there is too little memory: raise the limit of the process's control group (MemoryMax=), \
             or free some"
        }
        libc::ENOSPC => {
            "the kernel has no room for one more: raise the limit (fs.epoll.max_user_watches)"
        }
        libc::EAGAIN | libc::EINTR => "the kernel was interrupted: try again",
        _ => return None,
    })
}

/// What would help, or else `otherwise`.
#[cfg(target_os = "linux")]
pub(crate) fn remedy_or(error: &io::Error, otherwise: &'static str) -> &'static str {
    remedy(error).unwrap_or(otherwise)
}

/// There, no call of the kernel is made.
#[cfg(not(target_os = "linux"))]
pub(crate) fn remedy_or(_: &io::Error, otherwise: &'static str) -> &'static str {
    otherwise
}

/// The number of the system's error among an error and its causes, as the error that it is.
#[cfg(all(feature = "ebpf", target_os = "linux"))]
pub(crate) fn of_system(error: &(dyn std::error::Error + 'static)) -> Option<io::Error> {
    std::iter::successors(Some(error), |error| error.source())
        .find_map(|error| error.downcast_ref::<io::Error>()?.raw_os_error())
        .map(io::Error::from_raw_os_error)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_has_a_remedy_and_a_refusal_has_none() {
        let error = |number| io::Error::from_raw_os_error(number);
        assert!(remedy(&error(libc::EMFILE)).is_some_and(|remedy| remedy.contains("ulimit -n")));
        assert!(remedy(&error(libc::ENOMEM)).is_some_and(|remedy| remedy.contains("memory")));
        assert_eq!(remedy(&error(libc::EPERM)), None);
        assert_eq!(
            remedy_or(&error(libc::EBADF), "is it closed?"),
            "is it closed?"
        );
        assert_eq!(
            remedy(&io::ErrorKind::OutOfMemory.into()),
            None,
            "no error of the system's"
        );
    }
}
