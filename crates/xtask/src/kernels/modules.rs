//! Kernel modules and what they depend on, which each says of itself.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::process;

/// Where a kernel's modules are, by name.
pub(super) struct Modules {
    paths: HashMap<String, PathBuf>,
}

/// A module that was read.
pub(super) struct Module {
    pub(super) name: String,
    /// Not compressed.
    pub(super) object: Vec<u8>,
}

impl Modules {
    /// The modules among a kernel's files.
    pub(super) fn among(files: &[PathBuf]) -> Self {
        let paths = files.iter().filter_map(|path| {
            let file = path.file_name()?.to_str()?;
            let (name, compression) = file.split_once(".ko")?;
            let is_module = compression.is_empty() || compression.starts_with('.');
            is_module.then(|| (canonical(name), path.clone()))
        });
        Self {
            paths: paths.collect(),
        }
    }

    /// The named modules with all that they depend on, each behind its dependencies. Those that
    /// do not exist are skipped.
    pub(super) fn in_load_order(&mut self, names: &[&str]) -> Result<Vec<Module>> {
        let mut loaded = HashSet::new();
        let mut order = Vec::new();
        for name in names {
            self.load(&canonical(name), &mut loaded, &mut order)?;
        }
        Ok(order)
    }

    fn load(
        &self,
        name: &str,
        loaded: &mut HashSet<String>,
        order: &mut Vec<Module>,
    ) -> Result<()> {
        let Some(path) = self.paths.get(name) else {
            return Ok(());
        };
        if !loaded.insert(name.to_owned()) {
            return Ok(());
        }
        let object = uncompressed(path)?;
        let needed = dependencies(&object);
        let needed = needed.with_context(|| format!("{} names no dependencies", path.display()))?;
        for dependency in needed {
            self.load(&dependency, loaded, order)?;
        }
        order.push(Module {
            name: name.to_owned(),
            object,
        });
        Ok(())
    }
}

/// File names have either of `-` and `_`, dependencies have one.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

fn uncompressed(path: &PathBuf) -> Result<Vec<u8>> {
    let tool = match path.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => return process::read(path),
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => bail!("{} is compressed in an unknown way", path.display()),
    };
    process::output(Command::new(tool).arg("-dc").arg(path))
}

/// What section `.modinfo` of a module says: `depends=a,b`.
fn dependencies(object: &[u8]) -> Option<Vec<String>> {
    const KEY: &[u8] = b"\0depends=";
    let start = object.windows(KEY.len()).position(|bytes| bytes == KEY)? + KEY.len();
    let length = object[start..].iter().position(|byte| *byte == 0)?;
    let names = std::str::from_utf8(&object[start..start + length]).ok()?;
    Some(
        names
            .split(',')
            .filter(|name| !name.is_empty())
            .map(canonical)
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_names_its_dependencies() {
        let object = b"\x7fELF\0license=GPL\0depends=x_tables,nf-tables\0retpoline=Y\0";
        assert_eq!(
            dependencies(object),
            Some(vec!["x_tables".to_owned(), "nf_tables".to_owned()])
        );
        assert_eq!(dependencies(b"\0license=GPL\0depends=\0"), Some(vec![]));
        assert_eq!(dependencies(b"\x7fELF"), None);
    }

    #[test]
    fn modules_are_distinguished_from_other_files() {
        let files = ["/m/nf-tables.ko", "/m/veth.ko.xz", "/m/modules.builtin"].map(PathBuf::from);
        let mut names: Vec<_> = Modules::among(&files).paths.into_keys().collect();
        names.sort();
        assert_eq!(names, ["nf_tables", "veth"]);
    }
}
