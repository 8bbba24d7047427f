//! Where a member lies in its struct.

use super::error::BtfError;
use super::raw::{Kind, Raw, Steps, Type, damaged};

/// Size of every pointer. BTF does not have it; the kernels supported are 64-bit ones.
const POINTER_SIZE: u32 = 8;

/// Where a member of a struct or union lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Bytes from the start of the outermost struct.
    pub offset: u32,
    /// Bytes it occupies: 8 for a pointer, that of all elements for an array (0 for a flexible
    /// one).
    pub size: u32,
}

/// A member as its struct lists it.
struct Field {
    type_id: u32,
    bit_offset: u64,
    is_bitfield: bool,
}

/// Looks for `path` in `outermost`; errors name it `struct_name`.
pub(super) fn find(
    raw: &Raw,
    outermost: Type<'_>,
    struct_name: &str,
    path: &str,
    steps: &mut Steps,
) -> Result<Member, BtfError> {
    let mut container = outermost;
    let mut bit_offset = 0_u64;
    let mut is_bitfield = false;
    for segment in path.split('.') {
        if !container.kind.is_composite() {
            return Err(BtfError::NotAStruct {
                struct_name: struct_name.into(),
                path: path.into(),
                segment: segment.into(),
            });
        }
        let Some(field) = field_of(raw, container, segment, steps)? else {
            return Err(BtfError::NoSuchMember {
                struct_name: struct_name.into(),
                path: path.into(),
                segment: segment.into(),
            });
        };
        // Cannot overflow: at most 2^18 steps, each of which adds less than 2^32.
        bit_offset += field.bit_offset;
        is_bitfield = field.is_bitfield;
        container = without_aliases(raw, field.type_id, steps)?;
    }
    let member = container;
    if is_bitfield || !bit_offset.is_multiple_of(8) || is_narrow_int(raw, member) {
        return Err(BtfError::Bitfield {
            struct_name: struct_name.into(),
            path: path.into(),
            bit_offset,
        });
    }
    let offset = u32::try_from(bit_offset / 8)
        .map_err(|_| damaged(outermost.id, "a member lies beyond 4 GiB"))?;
    Ok(Member {
        offset,
        size: size_of(raw, member, steps)?,
    })
}

/// The member called `name` of a struct or union or of what is nested in it without a name.
fn field_of(
    raw: &Raw,
    composite: Type<'_>,
    name: &str,
    steps: &mut Steps,
) -> Result<Option<Field>, BtfError> {
    let mut unnamed = vec![(composite, 0_u64)];
    while let Some((composite, base)) = unnamed.pop() {
        for member in composite.rest.chunks_exact(12) {
            steps.take(composite.id)?;
            let type_id = raw.u32_at(member, 4);
            let position = raw.u32_at(member, 8);
            // With the flag, the upper 8 bits are the width of a bitfield, or 0.
            let (bits, width) = if composite.flag {
                (position & 0x00ff_ffff, position >> 24)
            } else {
                (position, 0)
            };
            let bit_offset = base + u64::from(bits);
            let member_name = raw.u32_at(member, 0);
            if member_name == 0 {
                let nested = without_aliases(raw, type_id, steps)?;
                if nested.kind.is_composite() {
                    unnamed.push((nested, bit_offset));
                }
            } else if raw.name_is(member_name, name.as_bytes()) {
                return Ok(Some(Field {
                    type_id,
                    bit_offset,
                    is_bitfield: width != 0,
                }));
            }
        }
    }
    Ok(None)
}

/// Whether this integer type has fewer bits than its bytes hold. That is how bitfields were
/// written down before structs had a flag for it.
fn is_narrow_int(raw: &Raw, ty: Type<'_>) -> bool {
    let encoding = raw.u32_at(ty.rest, 0);
    let (shift, bits) = ((encoding >> 16) & 0xff, encoding & 0xff);
    ty.kind == Kind::Int && (shift != 0 || u64::from(bits) != 8 * u64::from(ty.size_or_type))
}

/// The type behind typedefs and qualifiers.
pub(super) fn without_aliases<'a>(
    raw: &'a Raw,
    type_id: u32,
    steps: &mut Steps,
) -> Result<Type<'a>, BtfError> {
    let mut ty = raw.type_by_id(type_id)?;
    while ty.kind.is_alias() {
        steps.take(ty.id)?;
        ty = raw.type_by_id(ty.size_or_type)?;
    }
    Ok(ty)
}

/// Size in bytes of a type that is no alias.
fn size_of(raw: &Raw, ty: Type<'_>, steps: &mut Steps) -> Result<u32, BtfError> {
    let mut element = ty;
    let mut count = 1_u32;
    while element.kind == Kind::Array {
        steps.take(element.id)?;
        count = count
            .checked_mul(raw.u32_at(element.rest, 8))
            .ok_or_else(|| damaged(ty.id, "an array in it is larger than 4 GiB"))?;
        element = without_aliases(raw, raw.u32_at(element.rest, 0), steps)?;
    }
    let size = match element.kind {
        Kind::Int | Kind::Struct | Kind::Union | Kind::Enum | Kind::Enum64 | Kind::Float => {
            element.size_or_type
        }
        Kind::Ptr => POINTER_SIZE,
        Kind::Newer(kind) => {
            return Err(BtfError::UnknownKind {
                kind,
                type_id: element.id,
            });
        }
        Kind::Void
        | Kind::Array
        | Kind::Fwd
        | Kind::Typedef
        | Kind::Volatile
        | Kind::Const
        | Kind::Restrict
        | Kind::TypeTag
        | Kind::Func
        | Kind::FuncProto
        | Kind::Var
        | Kind::Datasec
        | Kind::DeclTag => {
            return Err(damaged(element.id, "it is a member's type but has no size"));
        }
    };
    count
        .checked_mul(size)
        .ok_or_else(|| damaged(ty.id, "it is larger than 4 GiB"))
}
