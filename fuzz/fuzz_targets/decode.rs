//! Whatever the kernel hands over, reading it ends with an answer or an error.

#![no_main]

use ebpf_congestion_signals::btf::Btf;
use ebpf_congestion_signals_common::RawEvent;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

/// What the loader asks of a kernel, a few of each sort, and what refers to them.
const NAMES: [&str; 16] = [
    "sock",
    "__sk_common",
    "skc_cookie",
    "sk_backlog",
    "rmem_alloc",
    "sk_sndbuf",
    "sk_buff",
    "len",
    "skb_drop_reason",
    "SKB_DROP_REASON_QDISC_DROP",
    "SKB_DROP_REASON_SOCKET_RCVBUFF",
    "btf_trace_kfree_skb",
    "__bpf_trace_kfree_skb",
    "btf_trace_softirq_entry",
    "u32",
    "udp_sendmsg",
];

const MEMBERS: [(&str, &str); 4] = [
    ("sock", "__sk_common.skc_cookie"),
    ("sock", "sk_backlog.rmem_alloc"),
    ("sock", "sk_sndbuf"),
    ("sk_buff", "len"),
];

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    /// A record of the ring buffer.
    Event(&'a [u8]),
    /// BTF as it comes.
    Btf(&'a [u8]),
    /// BTF that gets past the checks of its sections.
    Types {
        big_endian: bool,
        types: Vec<Type>,
        /// Sections end here although their header promises more.
        cut: Option<u16>,
    },
}

#[derive(Arbitrary, Debug)]
struct Type {
    name: Name,
    kind: u8,
    flag: bool,
    size_or_type: Small,
    items: Vec<Item>,
    /// What the record claims, where it does not tell the truth.
    claimed_items: Option<u32>,
}

#[derive(Arbitrary, Debug)]
struct Item {
    name: Name,
    second: Small,
    third: Small,
}

/// Mostly one of [`NAMES`], or none.
#[derive(Arbitrary, Debug)]
enum Name {
    None,
    Known(u8),
    Offset(u32),
}

/// Mostly the number of another type, or a plausible offset.
#[derive(Arbitrary, Debug)]
enum Small {
    Near(u8),
    Any(u32),
}

impl Small {
    fn get(&self) -> u32 {
        match *self {
            Self::Near(near) => near.into(),
            Self::Any(any) => any,
        }
    }
}

/// Writes a BTF file.
struct Writer {
    big_endian: bool,
    bytes: Vec<u8>,
}

impl Writer {
    fn short(&mut self, number: u16) {
        self.bytes.extend(if self.big_endian {
            number.to_be_bytes()
        } else {
            number.to_le_bytes()
        });
    }

    fn word(&mut self, number: u32) {
        self.bytes.extend(if self.big_endian {
            number.to_be_bytes()
        } else {
            number.to_le_bytes()
        });
    }

    fn name(&mut self, name: &Name) {
        let offset = match *name {
            Name::None => 0,
            Name::Known(index) => {
                let before = NAMES.iter().take(usize::from(index) % NAMES.len());
                1 + before.map(|name| name.len() + 1).sum::<usize>() as u32
            }
            Name::Offset(offset) => offset,
        };
        self.word(offset);
    }

    fn record(&mut self, ty: &Type) {
        self.name(&ty.name);
        let items = ty.claimed_items.unwrap_or(ty.items.len() as u32) & 0xff_ffff;
        let kind = u32::from(ty.kind % 21);
        self.word(u32::from(ty.flag) << 31 | kind << 24 | items);
        self.word(ty.size_or_type.get());
        for item in &ty.items {
            match kind {
                // Members, sections' variables and 64-bit variants have three words.
                4 | 5 | 15 | 19 => {
                    self.name(&item.name);
                    self.word(item.second.get());
                    self.word(item.third.get());
                }
                // Variants and parameters have two.
                6 | 13 => {
                    self.name(&item.name);
                    self.word(item.second.get());
                }
                _ => {}
            }
        }
        let fixed = match kind {
            1 | 14 | 17 => 1,
            3 => 3,
            _ => 0,
        };
        for index in 0..fixed {
            self.word(ty.items.get(index).map_or(1, |item| item.second.get()));
        }
    }
}

fn btf(big_endian: bool, types: &[Type], cut: Option<u16>) -> Vec<u8> {
    let mut records = Writer {
        big_endian,
        bytes: Vec::new(),
    };
    for ty in types {
        records.record(ty);
    }
    let mut strings = vec![0];
    for name in NAMES {
        strings.extend(name.as_bytes());
        strings.push(0);
    }

    let mut file = Writer {
        big_endian,
        bytes: Vec::new(),
    };
    file.short(0xeb9f);
    file.bytes.extend([1, 0]);
    file.word(24);
    file.word(0);
    file.word(records.bytes.len() as u32);
    file.word(records.bytes.len() as u32);
    file.word(strings.len() as u32);
    file.bytes.extend(records.bytes);
    file.bytes.extend(strings);
    if let Some(cut) = cut {
        file.bytes.truncate(cut.into());
    }
    file.bytes
}

/// Asks what the loader asks.
fn ask(data: Vec<u8>) {
    let size = data.len();
    let btf = match Btf::parse(data) {
        Ok(btf) => btf,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    for (composite, path) in MEMBERS {
        let _ = btf.member(composite, path);
    }
    if let Ok(variants) = btf.enum_variants("skb_drop_reason") {
        assert!(
            variants.len() <= size / 8,
            "every variant takes eight bytes"
        );
        for name in [
            "SKB_DROP_REASON_QDISC_DROP",
            "SKB_DROP_REASON_SOCKET_RCVBUFF",
        ] {
            let listed = variants.iter().find(|(listed, _)| *listed == name);
            if let Some((_, value)) = listed {
                assert_eq!(btf.enum_value("skb_drop_reason", name).ok(), Some(*value));
            }
        }
    }
    for tracepoint in ["kfree_skb", "softirq_entry"] {
        if let Ok(args) = btf.tracepoint_args(tracepoint) {
            assert!(args.len() <= size / 8, "every parameter takes eight bytes");
        }
    }
    let _ = btf.function_args("udp_sendmsg");
}

fuzz_target!(|input: Input<'_>| {
    match input {
        Input::Event(record) => {
            if let Ok((kind, event)) = RawEvent::from_bytes(record) {
                assert_eq!(kind as u32, event.kind);
            }
        }
        Input::Btf(data) => ask(data.to_vec()),
        Input::Types {
            big_endian,
            types,
            cut,
        } => ask(btf(big_endian, &types, cut)),
    }
});
