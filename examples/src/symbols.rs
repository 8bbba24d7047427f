//! Names of places in the kernel.

use std::collections::HashMap;

/// Where the kernel lists its symbols. Readers without CAP_SYSLOG find zeros for addresses.
const SYMBOLS: &str = "/proc/kallsyms";

/// The function that each address lies in, of those that can be told.
pub fn functions(addresses: &[u64]) -> HashMap<u64, String> {
    let listed = std::fs::read_to_string(SYMBOLS).unwrap_or_default();
    functions_in(&listed, addresses)
}

fn functions_in(listed: &str, addresses: &[u64]) -> HashMap<u64, String> {
    // The nearest symbol at or below each address.
    let mut nearest: HashMap<u64, (u64, &str)> = HashMap::new();
    for line in listed.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(start), Some(kind), Some(name)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let is_code = matches!(kind, "t" | "T" | "w" | "W");
        let Ok(start) = u64::from_str_radix(start, 16) else {
            continue;
        };
        if !is_code || start == 0 {
            continue;
        }
        for &address in addresses.iter().filter(|&&address| start <= address) {
            let best = nearest.entry(address).or_insert((start, name));
            if start > best.0 {
                *best = (start, name);
            }
        }
    }
    nearest
        .into_iter()
        .map(|(address, (_, name))| (address, name.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = "\
        ffffffff81000000 T _text\n\
        ffffffff81000100 t enqueue\n\
        ffffffff81000180 d some_data\n\
        ffffffff81000200 T dequeue [module]\n";

    #[test]
    fn an_address_lies_in_the_nearest_function_before_it() {
        let inside = 0xffff_ffff_8100_01f0;
        let found = functions_in(LISTED, &[inside, 1]);
        assert_eq!(found.get(&inside).map(String::as_str), Some("enqueue"));
        assert_eq!(found.get(&1), None);
    }

    #[test]
    fn hidden_addresses_name_nothing() {
        let hidden = "0000000000000000 T enqueue\n";
        assert!(functions_in(hidden, &[0xffff_ffff_8100_01f0]).is_empty());
    }
}
