//! Reader for BTF, the description of its own types that a Linux kernel carries.
//!
//! The probes need to know where members lie, what number an enum's variant has, and which
//! arguments a tracepoint hands over. All of that differs from kernel to kernel, and is asked of
//! the running one when probes load. So this reads what is asked for, and nothing else: parsing
//! walks over all types once and notes where they are, and names are compared in place.
//!
//! Nothing in the data is trusted: whatever the bytes, parsing and look-ups end with an answer or
//! an error, after a bounded number of steps.

mod error;
mod excerpt;
mod member;
mod module;
mod raw;
#[cfg(test)]
mod tests;
mod tracepoint;

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

pub use error::BtfError;
pub use member::Member;
pub use tracepoint::Arg;

use excerpt::{FUNC, Kept, TYPEDEF};
use raw::{Kind, Raw, Steps, Type};

/// Where the running kernel offers its BTF.
pub const SYS_FS_PATH: &str = "/sys/kernel/btf/vmlinux";

/// A kernel's BTF.
///
/// It holds a copy of all of it, about 5 MB: look up what is needed and drop it. It covers what is
/// built into the kernel; a module's BTF builds upon it, see [`with_module`](Self::with_module).
pub struct Btf {
    raw: Raw,
    composites: Names,
    enums: Names,
    typedefs: Names,
    functions: Names,
}

/// Named types of one sort, in the order of their ids.
#[derive(Default)]
struct Names(Vec<Named>);

#[derive(Clone, Copy)]
struct Named {
    name: u32,
    id: u32,
}

fn read(path: &Path) -> Result<Vec<u8>, BtfError> {
    fs::read(path).map_err(|source| {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => BtfError::Missing { path, source },
            io::ErrorKind::PermissionDenied => BtfError::PermissionDenied { path, source },
            _ => BtfError::Read { path, source },
        }
    })
}

impl Btf {
    /// Reads the running kernel's BTF from [`SYS_FS_PATH`].
    ///
    /// # Errors
    ///
    /// See [`from_file`](Self::from_file).
    pub fn from_sys_fs() -> Result<Self, BtfError> {
        Self::from_file(Path::new(SYS_FS_PATH))
    }

    /// Reads raw BTF from a file, for example one saved from another kernel.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, which [`Missing`](BtfError::Missing),
    /// [`PermissionDenied`](BtfError::PermissionDenied) and [`Read`](BtfError::Read) distinguish,
    /// and as [`parse`](Self::parse).
    pub fn from_file(path: &Path) -> Result<Self, BtfError> {
        Self::parse(read(path)?)
    }

    /// Reads the running kernel's BTF together with that of a module of it.
    ///
    /// # Errors
    ///
    /// See [`from_file`](Self::from_file); [`Missing`](BtfError::Missing) also where the module is
    /// not loaded, or built into the kernel.
    pub fn from_sys_fs_with_module(module: &str) -> Result<Self, BtfError> {
        let path = Path::new(SYS_FS_PATH);
        let module = read(&path.with_file_name(module))?;
        Self::with_module(&read(path)?, &module)
    }

    /// Parses a kernel's BTF together with that of a module, whose types and names go on where the
    /// kernel's end.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse), and where the two are of different endianness.
    pub fn with_module(kernel: &[u8], module: &[u8]) -> Result<Self, BtfError> {
        Self::parse(module::join(kernel, module)?)
    }

    /// Parses raw BTF of either endianness.
    ///
    /// Kinds of types that came after this reader (it knows all up to `BTF_KIND_ENUM64`, 19) are
    /// stepped over if the data has a layout section, as kernels from 7.1 on can have.
    ///
    /// # Errors
    ///
    /// When the data is not BTF, is truncated, or has a type of an unknown kind without a layout.
    pub fn parse(data: Vec<u8>) -> Result<Self, BtfError> {
        let mut composites = Names::default();
        let mut enums = Names::default();
        let mut typedefs = Names::default();
        let mut functions = Names::default();
        let raw = Raw::parse(data, |ty| {
            let names = match ty.kind {
                Kind::Struct | Kind::Union => &mut composites,
                Kind::Enum | Kind::Enum64 => &mut enums,
                Kind::Typedef => &mut typedefs,
                Kind::Func => &mut functions,
                _ => return,
            };
            if ty.name != 0 {
                names.0.push(Named {
                    name: ty.name,
                    id: ty.id,
                });
            }
        })?;
        Ok(Self {
            raw,
            composites,
            enums,
            typedefs,
            functions,
        })
    }

    /// Where a member of a struct or union lies.
    ///
    /// `path` may lead on into members, separated by dots: `("sock", "sk_backlog.rmem_alloc")`.
    /// Members of structs and unions that have no name themselves are found without further ado,
    /// and typedefs and qualifiers are seen through. Where several types have the name, the first
    /// that has the member answers.
    ///
    /// # Errors
    ///
    /// [`NoSuchStruct`](BtfError::NoSuchStruct), [`NoSuchMember`](BtfError::NoSuchMember),
    /// [`NotAStruct`](BtfError::NotAStruct) where the path leads through a pointer, an array or a
    /// number, [`Bitfield`](BtfError::Bitfield), or that the BTF is damaged.
    pub fn member(&self, struct_name: &str, path: &str) -> Result<Member, BtfError> {
        let mut steps = Steps::new();
        let mut absent = None;
        for ty in self.named(&self.composites, struct_name) {
            match member::find(&self.raw, ty?, struct_name, path, &mut steps) {
                Err(e @ (BtfError::NoSuchMember { .. } | BtfError::NotAStruct { .. })) => {
                    absent.get_or_insert(e);
                }
                answer => return answer,
            }
        }
        Err(absent.unwrap_or_else(|| BtfError::NoSuchStruct {
            name: struct_name.into(),
        }))
    }

    /// Size of a struct or union in bytes. Where several have the name, that of the first.
    ///
    /// # Errors
    ///
    /// [`NoSuchStruct`](BtfError::NoSuchStruct), or that the BTF is damaged.
    pub fn size(&self, struct_name: &str) -> Result<u32, BtfError> {
        match self.named(&self.composites, struct_name).next() {
            Some(ty) => Ok(ty?.size_or_type),
            None => Err(BtfError::NoSuchStruct {
                name: struct_name.into(),
            }),
        }
    }

    /// Name and value of each variant of an enum, in the order of their declaration.
    ///
    /// A negative value is extended to 64 bits, as `as u64` would, where BTF says that the enum is
    /// signed; it does since Linux 6.0. Before that -1 reads as `0xffff_ffff`.
    ///
    /// Where several enums have the name, the first that has variants answers.
    ///
    /// # Errors
    ///
    /// [`NoSuchEnum`](BtfError::NoSuchEnum), or that the BTF is damaged.
    pub fn enum_variants(&self, enum_name: &str) -> Result<Vec<(&str, u64)>, BtfError> {
        for ty in self.named(&self.enums, enum_name) {
            let ty = ty?;
            if ty.items > 0 {
                let variants = self.variants(ty);
                return variants
                    .map(|(name, value)| Ok((self.raw.name(name, ty.id)?, value)))
                    .collect();
            }
        }
        Err(BtfError::NoSuchEnum {
            name: enum_name.into(),
        })
    }

    /// The value of one variant of an enum, as in [`enum_variants`](Self::enum_variants).
    ///
    /// Where several enums have the name, the first that has the variant answers.
    ///
    /// # Errors
    ///
    /// [`NoSuchEnum`](BtfError::NoSuchEnum), [`NoSuchVariant`](BtfError::NoSuchVariant), or that
    /// the BTF is damaged.
    pub fn enum_value(&self, enum_name: &str, variant: &str) -> Result<u64, BtfError> {
        let mut exists = false;
        for ty in self.named(&self.enums, enum_name) {
            exists = true;
            let mut variants = self.variants(ty?);
            if let Some((_, value)) = variants.find(|v| self.raw.name_is(v.0, variant.as_bytes())) {
                return Ok(value);
            }
        }
        Err(if exists {
            BtfError::NoSuchVariant {
                enum_name: enum_name.into(),
                variant: variant.into(),
            }
        } else {
            BtfError::NoSuchEnum {
                name: enum_name.into(),
            }
        })
    }

    /// The arguments a tracepoint hands to a program of type `tp_btf`, in order, without the
    /// leading `void *__data` that programs never see.
    ///
    /// They come from `typedef void (*btf_trace_<name>)(..)`, which every tracepoint has and whose
    /// parameters have no names. Names are taken from the function `__bpf_trace_<name>` where one
    /// exists with the same types. It does for `kfree_skb`: skb, location, reason, `rx_sk` on 6.18.
    /// It does not for tracepoints that share a class under another name, which are many:
    /// `net_dev_queue` (class `net_dev_template`) and `softirq_entry` (class `softirq`), for
    /// example. So decide by types, with names at most to distinguish two of one type.
    ///
    /// # Errors
    ///
    /// [`NoSuchTracepoint`](BtfError::NoSuchTracepoint), or that the BTF is damaged.
    pub fn tracepoint_args(&self, name: &str) -> Result<Vec<Arg<'_>>, BtfError> {
        let mut steps = Steps::new();
        for typedef in self.named(&self.typedefs, &format!("btf_trace_{name}")) {
            let Some(prototype) = tracepoint::prototype(&self.raw, typedef?, &mut steps)? else {
                continue;
            };
            let named = match self
                .named(&self.functions, &format!("__bpf_trace_{name}"))
                .next()
            {
                Some(function) => Some(self.raw.type_by_id(function?.size_or_type)?),
                None => None,
            };
            let named = named.filter(|ty| ty.kind == Kind::FuncProto);
            return tracepoint::args(&self.raw, prototype, named, &mut steps);
        }
        Err(BtfError::NoSuchTracepoint { name: name.into() })
    }

    /// The arguments of a function that BTF describes, which one needs for fentry and fexit
    /// programs. The kernel may still refuse to attach them.
    ///
    /// # Errors
    ///
    /// [`NoSuchFunction`](BtfError::NoSuchFunction), or that the BTF is damaged.
    pub fn function_args(&self, name: &str) -> Result<Vec<Arg<'_>>, BtfError> {
        let mut steps = Steps::new();
        for function in self.named(&self.functions, name) {
            let prototype = self.raw.type_by_id(function?.size_or_type)?;
            if prototype.kind == Kind::FuncProto {
                return tracepoint::function_args(&self.raw, prototype, &mut steps);
            }
        }
        Err(BtfError::NoSuchFunction { name: name.into() })
    }

    /// BTF with nothing but the typedefs and functions of these names, which have the ids that they
    /// have here; names that do not exist are omitted. To be parsed by who wants ids alone, in a
    /// small part of the time.
    pub(crate) fn excerpt(&self, names: &[String]) -> Vec<u8> {
        let first = |of: &Names, name: &str| {
            let same = |named: &&Named| self.raw.name_is(named.name, name.as_bytes());
            of.0.iter().find(same).map(|named| named.id)
        };
        let mut kept = Vec::new();
        for name in names {
            for (of, kind) in [(&self.typedefs, TYPEDEF), (&self.functions, FUNC)] {
                if let Some(id) = first(of, name) {
                    kept.push(Kept { id, kind, name });
                }
            }
        }
        excerpt::write(kept)
    }

    /// The types of this name among `names`, in the order of their ids.
    fn named<'a>(
        &'a self,
        names: &'a Names,
        name: &str,
    ) -> impl Iterator<Item = Result<Type<'a>, BtfError>> {
        let same = move |named: &&Named| self.raw.name_is(named.name, name.as_bytes());
        names
            .0
            .iter()
            .filter(same)
            .map(|named| self.raw.type_by_id(named.id))
    }

    /// The offset of the name, and the value, of each variant.
    fn variants<'a>(&'a self, ty: Type<'a>) -> impl Iterator<Item = (u32, u64)> + 'a {
        let is_wide = ty.kind == Kind::Enum64;
        ty.rest
            .chunks_exact(if is_wide { 12 } else { 8 })
            .map(move |variant| {
                let word = |offset| self.raw.u32_at(variant, offset);
                let value = match (is_wide, ty.flag) {
                    (true, _) => (u64::from(word(8)) << 32) | u64::from(word(4)),
                    (false, true) => i64::from(word(4).cast_signed()).cast_unsigned(),
                    (false, false) => u64::from(word(4)),
                };
                (word(0), value)
            })
    }
}

impl fmt::Debug for Btf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            raw: _,
            composites,
            enums,
            typedefs,
            functions,
        } = self;
        f.debug_struct("Btf")
            .field("composites", &composites.0.len())
            .field("enums", &enums.0.len())
            .field("typedefs", &typedefs.0.len())
            .field("functions", &functions.0.len())
            .finish_non_exhaustive()
    }
}
