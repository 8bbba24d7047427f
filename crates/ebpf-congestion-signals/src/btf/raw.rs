//! The bytes of BTF: header, sections, type records, names. Every access is checked.

use std::ffi::CStr;
use std::ops::Range;

use super::error::BtfError;

/// Longest name that is read out as text, in bytes; the kernel's own limit for a symbol
/// (`KSYM_NAME_LEN`). It keeps damaged data from making one long string out of every name.
const NAME_LIMIT: usize = 512;

/// Header up to and with the string section; all of it before Linux 7.1.
const HEADER_LEN: usize = 24;
/// Header with the layout section, which has the length of each kind's records.
const HEADER_LEN_WITH_LAYOUT: usize = 32;
/// `struct btf_type`, with which every record begins.
pub(super) const RECORD_LEN: usize = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Type 0, which has no record.
    Void,
    Int,
    Ptr,
    Array,
    Struct,
    Union,
    Enum,
    Fwd,
    Typedef,
    Volatile,
    Const,
    Restrict,
    Func,
    FuncProto,
    Var,
    Datasec,
    Float,
    DeclTag,
    TypeTag,
    Enum64,
    /// Unknown here, but skipped by the length that the layout section gives.
    Newer(u32),
}

impl Kind {
    fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Void,
            1 => Self::Int,
            2 => Self::Ptr,
            3 => Self::Array,
            4 => Self::Struct,
            5 => Self::Union,
            6 => Self::Enum,
            7 => Self::Fwd,
            8 => Self::Typedef,
            9 => Self::Volatile,
            10 => Self::Const,
            11 => Self::Restrict,
            12 => Self::Func,
            13 => Self::FuncProto,
            14 => Self::Var,
            15 => Self::Datasec,
            16 => Self::Float,
            17 => Self::DeclTag,
            18 => Self::TypeTag,
            19 => Self::Enum64,
            newer => Self::Newer(newer),
        }
    }

    pub(super) fn is_composite(self) -> bool {
        matches!(self, Self::Struct | Self::Union)
    }

    /// Whether the type says only how another type may be used or what else it is called.
    pub(super) fn is_alias(self) -> bool {
        self == Self::Typedef || self.is_qualifier()
    }

    pub(super) fn is_qualifier(self) -> bool {
        matches!(
            self,
            Self::Volatile | Self::Const | Self::Restrict | Self::TypeTag
        )
    }
}

/// One type: its record's fixed part, and what follows it.
#[derive(Clone, Copy)]
pub(super) struct Type<'a> {
    pub(super) id: u32,
    pub(super) kind: Kind,
    /// The offset of its name in the string section; 0 for none.
    pub(super) name: u32,
    /// Its size or the type it refers to, depending on the kind.
    pub(super) size_or_type: u32,
    /// How many members, variants or parameters follow.
    pub(super) items: u32,
    /// What this means depends on the kind.
    pub(super) flag: bool,
    /// What follows the fixed part: exactly this type's, and all of it.
    pub(super) rest: &'a [u8],
}

const VOID: Type<'static> = Type {
    id: 0,
    kind: Kind::Void,
    name: 0,
    size_or_type: 0,
    items: 0,
    flag: false,
    rest: &[],
};

/// BTF's bytes, with the sections known to lie inside them.
pub(super) struct Raw {
    data: Vec<u8>,
    big_endian: bool,
    types: Range<usize>,
    strings: Range<usize>,
    layout: Range<usize>,
    /// Where each type's record begins in the type section; type 1 comes first.
    records: Vec<u32>,
}

impl Raw {
    /// Checks the header, and walks over all types once; `visit` is called for each.
    pub(super) fn parse(data: Vec<u8>, mut visit: impl FnMut(&Type<'_>)) -> Result<Self, BtfError> {
        let mut raw = Self::kernel_sections(data)?;
        let section = raw.types();
        // Records on real kernels are 25 to 30 bytes long on average.
        let mut records = Vec::with_capacity(section.len() / 24);
        let mut offset = 0;
        let mut id: u32 = 1;
        while offset < section.len() {
            let start = u32::try_from(offset).map_err(|_| damaged(id, "it lies beyond 4 GiB"))?;
            let (ty, end) = raw.record(section, id, offset)?;
            if ty.name != 0 && raw.strings().len() <= ty.name as usize {
                return Err(damaged(id, "its name lies outside the strings"));
            }
            visit(&ty);
            records.push(start);
            offset = end;
            id += 1; // Cannot overflow: a section of 4 GiB holds fewer records of 12 bytes.
        }
        raw.records = records;
        Ok(raw)
    }

    /// Checks the header of base BTF.
    pub(super) fn kernel_sections(data: Vec<u8>) -> Result<Self, BtfError> {
        let raw = Self::with_sections(data)?;
        match (raw.strings().first(), raw.strings().last()) {
            (Some(0), Some(0)) => Ok(raw),
            _ => Err(damaged(
                0,
                "its strings do not begin and end with a zero byte",
            )),
        }
    }

    /// Checks the header of a module's BTF, whose empty name is the kernel's.
    pub(super) fn module_sections(data: Vec<u8>) -> Result<Self, BtfError> {
        let raw = Self::with_sections(data)?;
        match raw.strings().last() {
            Some(0) | None => Ok(raw),
            _ => Err(damaged(0, "its strings do not end with a zero byte")),
        }
    }

    pub(super) fn is_big_endian(&self) -> bool {
        self.big_endian
    }

    /// The first word of the header.
    pub(super) fn magic_version_and_flags(&self) -> &[u8] {
        &self.data[..4]
    }

    pub(super) fn layout(&self) -> &[u8] {
        &self.data[self.layout.clone()]
    }

    fn with_sections(data: Vec<u8>) -> Result<Self, BtfError> {
        let end = data.len() as u64;
        let short = |part, offset| BtfError::Truncated { part, offset, end };
        let magic: [u8; 2] = *data.first_chunk().ok_or_else(|| short("the header", 0))?;
        let big_endian = match magic {
            [0x9f, 0xeb] => false,
            [0xeb, 0x9f] => true,
            other => {
                return Err(BtfError::NotBtf {
                    magic: u16::from_le_bytes(other),
                });
            }
        };
        if data.len() < HEADER_LEN {
            return Err(short("the header", 0));
        }
        let version = data[2];
        if version != 1 {
            return Err(BtfError::UnknownVersion { version });
        }
        let field = |offset| u32_at(&data, offset, big_endian).map_or(0, u64::from);
        let header_len = field(4);
        if header_len < HEADER_LEN as u64 {
            return Err(damaged(0, "its header is shorter than any header"));
        }
        if header_len > end {
            return Err(short("the header", 0));
        }
        let section = |part, at| {
            let start = header_len + field(at);
            let stop = start + field(at + 4);
            match (usize::try_from(start), usize::try_from(stop)) {
                (Ok(first), Ok(last)) if stop <= end => Ok(first..last),
                _ => Err(short(part, start)),
            }
        };
        let types = section("the type section", 8)?;
        let strings = section("the string section", 16)?;
        let layout = if header_len < HEADER_LEN_WITH_LAYOUT as u64 {
            0..0
        } else {
            section("the layout section", HEADER_LEN)?
        };
        Ok(Self {
            data,
            big_endian,
            types,
            strings,
            layout,
            records: Vec::new(),
        })
    }

    pub(super) fn types(&self) -> &[u8] {
        &self.data[self.types.clone()]
    }

    pub(super) fn strings(&self) -> &[u8] {
        &self.data[self.strings.clone()]
    }

    /// The record that begins at `offset` of the type section, and where the next one begins.
    #[inline]
    fn record<'a>(
        &self,
        section: &'a [u8],
        id: u32,
        offset: usize,
    ) -> Result<(Type<'a>, usize), BtfError> {
        let truncated = || BtfError::Truncated {
            part: "the record of a type",
            offset: (self.types.start + offset) as u64,
            end: self.types.end as u64,
        };
        let record = section.get(offset..).unwrap_or_default();
        let fixed: &[u8; RECORD_LEN] = record.first_chunk().ok_or_else(truncated)?;
        // Bits 0 to 23 count items and bits 24 to 30 are the kind; before Linux 7.2 the upper
        // bits of each were unused and zero.
        let info = self.u32_at(fixed, 4);
        let items = info & 0x00ff_ffff;
        let kind = Kind::from_number((info >> 24) & 0x7f);
        let rest_len = match kind {
            Kind::Ptr
            | Kind::Fwd
            | Kind::Typedef
            | Kind::Volatile
            | Kind::Const
            | Kind::Restrict
            | Kind::Func
            | Kind::Float
            | Kind::TypeTag => 0,
            Kind::Int | Kind::Var | Kind::DeclTag => 4,
            Kind::Array => 12,
            Kind::Enum | Kind::FuncProto => 8 * items as usize,
            Kind::Struct | Kind::Union | Kind::Datasec | Kind::Enum64 => 12 * items as usize,
            Kind::Void => {
                return Err(BtfError::UnknownKind {
                    kind: 0,
                    type_id: id,
                });
            }
            Kind::Newer(kind) => self
                .rest_len_by_layout(kind, items)
                .ok_or(BtfError::UnknownKind { kind, type_id: id })?,
        };
        let end = RECORD_LEN + rest_len;
        let ty = Type {
            id,
            kind,
            name: self.u32_at(fixed, 0),
            size_or_type: self.u32_at(fixed, 8),
            items,
            flag: info >> 31 == 1,
            rest: record.get(RECORD_LEN..end).ok_or_else(truncated)?,
        };
        Ok((ty, offset + end))
    }

    /// An entry of the layout section is the length of what follows the fixed part once (one
    /// byte), the length of each item (one byte), and flags (two bytes).
    fn rest_len_by_layout(&self, kind: u32, items: u32) -> Option<usize> {
        let entries = &self.data[self.layout.clone()];
        let entry: &[u8; 4] = entries.get(4 * kind as usize..)?.first_chunk()?;
        Some(usize::from(entry[0]) + usize::from(entry[1]) * items as usize)
    }

    /// The type with this id; 0 is `void`.
    #[inline]
    pub(super) fn type_by_id(&self, id: u32) -> Result<Type<'_>, BtfError> {
        let Some(index) = (id as usize).checked_sub(1) else {
            return Ok(VOID);
        };
        let Some(&offset) = self.records.get(index) else {
            return Err(damaged(id, "which is referred to but does not exist"));
        };
        Ok(self.record(self.types(), id, offset as usize)?.0)
    }

    /// A number of a record; 0 if `bytes` end before it, which callers rule out.
    #[inline]
    pub(super) fn u32_at(&self, bytes: &[u8], offset: usize) -> u32 {
        u32_at(bytes, offset, self.big_endian).unwrap_or_default()
    }

    /// Whether this is the name at `offset` of the string section. False for names with a zero
    /// byte in them.
    #[inline]
    pub(super) fn name_is(&self, offset: u32, name: &[u8]) -> bool {
        let tail = self.strings().get(offset as usize..).unwrap_or_default();
        let matches = tail.get(name.len()) == Some(&0) && tail.starts_with(name);
        matches && !name.contains(&0)
    }

    /// The name at `offset` of the string section, as text; an error names `type_id`.
    pub(super) fn name(&self, offset: u32, type_id: u32) -> Result<&str, BtfError> {
        let tail = self.strings().get(offset as usize..).unwrap_or_default();
        let near = &tail[..tail.len().min(NAME_LIMIT)];
        let name = CStr::from_bytes_until_nul(near).map_err(|_| {
            damaged(
                type_id,
                "a name in it is too long or lies outside the strings",
            )
        })?;
        name.to_str()
            .map_err(|_| damaged(type_id, "a name in it is not UTF-8"))
    }
}

#[inline]
fn u32_at(bytes: &[u8], offset: usize, big_endian: bool) -> Option<u32> {
    let number: [u8; 4] = *bytes.get(offset..)?.first_chunk()?;
    Some(if big_endian {
        u32::from_be_bytes(number)
    } else {
        u32::from_le_bytes(number)
    })
}

pub(super) fn damaged(type_id: u32, problem: &'static str) -> BtfError {
    BtfError::Malformed { type_id, problem }
}

/// What one look-up may still do. Sound BTF needs some hundreds of steps; damaged or hostile BTF,
/// with types that refer back to themselves, would never come to an end.
pub(super) struct Steps(u32);

impl Steps {
    pub(super) fn new() -> Self {
        Self(1 << 18)
    }

    #[inline]
    pub(super) fn take(&mut self, type_id: u32) -> Result<(), BtfError> {
        self.0 = self.0.checked_sub(1).ok_or(BtfError::Cyclic { type_id })?;
        Ok(())
    }
}
