//! Joins a module's BTF to that of its kernel.

use super::error::BtfError;
use super::raw::{Raw, damaged};

/// One blob of both: the module numbers its types, and offsets its names, on from the
/// kernel's last.
pub(super) fn join(kernel: &[u8], module: &[u8]) -> Result<Vec<u8>, BtfError> {
    let kernel = Raw::kernel_sections(kernel.to_vec())?;
    let module = Raw::module_sections(module.to_vec())?;
    if kernel.is_big_endian() != module.is_big_endian() {
        return Err(damaged(0, "the module is of another endianness"));
    }
    let number = |number: usize| {
        let number = u32::try_from(number).map_err(|_| damaged(0, "both exceed 4 GiB"))?;
        Ok(if kernel.is_big_endian() {
            number.to_be_bytes()
        } else {
            number.to_le_bytes()
        })
    };
    let layout = kernel.layout();
    let types = kernel.types().len() + module.types().len();
    let strings = kernel.strings().len() + module.strings().len();
    // Magic, version and flags, then the header's own length and the sections, each by where it
    // begins behind the header and its length.
    let mut joined = kernel.magic_version_and_flags().to_vec();
    for field in [32, 0, types, types, strings, types + strings, layout.len()] {
        joined.extend(number(field)?);
    }
    for section in [
        kernel.types(),
        module.types(),
        kernel.strings(),
        module.strings(),
        layout,
    ] {
        joined.extend(section);
    }
    Ok(joined)
}
