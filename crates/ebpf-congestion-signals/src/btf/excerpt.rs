//! Writes BTF with few types, which keep the ids that they have in a larger one.

/// `BTF_KIND_FWD`: used in place of all other types.
const FWD: u32 = 7;
/// `BTF_KIND_TYPEDEF`.
pub(super) const TYPEDEF: u32 = 8;
/// `BTF_KIND_FUNC`.
pub(super) const FUNC: u32 = 12;

const MAGIC: u16 = 0xeb9f;
const VERSION: u8 = 1;
const HEADER_BYTES: u32 = 24;
/// Of each kind that is written: name, kind, and what it is a name for, which is left void.
const TYPE_BYTES: u32 = 12;

/// A type that is kept.
pub(super) struct Kept<'a> {
    pub(super) id: u32,
    pub(super) kind: u32,
    pub(super) name: &'a str,
}

/// BTF in this machine's endianness.
pub(super) fn write(mut kept: Vec<Kept<'_>>) -> Vec<u8> {
    kept.sort_by_key(|ty| ty.id);
    kept.dedup_by_key(|ty| ty.id);
    // Id 0 is void, and is not written.
    let types = kept.last().map_or(0, |last| last.id);
    let mut strings = vec![0u8];
    let mut data = Vec::with_capacity((HEADER_BYTES + (types + 1) * TYPE_BYTES) as usize);
    let names: u32 = kept.iter().map(|ty| length(ty.name) + 1).sum();
    data.extend(MAGIC.to_ne_bytes());
    data.extend([VERSION, 0]);
    let type_bytes = types * TYPE_BYTES;
    for word in [HEADER_BYTES, 0, type_bytes, type_bytes, names + 1] {
        data.extend(word.to_ne_bytes());
    }
    let mut kept = kept.into_iter().peekable();
    for id in 1..=types {
        let (name, kind) = match kept.next_if(|ty| ty.id == id) {
            Some(ty) => {
                let at = u32::try_from(strings.len()).unwrap_or(0);
                strings.extend(ty.name.bytes());
                strings.push(0);
                (at, ty.kind)
            }
            None => (0, FWD),
        };
        for word in [name, kind << 24, 0] {
            data.extend(word.to_ne_bytes());
        }
    }
    data.extend(strings);
    data
}

fn length(name: &str) -> u32 {
    u32::try_from(name.len()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::btf::Btf;

    #[test]
    fn what_is_kept_has_its_id_and_nothing_else_has_a_name() {
        let [typedef, function] = [(70, TYPEDEF, "btf_trace_x"), (3, FUNC, "x")]
            .map(|(id, kind, name)| Kept { id, kind, name });
        let data = write(vec![typedef, function]);
        let ours = Btf::parse(data.clone()).unwrap();
        assert_eq!(ours.typedefs.0.len() + ours.functions.0.len(), 2);
        let again = ours.excerpt(&["btf_trace_x".into(), "x".into(), "y".into()]);
        assert_eq!(again, data);
        assert!(aya::Btf::parse(&data, aya::Endianness::default()).is_ok());
    }

    #[test]
    fn of_nothing_there_is_an_empty_one() {
        let ours = Btf::parse(write(Vec::new())).unwrap();
        assert!(ours.typedefs.0.is_empty());
    }
}
