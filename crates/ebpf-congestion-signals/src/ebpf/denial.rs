//! Why the kernel denies a process to load probes, and what would change that.

use std::fs;
use std::io;

use super::memlock;

/// Numbers of capabilities (include/uapi/linux/capability.h).
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Where the kernel says whether it is locked down; there where securityfs is mounted.
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";

/// The user ids of the first user namespace, as `uid_map` has them in procfs.
const ALL_USERS: [u32; 3] = [0, 0, u32::MAX];

/// What decides whether a process may load probes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Circumstances {
    /// Effective capabilities, a bit each.
    capabilities: u64,
    /// In a user namespace other than the first one.
    in_user_namespace: bool,
    /// A seccomp filter checks this process's system calls.
    is_filtered: bool,
    /// `kernel_lockdown(7)` denies reads of the kernel's memory.
    is_confidential: bool,
    /// The limit of locked memory in bytes, where the kernel holds maps against it.
    memory_limit: Option<u64>,
    /// The kernel answered that it has no such system call.
    no_system_call: bool,
}

/// Whether the kernel denied what was asked for.
pub(super) fn is_denied(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// The cause and the remedy, in one line. `error`: the kernel's answer.
pub(super) fn explain(error: Option<i32>) -> String {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let users = fs::read_to_string("/proc/thread-self/uid_map").unwrap_or_default();
    Circumstances {
        capabilities: field(&status, "CapEff:")
            .and_then(|hex| u64::from_str_radix(hex, 16).ok())
            .unwrap_or_default(),
        in_user_namespace: is_in_user_namespace(&users),
        is_filtered: field(&status, "Seccomp:") == Some("2"),
        is_confidential: is_locked_down(),
        memory_limit: memlock::limit_of_maps(),
        no_system_call: error == Some(libc::ENOSYS),
    }
    .explain()
}

/// Whether the kernel denies reads of its memory, to root too.
pub(super) fn is_locked_down() -> bool {
    fs::read_to_string(LOCKDOWN).is_ok_and(|modes| modes.contains("[confidentiality]"))
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let line = status.lines().find(|line| line.starts_with(name))?;
    Some(line[name.len()..].trim())
}

fn is_in_user_namespace(map: &str) -> bool {
    let numbers: Vec<u32> = map
        .split_whitespace()
        .filter_map(|number| number.parse().ok())
        .collect();
    !numbers.is_empty() && numbers != ALL_USERS
}

impl Circumstances {
    fn has(&self, capability: u32) -> bool {
        self.capabilities >> capability & 1 == 1
    }

    fn may_load(&self) -> bool {
        self.has(CAP_SYS_ADMIN) || (self.has(CAP_BPF) && self.has(CAP_PERFMON))
    }

    fn explain(&self) -> String {
        let filter = "a seccomp filter of this process denies bpf(): let the filter allow it (a \
                      container's profile has it with CAP_BPF)";
        if self.is_confidential {
            return "the kernel is locked down: no program may read the kernel's memory, with any \
                    capability: boot with lockdown=integrity or without lockdown"
                .to_owned();
        }
        if self.no_system_call {
            return if self.is_filtered {
                filter.to_owned()
            } else {
                "the kernel has no system call bpf(): CONFIG_BPF_SYSCALL is off".to_owned()
            };
        }
        if self.in_user_namespace {
            return "this process is in a user namespace, whose capabilities do not count: load \
                    the probes before entering it, or in a process outside"
                .to_owned();
        }
        if !self.may_load() {
            return "give the program the capabilities CAP_BPF and CAP_PERFMON (`setcap \
                    cap_bpf,cap_perfmon+ep PROGRAM`), or run it as root; before Linux 5.19 \
                    kernel.unprivileged_bpf_disabled requires CAP_SYS_ADMIN"
                .to_owned();
        }
        if let Some(bytes) = self.memory_limit {
            return format!(
                "the limit of locked memory is {bytes} bytes, which counts BPF maps on kernels \
                 before 5.11: raise it (`ulimit -l unlimited`, LimitMEMLOCK=infinity), or give the \
                 program CAP_SYS_RESOURCE"
            );
        }
        if self.is_filtered {
            return filter.to_owned();
        }
        "this process has the capabilities for it, so a security module (SELinux, AppArmor) or the \
         kernel's configuration denies it: see the audit log"
            .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn able() -> Circumstances {
        Circumstances {
            capabilities: 1 << CAP_BPF | 1 << CAP_PERFMON,
            ..Circumstances::default()
        }
    }

    #[test]
    fn missing_capabilities_are_named() {
        let one = Circumstances {
            capabilities: 1 << CAP_BPF,
            ..Circumstances::default()
        };
        for lacking in [Circumstances::default(), one] {
            assert!(lacking.explain().contains("CAP_PERFMON"));
        }
    }

    #[test]
    fn with_all_capabilities_the_other_cause_is_named() {
        let reported = |change: fn(&mut Circumstances)| {
            let mut circumstances = able();
            change(&mut circumstances);
            circumstances.explain()
        };
        assert!(reported(|at| at.is_filtered = true).contains("seccomp"));
        assert!(reported(|at| at.is_confidential = true).contains("lockdown"));
        assert!(reported(|at| at.in_user_namespace = true).contains("user namespace"));
        assert!(reported(|at| at.memory_limit = Some(65_536)).contains("65536 bytes"));
        assert!(reported(|at| at.no_system_call = true).contains("CONFIG_BPF_SYSCALL"));
        assert!(reported(|_| {}).contains("security module"));
    }

    #[test]
    fn the_first_user_namespace_maps_all_users_to_themselves() {
        assert!(!is_in_user_namespace("         0          0 4294967295\n"));
        assert!(is_in_user_namespace("         0       1000          1\n"));
        assert!(!is_in_user_namespace(""), "no procfs");
    }

    #[test]
    fn a_status_has_fields() {
        let status = "Name:\tx\nCapEff:\t000000c000000000\nSeccomp:\t2\n";
        assert_eq!(field(status, "CapEff:"), Some("000000c000000000"));
        assert_eq!(field(status, "Seccomp:"), Some("2"));
        assert_eq!(field(status, "Nothing:"), None);
    }
}
