//! TUN devices: the doors through which the relay sees packets.

use std::{
    env,
    fs::{File, OpenOptions},
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::PathBuf,
};

use crate::{
    error::{Error, NEEDS_ROOT},
    namespace::Namespace,
};

/// The environment variable that names the device node of TUN where it is not /dev/net/tun, or
/// where that one is for root alone.
const TUN_DEVICE: &str = "NETLAB_TUN";

mod ioctl {
    nix::ioctl_write_ptr_bad!(tunsetiff, libc::TUNSETIFF, libc::ifreq);
}

/// Makes a TUN device inside `namespace` that lives until the returned file is closed.
///
/// Reads and writes are whole IP packets and never block. Without IFF_VNET_HDR the kernel splits
/// segmentation batches and fills in checksums before a packet can be read.
pub(crate) fn open(namespace: &Namespace, name: &str) -> Result<File, Error> {
    let device = env::var_os(TUN_DEVICE).unwrap_or_else(|| "/dev/net/tun".into());
    let device = PathBuf::from(device);
    namespace.run(|| {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&device)
            .map_err(|e| {
                Error::system(
                    format!("open {}", device.display()),
                    e,
                    "load the tun module, and let this user open the device",
                )
            })?;
        // SAFETY: ifreq is plain old data for which all zeroes is a valid value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        // The last byte stays zero: the name is a C string.
        let room = request.ifr_name.len() - 1;
        for (to, from) in request.ifr_name[..room].iter_mut().zip(name.bytes()) {
            *to = libc::c_char::from_ne_bytes([from]);
        }
        #[expect(clippy::cast_possible_truncation, reason = "both flags fit 16 bits")]
        {
            request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
        }
        // SAFETY: the descriptor is an open TUN file and TUNSETIFF reads and writes one ifreq,
        // which `request` is and outlives the call.
        unsafe { ioctl::tunsetiff(file.as_raw_fd(), &raw const request) }
            .map_err(|e| Error::system(format!("make the TUN device {name}"), e, NEEDS_ROOT))?;
        Ok(file)
    })?
}
