//! Names of addresses in the kernel's code.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::sync::Arc;

use parking_lot::Mutex;

/// Where the kernel lists its symbols. Their addresses read as zero for those who may not see them
/// (`kernel.kptr_restrict`).
const KALLSYMS: &str = "/proc/kallsyms";

/// Names of addresses in the running kernel's code, such as
/// [`DropEvent::location`](crate::DropEvent).
///
/// Names are kept once they were looked up. The kernel's list, with hundreds of thousands of lines,
/// is read again for each call with new addresses, and is not kept.
#[derive(Debug, Default)]
pub struct KernelSymbols {
    known: Mutex<HashMap<u64, Arc<str>>>,
}

impl KernelSymbols {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// The names of these addresses, in their order: symbol and offset, as in a stack trace; the
    /// address itself where there is no symbol. Reads `/proc/kallsyms` for new addresses, which
    /// takes some tens of milliseconds.
    pub fn names(&self, addresses: &[u64]) -> Vec<Arc<str>> {
        let mut known = self.known.lock();
        let new: Vec<u64> = addresses
            .iter()
            .copied()
            .filter(|address| !known.contains_key(address))
            .collect();
        if !new.is_empty() {
            let found = File::open(KALLSYMS).and_then(|file| lookup(BufReader::new(file), &new));
            let found = found.unwrap_or_else(|error| {
                tracing::warn!(%error, "{KALLSYMS} cannot be read");
                HashMap::new()
            });
            for address in new {
                let name = match found.get(&address) {
                    Some((symbol, at)) => format!("{symbol}+{:#x}", address - at),
                    None => format!("{address:#x}"),
                };
                known.insert(address, Arc::from(name));
            }
        }
        addresses
            .iter()
            .filter_map(|address| known.get(address).cloned())
            .collect()
    }
}

/// The function that each address lies in, and where that begins: the last one not behind it.
fn lookup(list: impl BufRead, addresses: &[u64]) -> io::Result<HashMap<u64, (String, u64)>> {
    let mut found: HashMap<u64, (String, u64)> = HashMap::new();
    for line in list.lines() {
        let line = line?;
        let mut words = line.split_whitespace();
        let (Some(at), Some("t" | "T" | "w" | "W"), Some(symbol)) =
            (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let Ok(at) = u64::from_str_radix(at, 16) else {
            continue;
        };
        if at == 0 {
            continue;
        }
        for address in addresses.iter().filter(|address| at <= **address) {
            match found.get(address) {
                Some((_, before)) if *before >= at => {}
                _ => {
                    found.insert(*address, (symbol.to_owned(), at));
                }
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_lies_in_the_last_function_before_it() -> io::Result<()> {
        let list = "ffffffff81000000 T _stext\n\
                    ffffffff81000300 t udp_queue_rcv_one_skb\n\
                    ffffffff81000200 T __udp4_lib_rcv\n\
                    ffffffff81000280 d data\n\
                    ffffffffc0000000 t fq_codel_dequeue\t[sch_fq_codel]\n";
        let addresses = [0xffff_ffff_8100_02ff, 0xffff_ffff_c000_0010, 0x10];
        let found = lookup(list.as_bytes(), &addresses)?;
        assert_eq!(found[&addresses[0]].0, "__udp4_lib_rcv");
        assert_eq!(found[&addresses[1]].0, "fq_codel_dequeue");
        assert!(!found.contains_key(&0x10));
        Ok(())
    }

    #[test]
    fn addresses_that_are_hidden_give_no_symbol() -> io::Result<()> {
        let list = "0000000000000000 T _stext\n0000000000000000 T tcp_v4_rcv\n";
        assert!(lookup(list.as_bytes(), &[0xffff_ffff_8100_0000])?.is_empty());
        Ok(())
    }
}
