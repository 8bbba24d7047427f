use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

mod blob;
mod kernel;
mod module;

use super::{Arg, Btf, BtfError, Member, SYS_FS_PATH};

use blob::{ARRAY, Blob, FUNC, PTR, STRUCT, TYPEDEF, sample};

/// Asks everything, and returns how much of it succeeded.
fn ask_everything(btf: &Btf) -> usize {
    let paths = [
        "second",
        "nested.second",
        "table",
        "tail",
        "narrow",
        "there",
    ];
    let structs = ["outer", "flagged", "old_style", "twice"];
    let enums = ["colour", "signed", "wide", "absent"];
    let tracepoints = [
        "unnamed",
        "named",
        "mismatched",
        "without_data",
        "number",
        "absent",
    ];
    let members = structs
        .iter()
        .flat_map(|s| paths.iter().map(|p| btf.member(s, p).is_ok()));
    let variants = enums.iter().map(|e| btf.enum_variants(e).is_ok());
    let values = enums.iter().map(|e| btf.enum_value(e, "BLUE").is_ok());
    let args = tracepoints.iter().map(|t| btf.tracepoint_args(t).is_ok());
    let funcs = ["__bpf_trace_named", "absent"]
        .iter()
        .map(|f| btf.function_args(f).is_ok());
    members
        .chain(variants)
        .chain(values)
        .chain(args)
        .chain(funcs)
        .filter(|found| *found)
        .count()
}

fn at(offset: u32, size: u32) -> Member {
    Member { offset, size }
}

#[test]
fn members_are_found_through_anonymous_and_named_nesting() {
    for blob in [Blob::new(), Blob::big_endian()] {
        let btf = sample(blob).parse();
        let outer = |path| btf.member("outer", path).unwrap();
        assert_eq!(outer("id"), at(0, 4));
        assert_eq!(outer("whole"), at(8, 8));
        assert_eq!(outer("first"), at(8, 4));
        assert_eq!(
            outer("second"),
            at(12, 4),
            "through typedef, volatile and const"
        );
        assert_eq!(outer("nested"), at(16, 16));
        assert_eq!(outer("nested.tag"), at(16, 4));
        assert_eq!(
            outer("nested.second"),
            at(28, 4),
            "named, then twice anonymous"
        );
        assert_eq!(
            outer("table"),
            at(32, 24),
            "an array of arrays counts all elements"
        );
        assert_eq!(outer("tail"), at(56, 0));
    }
}

#[test]
fn absent_members_and_wrong_paths_are_distinguished() {
    let btf = sample(Blob::new()).parse();
    let error = |name, path| btf.member(name, path).unwrap_err();
    assert!(matches!(error("absent", "id"), BtfError::NoSuchStruct { name } if name == "absent"));
    assert!(
        matches!(error("inner_t", "tag"), BtfError::NoSuchStruct { .. }),
        "a typedef"
    );
    assert!(matches!(
        error("forward", "tag"),
        BtfError::NoSuchStruct { .. }
    ));
    for path in [
        "absent",
        "",
        "nested.absent",
        "nested..tag",
        "nested.",
        ".id",
        "i",
        "idd",
    ] {
        assert!(
            matches!(error("outer", path), BtfError::NoSuchMember { .. }),
            "{path:?}"
        );
    }
    for path in ["whole.id", "id.x", "table.first", "id."] {
        assert!(
            matches!(error("outer", path), BtfError::NotAStruct { .. }),
            "{path:?}"
        );
    }
    assert!(error("outer", "id.x").is_absence());
}

#[test]
fn a_bitfield_is_an_error_of_its_own() {
    let btf = sample(Blob::new()).parse();
    assert_eq!(btf.member("flagged", "plain").unwrap(), at(0, 4));
    assert_eq!(btf.member("flagged", "after").unwrap(), at(8, 4));
    for (name, path, bit) in [
        ("flagged", "narrow", 32),
        ("old_style", "narrow", 0),
        ("old_style", "odd", 33),
    ] {
        let error = btf.member(name, path).unwrap_err();
        assert!(matches!(error, BtfError::Bitfield { bit_offset, .. } if bit_offset == bit));
        assert!(error.to_string().contains("is a bitfield"));
    }
}

#[test]
fn of_several_types_with_one_name_the_first_with_the_member_answers() {
    let btf = sample(Blob::new()).parse();
    assert_eq!(btf.member("twice", "here").unwrap(), at(0, 4));
    assert_eq!(btf.member("twice", "there").unwrap(), at(0, 1));
    assert_eq!(btf.member("twice", "pad.tag").unwrap(), at(0, 4));
    assert!(matches!(
        btf.member("twice", "nowhere"),
        Err(BtfError::NoSuchMember { .. })
    ));
}

#[test]
fn enums_of_both_widths_and_signs_are_read() {
    for blob in [Blob::new(), Blob::big_endian()] {
        let btf = sample(blob).parse();
        let variants = |name| btf.enum_variants(name).unwrap();
        assert_eq!(
            variants("colour"),
            [("RED", 7), ("BLUE", 1 << 16)],
            "not the empty one before"
        );
        assert_eq!(variants("signed"), [("RED", u64::MAX)]);
        assert_eq!(
            variants("wide"),
            [("RED", (2 << 32) | 1), ("BLUE", u64::MAX)]
        );
        assert_eq!(btf.enum_value("colour", "BLUE").unwrap(), 1 << 16);
        assert!(matches!(
            btf.enum_value("colour", "GREEN"),
            Err(BtfError::NoSuchVariant { .. })
        ));
        assert!(matches!(
            btf.enum_value("absent", "RED"),
            Err(BtfError::NoSuchEnum { .. })
        ));
        assert!(matches!(
            btf.enum_variants("absent"),
            Err(BtfError::NoSuchEnum { .. })
        ));
    }
}

#[test]
fn tracepoint_arguments_have_types_and_names_where_a_function_has_them() {
    let btf = sample(Blob::new()).parse();
    let types = [
        ("outer", 1),
        ("colour", 0),
        ("outer", 2),
        ("atomic_like_t", 0),
        ("void", 1),
    ];
    let names = ["outer", "colour", "list", "count", "location"];
    for (tracepoint, named) in [("unnamed", false), ("mismatched", false), ("named", true)] {
        let args = btf.tracepoint_args(tracepoint).unwrap();
        let expected: Vec<Arg<'_>> = types
            .iter()
            .zip(names)
            .map(|(&(type_name, pointers), name)| Arg {
                name: if named { name } else { "" },
                type_name,
                pointers,
            })
            .collect();
        assert_eq!(args, expected, "{tracepoint}");
    }
    let args = btf.tracepoint_args("named").unwrap();
    assert!(args[0].is_pointer() && args[0].points_to("outer") && !args[0].is_value("outer"));
    assert!(args[1].is_value("colour") && !args[1].points_to("colour") && !args[1].is_pointer());
    assert!(args[2].is_pointer() && !args[2].points_to("outer"));

    let error = |name| btf.tracepoint_args(name).unwrap_err();
    assert!(matches!(error("absent"), BtfError::NoSuchTracepoint { .. }));
    assert!(matches!(error("number"), BtfError::NoSuchTracepoint { .. }));
    assert!(matches!(error("without_data"), BtfError::Malformed { .. }));
}

#[test]
fn functions_are_found_by_their_whole_name() {
    let btf = sample(Blob::new()).parse();
    let args = btf.function_args("__bpf_trace_named").unwrap();
    assert!(args[0].points_to("void"));
    for absent in [
        "",
        "__bpf_trace_name",
        "__bpf_trace_named2",
        "bpf_trace_named",
        "outer",
    ] {
        let error = btf.function_args(absent).unwrap_err();
        assert!(
            matches!(error, BtfError::NoSuchFunction { .. }),
            "{absent:?}"
        );
    }
    let mut blob = Blob::new();
    blob.alias(FUNC, "one", 0);
    blob.alias(FUNC, "two", 0);
    let btf = blob.parse();
    assert!(
        btf.function_args("one\0two").is_err(),
        "not across two names"
    );
    assert!(btf.function_args("one").is_err(), "without a prototype");
}

#[test]
fn cycles_end_with_an_error() {
    let mut blob = Blob::new();
    blob.alias(TYPEDEF, "ping", 2);
    blob.alias(TYPEDEF, "pong", 1);
    blob.composite(STRUCT, "typedef_cycle", 4, &[("field", 1, 0)]);
    blob.composite(STRUCT, "itself", 4, &[("", 4, 0), ("real", 1, 0)]);
    blob.add(ARRAY, "", 0, 0, &[5, 5, 1]);
    blob.composite(STRUCT, "array_cycle", 4, &[("field", 5, 0)]);
    blob.alias(PTR, "", 7);
    let prototype = blob.prototype(&[("", 7)]);
    let pointer = blob.alias(PTR, "", prototype);
    blob.alias(TYPEDEF, "btf_trace_pointer_cycle", pointer);
    blob.alias(TYPEDEF, "btf_trace_typedef_cycle", 1);
    let btf = blob.parse();
    for name in ["typedef_cycle", "itself", "array_cycle"] {
        assert!(
            matches!(btf.member(name, "field"), Err(BtfError::Cyclic { .. })),
            "{name}"
        );
    }
    for name in ["pointer_cycle", "typedef_cycle"] {
        assert!(
            matches!(btf.tracepoint_args(name), Err(BtfError::Cyclic { .. })),
            "{name}"
        );
    }
}

#[test]
fn nesting_that_multiplies_does_not_take_for_ever() {
    let mut blob = Blob::new();
    // Each of 60 structs holds the next one a hundred times: 100^60 members in all.
    for next in 2..62 {
        let members = vec![("", next, 0); 100];
        blob.composite(STRUCT, if next == 2 { "wide" } else { "" }, 4, &members);
    }
    blob.int("int", 4);
    let start = Instant::now();
    let error = blob.parse().member("wide", "absent").unwrap_err();
    assert!(matches!(error, BtfError::Cyclic { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn sizes_that_overflow_are_errors() {
    let mut blob = Blob::new();
    let byte = blob.int("u8", 1);
    let huge = blob.add(ARRAY, "", 0, 0, &[byte, byte, u32::MAX]);
    let huger = blob.add(ARRAY, "", 0, 0, &[huge, byte, 2]);
    let word = blob.int("u64", 8);
    let words = blob.add(ARRAY, "", 0, 0, &[word, byte, 1 << 30]);
    let void = 0;
    let members = [
        ("huge", huge, 0),
        ("huger", huger, 0),
        ("words", words, 0),
        ("void", void, 0),
    ];
    blob.composite(STRUCT, "s", 4, &members);
    let btf = blob.parse();
    assert_eq!(btf.member("s", "huge").unwrap(), at(0, u32::MAX));
    for path in ["huger", "words", "void"] {
        assert!(
            matches!(btf.member("s", path), Err(BtfError::Malformed { .. })),
            "{path}"
        );
    }
}

#[test]
fn every_truncation_is_an_error() {
    let mut with_layout = sample(Blob::new());
    with_layout.layout = Some(vec![0; 80]);
    for blob in [sample(Blob::new()), sample(Blob::big_endian()), with_layout] {
        let whole = blob.build();
        for len in 0..whole.len() {
            let error = Btf::parse(whole[..len].to_vec()).unwrap_err();
            assert!(
                matches!(error, BtfError::Truncated { .. }),
                "{len} bytes: {error}"
            );
        }
        // The type section alone cut short, at every length but those at which a record ends.
        let types_len = u32::try_from(blob.types.len()).unwrap();
        let whole_records = (0..types_len)
            .filter(|len| {
                let mut cut = whole.clone();
                cut[12..16].copy_from_slice(&blob.bytes(*len));
                match Btf::parse(cut) {
                    Ok(btf) => {
                        ask_everything(&btf);
                        true
                    }
                    Err(BtfError::Truncated { .. }) => false,
                    Err(other) => panic!("{len}: {other}"),
                }
            })
            .count();
        assert_eq!(whole_records, blob.count as usize);
    }
}

#[test]
fn no_single_changed_byte_makes_it_panic() {
    let whole = sample(Blob::new()).build();
    let all = ask_everything(&Btf::parse(whole.clone()).unwrap());
    assert_eq!(all, 14, "the questions have answers");
    for index in 0..whole.len() {
        for change in [0x01, 0x04, 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[index] ^= change;
            if let Ok(btf) = Btf::parse(damaged) {
                ask_everything(&btf);
            }
        }
    }
}

#[test]
fn an_unknown_kind_is_named_unless_a_layout_has_its_length() {
    let mut blob = Blob::new();
    let int = blob.int("int", 4);
    let newer = blob.add(33, "something", 2, 0, &[1, 2, 3]);
    blob.composite(STRUCT, "s", 8, &[("known", int, 32), ("newer", newer, 0)]);
    let error = Btf::parse(blob.build()).unwrap_err();
    assert!(
        matches!(
            error,
            BtfError::UnknownKind {
                kind: 33,
                type_id: 2
            }
        ),
        "{error}"
    );

    let mut layout = vec![0; 4 * 34];
    layout[4 * 33..].copy_from_slice(&[4, 4, 0, 0]);
    blob.layout = Some(layout.clone());
    let btf = blob.parse();
    assert_eq!(btf.member("s", "known").unwrap(), at(4, 4));
    let error = btf.member("s", "newer").unwrap_err();
    assert!(
        matches!(
            error,
            BtfError::UnknownKind {
                kind: 33,
                type_id: 2
            }
        ),
        "{error}"
    );

    layout.truncate(4 * 33);
    blob.layout = Some(layout);
    assert!(matches!(
        Btf::parse(blob.build()),
        Err(BtfError::UnknownKind { .. })
    ));

    let mut blob = Blob::new();
    blob.add(0, "", 0, 0, &[]);
    let error = Btf::parse(blob.build()).unwrap_err();
    assert!(
        matches!(
            error,
            BtfError::UnknownKind {
                kind: 0,
                type_id: 1
            }
        ),
        "{error}"
    );
}

#[test]
fn a_struct_may_have_more_members_than_sixteen_bits_count() {
    let mut blob = Blob::new();
    let int = blob.int("int", 4);
    let filler = blob.name("filler");
    let last = blob.name("last");
    let mut rest = [filler, int, 0].repeat(70_000);
    rest.extend([last, int, 64]);
    blob.add(STRUCT, "wide", 70_001, 16, &rest);
    assert_eq!(blob.parse().member("wide", "last").unwrap(), at(8, 4));
}

#[test]
fn what_is_not_btf_is_refused() {
    assert!(matches!(
        Btf::parse(b"\x7fELF".to_vec()),
        Err(BtfError::NotBtf { magic: 0x457f })
    ));
    let mut data = Blob::new().build();
    data[2] = 2;
    assert!(matches!(
        Btf::parse(data),
        Err(BtfError::UnknownVersion { version: 2 })
    ));
    let mut data = Blob::new().build();
    data[4] = 23;
    assert!(matches!(
        Btf::parse(data),
        Err(BtfError::Malformed { type_id: 0, .. })
    ));
    for strings in [&b""[..], b"\0a", b"a\0"] {
        let blob = Blob {
            strings: strings.to_vec(),
            ..Blob::new()
        };
        assert!(matches!(
            Btf::parse(blob.build()),
            Err(BtfError::Malformed { type_id: 0, .. })
        ));
    }
    let mut blob = Blob::new();
    blob.int("int", 4);
    blob.strings.truncate(1);
    assert!(matches!(
        Btf::parse(blob.build()),
        Err(BtfError::Malformed { type_id: 1, .. })
    ));
    assert!(Btf::parse(Blob::new().build()).is_ok(), "no types at all");
}

#[test]
fn a_missing_file_names_the_kernel_option() {
    let error = Btf::from_file(Path::new("/nonexistent/vmlinux")).unwrap_err();
    assert!(error.to_string().contains("CONFIG_DEBUG_INFO_BTF"));
    let BtfError::Missing { source, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(source.kind(), io::ErrorKind::NotFound);
    assert!(matches!(
        Btf::from_file(Path::new("/")),
        Err(BtfError::Read { .. })
    ));
}
