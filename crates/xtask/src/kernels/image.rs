//! A kernel out of its packages: the image to boot and the modules to load.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::archive::{Archive, Package};
use super::modules::Modules;

/// Modules that the tests need: veth for cables, tun for the relay, tbf for bottlenecks,
/// macvlan or 8021q for an upper device, virtio for one that is busy; tunnels and bonds; the
/// other queue disciplines for what they do to signals. Others come as their dependencies. One
/// that is not there is built in, or too new for the kernel.
const MODULES: [&str; 32] = [
    "veth",
    "virtio_net",
    "virtio_pci",
    "macvlan",
    "8021q",
    "tun",
    "ifb",
    "dummy",
    "sch_tbf",
    "sch_netem",
    "sch_fq",
    "sch_fq_codel",
    "sch_codel",
    "sch_cake",
    "sch_htb",
    "sch_prio",
    "sch_ingress",
    "bridge",
    "br_netfilter",
    "vxlan",
    "ip_gre",
    "ipip",
    "wireguard",
    "bonding",
    "cls_matchall",
    "cls_u32",
    "act_mirred",
    // Which nf_tables asks for without naming it a dependency.
    "crc32c_generic",
    "nf_tables",
    "nft_chain_nat",
    "nft_nat",
    "tcp_bbr",
];

/// What is needed of a kernel, in files.
pub(super) struct Kernel {
    pub(super) image: PathBuf,
    /// In the order in which they can be loaded.
    pub(super) modules: Vec<PathBuf>,
}

/// Fetches a kernel, unless the one in `home` is the one asked for.
pub(super) fn prepare(home: &Path, archive: &Archive, package: &Package) -> Result<Kernel> {
    // Written last: what it lies beside is complete.
    let stamp = home.join("packages");
    let wanted = format!("{}\n{}\n", package.names.join("\n"), MODULES.join("\n"));
    let kernel = |modules| Kernel {
        image: home.join("vmlinuz"),
        modules,
    };
    let directory = home.join("modules");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        let mut modules = Vec::new();
        for entry in fs::read_dir(&directory)? {
            modules.push(entry?.path());
        }
        modules.sort();
        return Ok(kernel(modules));
    }
    if home.exists() {
        fs::remove_dir_all(home).with_context(|| format!("removing {}", home.display()))?;
    }
    let unpacked = home.join("unpacked");
    fs::create_dir_all(&unpacked)?;
    fs::create_dir_all(&directory)?;
    for name in &package.names {
        archive.unpack(name, &unpacked)?;
    }
    let files = files_below(&unpacked)?;
    let is_image = |path: &&PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name == "vmlinuz" || name.starts_with("vmlinuz-")
    };
    let image = files.iter().find(is_image);
    let image = image.with_context(|| format!("no vmlinuz in {}", package.names.join(", ")))?;
    fs::copy(image, home.join("vmlinuz"))?;

    let mut all = Modules::among(&files);
    let mut modules = Vec::new();
    for (position, module) in all.in_load_order(&MODULES)?.into_iter().enumerate() {
        let path = directory.join(format!("{position:02}-{}.ko", module.name));
        fs::write(&path, module.object)?;
        modules.push(path);
    }
    fs::remove_dir_all(&unpacked)?;
    fs::write(&stamp, wanted)?;
    Ok(kernel(modules))
}

fn files_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            // Not following links: some lead out of the package.
            if entry.file_type()?.is_dir() {
                directories.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    Ok(files)
}
