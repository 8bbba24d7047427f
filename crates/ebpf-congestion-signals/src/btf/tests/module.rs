//! A kernel's BTF together with a module's.

use super::blob::{Blob, STRUCT};
use super::{Btf, at};

#[test]
fn a_module_goes_on_where_its_kernel_ends() {
    for new in [Blob::new, Blob::big_endian] {
        let mut whole = new();
        let int = whole.int("int", 4);
        whole.composite(STRUCT, "kernel", 8, &[("a", int, 0), ("b", int, 32)]);
        let kernel = whole.build();
        let (types, strings) = (whole.types.len(), whole.strings.len());
        whole.composite(STRUCT, "module", 8, &[("c", int, 0), ("d", int, 32)]);
        let mut module = new();
        module.types = whole.types.split_off(types);
        module.strings = whole.strings.split_off(strings);
        let module = module.build();

        let btf = Btf::with_module(&kernel, &module).unwrap();
        assert_eq!(btf.member("kernel", "b").unwrap(), at(4, 4));
        assert_eq!(btf.member("module", "d").unwrap(), at(4, 4));
        for length in 0..module.len() {
            assert!(
                Btf::with_module(&kernel, &module[..length]).is_err(),
                "{length}"
            );
        }
        for length in 0..kernel.len() {
            assert!(
                Btf::with_module(&kernel[..length], &module).is_err(),
                "{length}"
            );
        }
    }
    let (little, big) = (Blob::new().build(), Blob::big_endian().build());
    assert!(Btf::with_module(&little, &big).is_err());
}
