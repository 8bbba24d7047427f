//! Why BTF could not be read, or why it has no answer.

use std::io;
use std::path::PathBuf;

/// Why BTF could not be read, or why it has no answer.
///
/// The variants fall into three groups: the file could not be read ([`Missing`](Self::Missing) to
/// [`Read`](Self::Read)), its contents are not BTF this reader understands
/// ([`NotBtf`](Self::NotBtf) to [`Cyclic`](Self::Cyclic)), and sound BTF that lacks what was asked
/// for (the rest; [`is_absence`](Self::is_absence) is true of these alone).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BtfError {
    /// The kernel offers no BTF at this path.
    #[error(
        "there is no {}: the running kernel was built without CONFIG_DEBUG_INFO_BTF (use one that \
         has it), or sysfs is not mounted (mount it on /sys)", path.display()
    )]
    Missing {
        /// The file that was tried.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// The file is there, but this process may not read it.
    #[error(
        "no permission to read {}: run with more privilege, or let the sandbox or container expose \
         the file read-only", path.display()
    )]
    PermissionDenied {
        /// The file that was tried.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// Reading failed for some other reason.
    #[error("cannot read {}: see the source of this error for the system's answer", path.display())]
    Read {
        /// The file that was tried.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },

    /// The data does not begin with BTF's magic number.
    #[error(
        "this is not BTF, it begins with {magic:#06x} instead of 0xeb9f: pass the raw section, as \
         in /sys/kernel/btf/vmlinux, not an ELF file"
    )]
    NotBtf {
        /// The first two bytes, read as a little-endian number.
        magic: u16,
    },
    /// The header names a version of the format that this reader does not know.
    #[error(
        "BTF version {version} is unknown, only version 1 is known: a newer release of this crate \
         is needed"
    )]
    UnknownVersion {
        /// The version the header names.
        version: u8,
    },
    /// The data ends early.
    #[error(
        "BTF is truncated: {part} begins at byte {offset} and reaches past the end at byte {end}: \
         read or copy the file again, whole"
    )]
    Truncated {
        /// Which part of the data is incomplete.
        part: &'static str,
        /// Where that part begins, in bytes from the start of the data.
        offset: u64,
        /// Where the data, or the section that part lies in, ends.
        end: u64,
    },
    /// A type of a kind that this reader does not know and that the data does not describe.
    #[error(
        "BTF type {type_id} is of kind {kind}, which is newer than this reader: a newer release of \
         this crate is needed"
    )]
    UnknownKind {
        /// The kind's number.
        kind: u32,
        /// The type that is of this kind.
        type_id: u32,
    },
    /// The data contradicts itself.
    #[error(
        "BTF is damaged at type {type_id}, {problem}: read or copy the file again, or report it to \
         the kernel's vendor"
    )]
    Malformed {
        /// The type at fault; 0 for the data as a whole.
        type_id: u32,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Following types led on and on: they refer back to themselves, or are nested absurdly.
    #[error(
        "BTF is damaged, type {type_id} leads back to itself or is nested without end: read or \
         copy the file again"
    )]
    Cyclic {
        /// The type at which the reader gave up.
        type_id: u32,
    },

    /// No struct or union of this name.
    #[error(
        "this kernel has no struct or union {name}: it is older, newer or configured differently, \
         do without it"
    )]
    NoSuchStruct {
        /// The name asked for.
        name: String,
    },
    /// The struct exists, the member does not.
    #[error(
        "this kernel's {struct_name} has no {path} ({segment:?} is not found): it is older, newer \
         or configured differently, do without it"
    )]
    NoSuchMember {
        /// The struct or union asked for.
        struct_name: String,
        /// The path asked for.
        path: String,
        /// The part of the path that was not found.
        segment: String,
    },
    /// The path goes on behind a member that is neither struct nor union.
    #[error(
        "in {struct_name}.{path} the part before {segment:?} is neither struct nor union: end \
         the path there (it cannot lead through a pointer or an array)"
    )]
    NotAStruct {
        /// The struct or union asked for.
        struct_name: String,
        /// The path asked for.
        path: String,
        /// The part of the path that cannot be resolved.
        segment: String,
    },
    /// The member is a bitfield, which has no offset in bytes.
    #[error(
        "{struct_name}.{path} is a bitfield, at bit {bit_offset}: find its bytes by a member \
         beside it, and shift and mask"
    )]
    Bitfield {
        /// The struct or union asked for.
        struct_name: String,
        /// The path asked for.
        path: String,
        /// Where it begins, in bits from the start of the struct.
        bit_offset: u64,
    },
    /// No enum of this name.
    #[error(
        "this kernel has no enum {name}: it is older, newer or configured differently, do without \
         it"
    )]
    NoSuchEnum {
        /// The name asked for.
        name: String,
    },
    /// The enum exists, the variant does not.
    #[error("this kernel's enum {enum_name} has no {variant}: it is older or newer, do without it")]
    NoSuchVariant {
        /// The enum asked for.
        enum_name: String,
        /// The variant asked for.
        variant: String,
    },
    /// No tracepoint of this name.
    #[error(
        "this kernel has no tracepoint {name}: it is older, newer or configured differently, or \
         the tracepoint is in a module, whose BTF is a file of its own; do without it"
    )]
    NoSuchTracepoint {
        /// The name asked for.
        name: String,
    },
    /// BTF describes no function of this name.
    #[error(
        "this kernel has no function {name}: it is older, newer or configured differently, or its \
         compiler has put the function into its callers; do without it"
    )]
    NoSuchFunction {
        /// The name asked for.
        name: String,
    },
}

impl BtfError {
    /// Whether the BTF is sound and merely lacks what was asked for, so that asking for something
    /// else makes sense.
    #[must_use]
    pub fn is_absence(&self) -> bool {
        match self {
            Self::NoSuchStruct { .. }
            | Self::NoSuchMember { .. }
            | Self::NotAStruct { .. }
            | Self::Bitfield { .. }
            | Self::NoSuchEnum { .. }
            | Self::NoSuchVariant { .. }
            | Self::NoSuchTracepoint { .. }
            | Self::NoSuchFunction { .. } => true,
            Self::Missing { .. }
            | Self::PermissionDenied { .. }
            | Self::Read { .. }
            | Self::NotBtf { .. }
            | Self::UnknownVersion { .. }
            | Self::Truncated { .. }
            | Self::UnknownKind { .. }
            | Self::Malformed { .. }
            | Self::Cyclic { .. } => false,
        }
    }
}
