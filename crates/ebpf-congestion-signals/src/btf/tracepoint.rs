//! What arguments a tracepoint hands to a program, or a function takes.

use super::error::BtfError;
use super::member::without_aliases;
use super::raw::{Kind, Raw, Steps, Type, damaged};

/// An argument of a tracepoint or a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arg<'a> {
    /// Its name, or empty where BTF has none; [`Btf::tracepoint_args`](super::Btf::tracepoint_args)
    /// says when.
    pub name: &'a str,
    /// Name of its type, or of the type it points to, as the prototype spells it but without
    /// `struct`, `const` and the like: `sk_buff`, `skb_drop_reason`, `int`, `void`, `gfp_t`. Empty
    /// for a type without a name, a function for example.
    pub type_name: &'a str,
    /// How many `*` are between the argument and that type: 0 for a plain value.
    pub pointers: u32,
}

impl Arg<'_> {
    /// Whether it is a pointer, of any type.
    #[must_use]
    pub fn is_pointer(&self) -> bool {
        self.pointers > 0
    }

    /// Whether it points straight to the type of this name.
    #[must_use]
    pub fn points_to(&self, type_name: &str) -> bool {
        self.pointers == 1 && self.type_name == type_name
    }

    /// Whether it is a plain value of the type of this name.
    #[must_use]
    pub fn is_value(&self, type_name: &str) -> bool {
        self.pointers == 0 && self.type_name == type_name
    }
}

/// The prototype behind `typedef void (*btf_trace_<name>)(void *__data, ..)`, if this is one.
pub(super) fn prototype<'a>(
    raw: &'a Raw,
    typedef: Type<'a>,
    steps: &mut Steps,
) -> Result<Option<Type<'a>>, BtfError> {
    let pointer = without_aliases(raw, typedef.size_or_type, steps)?;
    if pointer.kind != Kind::Ptr {
        return Ok(None);
    }
    let prototype = without_aliases(raw, pointer.size_or_type, steps)?;
    Ok((prototype.kind == Kind::FuncProto).then_some(prototype))
}

/// The arguments of a tracepoint's prototype; `named` has their names, if it fits.
pub(super) fn args<'a>(
    raw: &'a Raw,
    prototype: Type<'a>,
    named: Option<Type<'a>>,
    steps: &mut Steps,
) -> Result<Vec<Arg<'a>>, BtfError> {
    let types = parameters(raw, prototype);
    let names = named
        .map(|named| parameters(raw, named))
        .filter(|named| {
            named
                .clone()
                .map(|(_, ty)| ty)
                .eq(types.clone().map(|(_, ty)| ty))
        })
        .unwrap_or_else(|| types.clone());

    let mut args = named_args(raw, prototype, names, steps)?;
    if args.first().is_none_or(|data| !data.points_to("void")) {
        return Err(damaged(
            prototype.id,
            "a tracepoint's prototype does not begin with void *",
        ));
    }
    args.remove(0);
    Ok(args)
}

/// The arguments of a function's prototype.
pub(super) fn function_args<'a>(
    raw: &'a Raw,
    prototype: Type<'a>,
    steps: &mut Steps,
) -> Result<Vec<Arg<'a>>, BtfError> {
    named_args(raw, prototype, parameters(raw, prototype), steps)
}

fn named_args<'a>(
    raw: &'a Raw,
    prototype: Type<'a>,
    names: impl Iterator<Item = (u32, u32)>,
    steps: &mut Steps,
) -> Result<Vec<Arg<'a>>, BtfError> {
    let types = parameters(raw, prototype);
    let mut args = Vec::with_capacity(types.len());
    for ((_, type_id), (name, _)) in types.zip(names) {
        let (ty, pointers) = without_pointers(raw, type_id, steps)?;
        let type_name = if ty.kind == Kind::Void {
            "void"
        } else {
            raw.name(ty.name, ty.id)?
        };
        args.push(Arg {
            name: raw.name(name, prototype.id)?,
            type_name,
            pointers,
        });
    }
    Ok(args)
}

/// Name and type of each parameter.
fn parameters<'a>(
    raw: &'a Raw,
    prototype: Type<'a>,
) -> impl ExactSizeIterator<Item = (u32, u32)> + Clone + 'a {
    let parameters = prototype.rest.chunks_exact(8);
    parameters.map(|parameter| (raw.u32_at(parameter, 0), raw.u32_at(parameter, 4)))
}

/// The type behind pointers and qualifiers, and how many pointers there were.
fn without_pointers<'a>(
    raw: &'a Raw,
    type_id: u32,
    steps: &mut Steps,
) -> Result<(Type<'a>, u32), BtfError> {
    let mut ty = raw.type_by_id(type_id)?;
    let mut pointers = 0;
    while ty.kind == Kind::Ptr || ty.kind.is_qualifier() {
        steps.take(ty.id)?;
        pointers += u32::from(ty.kind == Kind::Ptr);
        ty = raw.type_by_id(ty.size_or_type)?;
    }
    Ok((ty, pointers))
}
