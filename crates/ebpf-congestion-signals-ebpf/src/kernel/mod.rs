//! The kernel's structures, read at the offsets that the loader found in its BTF.
//!
//! Pointers that come from a tracepoint's arguments, and those read through them, are known to the
//! verifier by type: loads through them are allowed, and read as zero where the memory is gone.

use core::arch::asm;

use aya_ebpf::helpers::{bpf_probe_read_kernel, generated};
use ebpf_congestion_signals_common::KernelOffsets;

pub use device::{Device, VXLAN};
pub use qdisc::{NETEM, Qdisc, TBF};
pub use skb::Skb;
pub use sock::Sock;

mod device;
mod qdisc;
mod skb;
mod sock;

/// Protocol numbers of IP (`IPPROTO_TCP`, `IPPROTO_UDP`).
pub const IPPROTO_TCP: u8 = 6;
pub const IPPROTO_UDP: u8 = 17;

/// Set by the loader before the programs are verified.
#[unsafe(no_mangle)]
pub static KERNEL_FACTS: KernelOffsets = KernelOffsets::UNKNOWN;

/// A field of [`KERNEL_FACTS`]. Volatile, so that the compiler does not take the value in the
/// object for the one at load.
macro_rules! fact {
    ($field:ident) => {
        $crate::kernel::word(&raw const $crate::kernel::KERNEL_FACTS.$field)
    };
}
pub(crate) use fact;

/// For [`fact!`].
#[inline(always)]
pub fn word(fact: *const u32) -> u32 {
    // SAFETY: a field of a static.
    unsafe { fact.read_volatile() }
}

/// Copies a `T` from any address.
#[inline(always)]
pub fn read<T>(address: u64) -> Option<T> {
    // SAFETY: the helper answers an error for memory that cannot be read.
    unsafe { bpf_probe_read_kernel(address as *const T) }.ok()
}

/// Copies so many bytes from any address; whether they could be read.
#[inline(always)]
pub fn read_into(address: u64, to: *mut u8, bytes: u32) -> bool {
    // SAFETY: the helper answers an error for memory that cannot be read; callers give it room for
    // so many bytes.
    unsafe { generated::bpf_probe_read_kernel(to.cast(), bytes, address as *const _) == 0 }
}

/// Loads a `T` at an offset of a typed kernel pointer.
#[inline(always)]
fn load<T: Copy>(object: *const u8, offset: u32) -> T {
    // SAFETY: the verifier checks type and bounds of the load.
    unsafe { object.add(offset as usize).cast::<T>().read_volatile() }
}

/// Whether a tracepoint's argument is null.
///
/// Linux 6.6 to 6.12 take no argument of a BTF tracepoint for null: they remove the comparison with
/// zero from a program, and a load through a null argument stops the kernel. The comparison with the
/// difference of two pointers stays, which is no known number to the verifier.
#[inline(always)]
fn is_null(argument: *const u8) -> bool {
    let zero: u64;
    // SAFETY: one register is written.
    unsafe {
        asm!(
            "{zero} = {argument}",
            "{zero} -= {argument}",
            zero = out(reg) zero,
            argument = in(reg) argument as u64,
            options(pure, nomem, nostack),
        );
    }
    argument.is_null() || argument as u64 == zero
}

/// Defines what is loaded through a typed kernel pointer (`at`).
macro_rules! fields {
    ($name:ident { $($(#[$doc:meta])* $field:ident: $type:ty = $fact:ident,)* }) => {
        impl $name {
            $($(#[$doc])*
            #[inline(always)]
            pub fn $field(self) -> $type {
                load(self.at, fact!($fact))
            })*
        }
    };
}
use fields;
