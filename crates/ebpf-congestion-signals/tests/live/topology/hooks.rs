//! Programs of others that drop what arrives: XDP, and tcx.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use ebpf_congestion_signals::{Direction, DropClass, SignalSource, WatchTarget};
use live_test::{Skip, TestResult};

use super::bed::{Drops, Pair};
use crate::known::Known;
use crate::source_with;
use crate::traffic::{drain, send};

/// A place where a program is put, with the numbers of include/uapi/linux/bpf.h and if_link.h.
struct Hook {
    name: &'static str,
    program_type: u32,
    attach_type: u32,
    /// What the program answers: drop it.
    verdict: i32,
    flags: u32,
}

/// `XDP_FLAGS_DRV_MODE`
const IN_DRIVER: u32 = 4;

const HOOKS: [Hook; 3] = [
    Hook {
        name: "generic XDP",
        program_type: 6,
        attach_type: 37,
        verdict: 1,
        flags: 2,
    },
    Hook {
        name: "XDP of the driver",
        program_type: 6,
        attach_type: 37,
        verdict: 1,
        flags: IN_DRIVER,
    },
    Hook {
        name: "tcx",
        program_type: 3,
        attach_type: 46,
        verdict: 2,
        flags: 0,
    },
];

/// Calls bpf() with attributes of 32-bit words.
fn bpf(command: libc::c_long, words: &mut [u32]) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads the words, and through the pointers in them, which the caller keeps.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            words.as_mut_ptr(),
            size_of_val(words),
        )
    };
    let fd = i32::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just opened, and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The two halves of an address, as `bpf_attr` has them in words.
fn halves(address: u64) -> [u32; 2] {
    let bytes = address.to_ne_bytes();
    let half = |from: usize| {
        let mut half = [0; 4];
        half.copy_from_slice(&bytes[from..from + 4]);
        u32::from_ne_bytes(half)
    };
    [half(0), half(4)]
}

impl Hook {
    /// Puts a program that drops everything in front of a device of the current namespace.
    fn close(&self, device: &str) -> io::Result<(OwnedFd, OwnedFd)> {
        const PROG_LOAD: libc::c_long = 5;
        const LINK_CREATE: libc::c_long = 28;
        // r0 = verdict; exit
        let verdict = self.verdict.to_ne_bytes();
        let mut program = [0u8; 16];
        program[0] = 0xb7;
        program[4..8].copy_from_slice(&verdict);
        program[8] = 0x95;
        let license = c"GPL";
        let [low, high] = halves(program.as_mut_ptr().expose_provenance() as u64);
        let [license_low, license_high] = halves(license.as_ptr().expose_provenance() as u64);
        let mut load = [0u32; 18];
        load[..6].copy_from_slice(&[self.program_type, 2, low, high, license_low, license_high]);
        load[17] = self.attach_type;
        let loaded = bpf(PROG_LOAD, &mut load)?;
        let index = nix::net::if_::if_nametoindex(device)?;
        let number = loaded.as_raw_fd().unsigned_abs();
        let mut create = [0u32; 12];
        create[..4].copy_from_slice(&[number, index, self.attach_type, self.flags]);
        let link = bpf(LINK_CREATE, &mut create)?;
        Ok((loaded, link))
    }
}

#[test]
fn what_a_program_before_a_device_drops_is_the_receivers() -> TestResult {
    let source = source_with(&["kfree_skb", "skb_drop_reason"])?;
    let mut tested = 0;
    for hook in &HOOKS {
        let pair = Pair::new("")?;
        let (sender, sink) = (pair.sender(), pair.sink());
        let to = sink.local_addr()?;
        let _program = match pair.b.run(|| hook.close("b0"))? {
            Ok(program) => program,
            Err(refused) => {
                live_test::note(format!("{}: {refused}", hook.name));
                continue;
            }
        };
        let watches = [
            source.watch(WatchTarget::socket(&sender))?,
            source.watch(WatchTarget::socket(&sender).peer(to))?,
            source.watch(WatchTarget::socket(&sink))?,
        ];
        send(&sender, to, 50)?;
        assert_eq!(drain(&sink)?, 0, "{}", hook.name);
        for watch in &watches[..2] {
            assert_eq!(Drops::of(watch), Drops::NONE, "{}", hook.name);
            assert_eq!(watch.known_sample().sent_packets, 50, "{}", hook.name);
        }
        let drops = watches[2].known_sample().drops;
        let told = source.drops_by_reason(Some(watches[2].id()));
        tested += 1;
        // A program in a driver mostly drops before there is an skb: no probe sees that.
        if hook.flags == IN_DRIVER && told.is_empty() {
            continue;
        }
        assert_eq!(drops.total().packets, 50, "{}: {told:?}", hook.name);
        let arriving = drops.direction(Direction::Ingress).packets;
        assert_eq!(arriving, 50, "{}: {told:?}", hook.name);
        let [by] = told.as_slice() else {
            panic!("{}: one reason: {told:?}", hook.name)
        };
        // Some kernels have no reason for it: then the location is reported.
        let is_silent = &*by.reason == "NOT_SPECIFIED";
        let policy = drops.get(Direction::Ingress, DropClass::Policy).packets;
        let expected = if is_silent { 0 } else { 50 };
        assert_eq!(policy, expected, "{}: {told:?}", hook.name);
        assert_eq!(by.location.is_some(), is_silent, "{}: {told:?}", hook.name);
    }
    if tested == 0 {
        return Err(Skip::new("this kernel has no such hook: a program before a device").into());
    }
    Ok(())
}
