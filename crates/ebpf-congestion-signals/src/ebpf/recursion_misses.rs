//! How often the kernel did not run a program: recursion misses.
//!
//! A program does not run while it already runs on the same CPU: when an interrupt meets it, or,
//! since Linux 7.0, when its thread was preempted in the middle of it, for all that other threads do
//! there until that thread goes on. The kernel counts such runs.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `BPF_OBJ_GET_INFO_BY_FD` of `enum bpf_cmd` (include/uapi/linux/bpf.h).
const GET_INFO_BY_FD: libc::c_long = 15;

/// Where `struct bpf_prog_info` has `recursion_misses` (the same file), since Linux 5.12.
const RECURSION_MISSES: usize = 208;

/// The beginning of `struct bpf_prog_info`, up to the field that is read.
#[repr(C, align(8))]
struct Info([u8; RECURSION_MISSES + 8]);

/// `union bpf_attr` for the command.
#[repr(C)]
struct Attributes {
    fd: u32,
    info_len: u32,
    info: u64,
}

/// Recursion misses of this program; `None` on kernels that do not count them.
pub(super) fn runs(program: BorrowedFd<'_>) -> io::Result<Option<u64>> {
    let mut info = Info([0; RECURSION_MISSES + 8]);
    let length = u32::try_from(size_of::<Info>()).unwrap_or(u32::MAX);
    let mut attributes = Attributes {
        fd: u32::try_from(program.as_raw_fd()).unwrap_or(u32::MAX),
        info_len: length,
        // The kernel writes through this number.
        info: (&raw mut info).expose_provenance() as u64,
    };
    // SAFETY: the kernel reads and writes no more than the size given of the attributes, and no more
    // than `info_len` bytes at `info`, whose address is exposed; both live until it returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            GET_INFO_BY_FD,
            &raw mut attributes,
            size_of::<Attributes>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    if attributes.info_len < length {
        return Ok(None);
    }
    let mut count = [0; 8];
    count.copy_from_slice(&info.0[RECURSION_MISSES..]);
    Ok(Some(u64::from_ne_bytes(count)))
}
