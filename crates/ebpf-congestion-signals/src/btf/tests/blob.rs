//! Builder of small BTF.

use super::Btf;

pub(super) const INT: u32 = 1;
pub(super) const PTR: u32 = 2;
pub(super) const ARRAY: u32 = 3;
pub(super) const STRUCT: u32 = 4;
pub(super) const UNION: u32 = 5;
pub(super) const ENUM: u32 = 6;
pub(super) const FWD: u32 = 7;
pub(super) const TYPEDEF: u32 = 8;
pub(super) const VOLATILE: u32 = 9;
pub(super) const CONST: u32 = 10;
pub(super) const FUNC: u32 = 12;
pub(super) const FUNC_PROTO: u32 = 13;
pub(super) const DATASEC: u32 = 15;
pub(super) const TYPE_TAG: u32 = 18;
pub(super) const ENUM64: u32 = 19;

/// Builds BTF type by type; the first is type 1.
pub(super) struct Blob {
    pub(super) big_endian: bool,
    pub(super) types: Vec<u8>,
    pub(super) strings: Vec<u8>,
    pub(super) layout: Option<Vec<u8>>,
    pub(super) count: u32,
}

impl Blob {
    pub(super) fn new() -> Self {
        Self {
            big_endian: false,
            types: vec![],
            strings: vec![0],
            layout: None,
            count: 0,
        }
    }

    pub(super) fn big_endian() -> Self {
        Self {
            big_endian: true,
            ..Self::new()
        }
    }

    pub(super) fn bytes(&self, number: u32) -> [u8; 4] {
        if self.big_endian {
            number.to_be_bytes()
        } else {
            number.to_le_bytes()
        }
    }

    pub(super) fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let offset = u32::try_from(self.strings.len()).unwrap();
        self.strings.extend_from_slice(name.as_bytes());
        self.strings.push(0);
        offset
    }

    /// Adds a record; `kind` may carry the flag in its uppermost bit.
    pub(super) fn add(
        &mut self,
        kind: u32,
        name: &str,
        items: u32,
        size_or_type: u32,
        rest: &[u32],
    ) -> u32 {
        let name = self.name(name);
        let flag = kind & 0x8000_0000;
        for number in [name, flag | ((kind & 0x7f) << 24) | items, size_or_type] {
            self.types.extend(self.bytes(number));
        }
        for &number in rest {
            self.types.extend(self.bytes(number));
        }
        self.count += 1;
        self.count
    }

    pub(super) fn int(&mut self, name: &str, size: u32) -> u32 {
        self.add(INT, name, 0, size, &[8 * size])
    }

    pub(super) fn alias(&mut self, kind: u32, name: &str, to: u32) -> u32 {
        self.add(kind, name, 0, to, &[])
    }

    /// Members are name, type, and where they lie (in bits).
    pub(super) fn composite(
        &mut self,
        kind: u32,
        name: &str,
        size: u32,
        members: &[(&str, u32, u32)],
    ) -> u32 {
        let rest: Vec<u32> = members
            .iter()
            .flat_map(|m| [self.name(m.0), m.1, m.2])
            .collect();
        self.add(
            kind,
            name,
            u32::try_from(members.len()).unwrap(),
            size,
            &rest,
        )
    }

    pub(super) fn prototype(&mut self, parameters: &[(&str, u32)]) -> u32 {
        let rest: Vec<u32> = parameters
            .iter()
            .flat_map(|p| [self.name(p.0), p.1])
            .collect();
        self.add(
            FUNC_PROTO,
            "",
            u32::try_from(parameters.len()).unwrap(),
            0,
            &rest,
        )
    }

    pub(super) fn build(&self) -> Vec<u8> {
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
        let (types, strings) = (len(&self.types), len(&self.strings));
        let layout = self.layout.as_deref().unwrap_or_default();
        let mut header = vec![
            if self.layout.is_some() { 32 } else { 24 },
            0,
            types,
            types,
            strings,
        ];
        if self.layout.is_some() {
            header.extend([types + strings, len(layout)]);
        }
        let mut data = if self.big_endian {
            vec![0xeb, 0x9f, 1, 0]
        } else {
            vec![0x9f, 0xeb, 1, 0]
        };
        data.extend(header.iter().flat_map(|&number| self.bytes(number)));
        data.extend([&self.types, &self.strings, layout].concat());
        data
    }

    pub(super) fn parse(&self) -> Btf {
        Btf::parse(self.build()).unwrap()
    }
}

/// A bit of everything.
pub(super) fn sample(mut blob: Blob) -> Blob {
    let int = blob.int("int", 4);
    let byte = blob.int("unsigned char", 1);
    let void_ptr = blob.alias(PTR, "", 0);
    let constant = blob.alias(CONST, "", int);
    let volatile = blob.alias(VOLATILE, "", constant);
    let typedef = blob.alias(TYPEDEF, "atomic_like_t", volatile);

    let low = blob.composite(STRUCT, "", 8, &[("first", int, 0), ("second", typedef, 32)]);
    let either = blob.composite(UNION, "", 8, &[("whole", void_ptr, 0), ("", low, 0)]);
    let row = blob.add(ARRAY, "", 0, 0, &[typedef, int, 3]);
    let table = blob.add(ARRAY, "", 0, 0, &[row, int, 2]);
    let flexible = blob.add(ARRAY, "", 0, 0, &[byte, int, 0]);
    let inner = blob.composite(STRUCT, "inner", 16, &[("tag", int, 0), ("", either, 64)]);
    let inner_t = blob.alias(TYPEDEF, "inner_t", inner);
    let members = [
        ("id", int, 0),
        ("", either, 64),
        ("nested", inner_t, 128),
        ("table", table, 256),
        ("tail", flexible, 448),
    ];
    let outer = blob.composite(STRUCT, "outer", 56, &members);
    let flag = 0x8000_0000;
    let bits = [
        ("plain", int, 0),
        ("narrow", int, (3 << 24) | 32),
        ("after", int, 64),
    ];
    blob.composite(STRUCT | flag, "flagged", 12, &bits);
    let five_bits = blob.add(INT, "int", 0, 4, &[5]);
    blob.composite(
        STRUCT,
        "old_style",
        8,
        &[("narrow", five_bits, 0), ("odd", int, 33)],
    );
    blob.composite(STRUCT, "twice", 4, &[("here", int, 0)]);
    blob.composite(UNION, "twice", 16, &[("pad", inner, 0), ("there", byte, 0)]);

    let red = blob.name("RED");
    let blue = blob.name("BLUE");
    let minus_one = u32::MAX;
    blob.add(ENUM, "colour", 0, 4, &[]);
    let colour = blob.add(ENUM, "colour", 2, 4, &[red, 7, blue, 1 << 16]);
    blob.add(ENUM | flag, "signed", 1, 4, &[red, minus_one]);
    blob.add(
        ENUM64,
        "wide",
        2,
        8,
        &[red, 1, 2, blue, minus_one, minus_one],
    );

    let outer_ptr = blob.alias(PTR, "", outer);
    let const_outer = blob.alias(CONST, "", outer);
    let tagged = blob.alias(TYPE_TAG, "rcu", const_outer);
    let tagged_ptr = blob.alias(PTR, "", tagged);
    let ptr_ptr = blob.alias(PTR, "", outer_ptr);
    let bare = blob.prototype(&[
        ("", void_ptr),
        ("", tagged_ptr),
        ("", colour),
        ("", ptr_ptr),
        ("", typedef),
        ("", void_ptr),
    ]);
    let bare_ptr = blob.alias(PTR, "", bare);
    blob.alias(TYPEDEF, "btf_trace_unnamed", bare_ptr);
    blob.alias(TYPEDEF, "btf_trace_named", bare_ptr);
    blob.alias(TYPEDEF, "btf_trace_mismatched", bare_ptr);
    let named = blob.prototype(&[
        ("__data", void_ptr),
        ("outer", tagged_ptr),
        ("colour", colour),
        ("list", ptr_ptr),
        ("count", typedef),
        ("location", void_ptr),
    ]);
    blob.alias(FUNC, "__bpf_trace_named", named);
    let other = blob.prototype(&[("__data", void_ptr), ("other", int)]);
    blob.alias(FUNC, "__bpf_trace_mismatched", other);
    let odd = blob.prototype(&[("", int)]);
    let odd_ptr = blob.alias(PTR, "", odd);
    blob.alias(TYPEDEF, "btf_trace_without_data", odd_ptr);
    blob.alias(TYPEDEF, "btf_trace_number", int);
    blob.alias(FWD, "forward", 0);
    blob.add(DATASEC, ".data", 1, 4, &[int, 0, 4]);
    blob
}
