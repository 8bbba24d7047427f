//! The privilege to make network namespaces, from a user namespace.

use std::{fs, sync::OnceLock};

use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
    unistd::{getgid, getuid},
};

use crate::error::Error;

/// Bits of a thread's effective capabilities (linux/capability.h).
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;

static REFUSED: OnceLock<String> = OnceLock::new();

/// Where the privilege to make network namespaces comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// The process had it already.
    Own,
    /// The process is root in a user namespace that was made for it.
    UserNamespace,
}

/// Makes sure that this process may make network namespaces, if need be by moving it into a user
/// namespace of its own, in which it is root. Outside it is the same user as before.
///
/// Nothing can be loaded into the kernel from there: load probes before. It must be called while
/// the process has one thread, so before any async runtime is made.
///
/// # Errors
///
/// [`Error::System`] where only root may do so, with what would change that.
pub fn acquire_privilege() -> Result<Privilege, Error> {
    if has_capabilities() {
        return Ok(Privilege::Own);
    }
    enter_user_namespace().inspect_err(|refused| {
        // It is refused the same way each time.
        let _ = REFUSED.set(refused.to_string());
    })
}

/// Why [`acquire_privilege`] failed, if it did.
pub(crate) fn refused() -> Option<&'static str> {
    REFUSED.get().map(String::as_str)
}

fn enter_user_namespace() -> Result<Privilege, Error> {
    let (user, group) = (getuid(), getgid());
    unshare(CloneFlags::CLONE_NEWUSER)
        .map_err(|errno| Error::system("make a user namespace", errno, advice(errno)))?;
    if user.is_root() {
        // Root without capabilities cannot be mapped (since Linux 5.12). Programs that are run from
        // here have no privilege then; this process has.
        return Ok(Privilege::UserNamespace);
    }
    // Without the first the kernel refuses the last.
    for (file, text) in [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {user} 1")),
        ("/proc/self/gid_map", format!("0 {group} 1")),
    ] {
        fs::write(file, text)
            .map_err(|e| Error::system(format!("write {file}"), e, advice(Errno::EPERM)))?;
    }
    Ok(Privilege::UserNamespace)
}

fn has_capabilities() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| {
        let set = line.strip_prefix("CapEff:")?;
        u64::from_str_radix(set.trim(), 16).ok()
    });
    let has = |capability: u32| effective.is_some_and(|set| set >> capability & 1 == 1);
    has(CAP_NET_ADMIN) && has(CAP_SYS_ADMIN)
}

/// What would let this user make a user namespace.
fn advice(errno: Errno) -> &'static str {
    let setting = |file: &str| fs::read_to_string(file).map(|value| value.trim().to_owned());
    let is = |file: &str, value: &str| setting(file).is_ok_and(|set| set == value);
    match errno {
        Errno::EINVAL => "call this while the process has one thread",
        Errno::ENOSPC | Errno::EUSERS => "raise user.max_user_namespaces (sysctl), or run as root",
        _ if is("/proc/sys/kernel/unprivileged_userns_clone", "0") => {
            "set kernel.unprivileged_userns_clone=1 (sysctl), or run as root"
        }
        _ if is(
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
        ) =>
        {
            "set kernel.apparmor_restrict_unprivileged_userns=0 (sysctl), or run as root"
        }
        _ => {
            "run as root, and in a container with CAP_SYS_ADMIN and CAP_NET_ADMIN \
             (docker run --cap-add SYS_ADMIN --cap-add NET_ADMIN)"
        }
    }
}
