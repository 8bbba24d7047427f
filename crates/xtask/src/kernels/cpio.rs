//! Writes archives in the format of an initramfs (`newc`; Documentation/driver-api/early-userspace
//! of the kernel's sources). The kernel takes them uncompressed.

/// File types and modes, as in `stat`.
const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// An archive being written.
#[derive(Default)]
pub(super) struct Cpio {
    bytes: Vec<u8>,
    inodes: u32,
    directories: Vec<String>,
}

/// Major and minor number.
#[derive(Clone, Copy, Default)]
pub(super) struct Device(pub(super) u32, pub(super) u32);

impl Cpio {
    /// Adds a file that can be executed, and the directories that lead to it.
    pub(super) fn program(&mut self, path: &str, content: &[u8]) {
        self.directories_above(path);
        self.entry(path, PROGRAM, content, Device::default());
    }

    /// Adds a directory, and those that lead to it.
    pub(super) fn directory(&mut self, path: &str) {
        self.directories_above(path);
        let path = path.trim_start_matches('/');
        if !self.directories.iter().any(|known| known == path) {
            self.directories.push(path.to_owned());
            self.entry(path, DIRECTORY, &[], Device::default());
        }
    }

    /// Adds a character device.
    pub(super) fn character_device(&mut self, path: &str, device: Device) {
        self.directories_above(path);
        self.entry(path, CHARACTER_DEVICE, &[], device);
    }

    /// The archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[], Device::default());
        self.bytes
    }

    fn directories_above(&mut self, path: &str) {
        let path = path.trim_start_matches('/');
        if let Some((directory, _)) = path.rsplit_once('/') {
            self.directory(directory);
        }
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8], device: Device) {
        let name = path.trim_start_matches('/');
        self.inodes += 1;
        let length = u32::try_from(content.len()).expect("no file of 4 GiB goes into an initramfs");
        let name_length = u32::try_from(name.len() + 1).expect("names are short");
        let fields = [
            self.inodes,
            mode,
            0,
            0,
            1,
            0,
            length,
            0,
            0,
            device.0,
            device.1,
            name_length,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
    }

    /// Headers and contents begin at multiples of four.
    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_each_directory_once_and_before_its_files() {
        let mut cpio = Cpio::default();
        cpio.program("/usr/lib/a", b"12345");
        cpio.program("/usr/lib/b", b"");
        let bytes = cpio.finish();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8(bytes).unwrap();
        let names: Vec<_> = text
            .split("070701")
            .skip(1)
            .map(|entry| entry[104..].split('\0').next().unwrap())
            .collect();
        assert_eq!(
            names,
            ["usr", "usr/lib", "usr/lib/a", "usr/lib/b", "TRAILER!!!"]
        );
    }

    #[test]
    fn a_header_is_as_the_kernel_reads_it() {
        let mut cpio = Cpio::default();
        cpio.program("init", b"hello");
        let text = String::from_utf8(cpio.finish()).unwrap();
        let header = "070701 00000001 000081ED 00000000 00000000 00000001 00000000 00000005 \
                      00000000 00000000 00000000 00000000 00000005 00000000";
        let expected = header.replace(' ', "") + "init\0\0hello\0\0\x00070701";
        assert!(text.starts_with(&expected), "{text}");
    }
}
