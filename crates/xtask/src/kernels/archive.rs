//! Debian's archive, through apt with a configuration of its own: this machine's apt is asked for
//! nothing but the archive's address.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::process;
use super::series::{Series, Variant, version};

/// Suites that have kernels from 5.10 to the newest.
const SUITES: [&str; 6] = [
    "bullseye",
    "bookworm",
    "bookworm-backports",
    "trixie",
    "trixie-backports",
    "sid",
];

/// Of the flavours of Debian's kernels the one for virtual machines, which is the smallest, and the
/// one with PREEMPT_RT.
const FLAVOUR: &str = "-cloud-amd64";
const REAL_TIME: &str = "-rt-amd64";

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The archive's indices, and what was fetched from it.
pub(super) struct Archive {
    configuration: PathBuf,
    packages: PathBuf,
}

/// A kernel in the archive.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Package {
    /// As `uname -r` prints it.
    pub(super) release: String,
    /// The packages that have its image and its modules: one, or several from 6.19 on.
    pub(super) names: Vec<String>,
}

impl Archive {
    /// Brings the indices up to date.
    pub(super) fn open(directory: &Path) -> Result<Self> {
        let directory = std::path::absolute(directory.join("apt"))?;
        let packages = directory.join("packages");
        for needed in ["lists/partial", "cache/archives/partial", "packages"] {
            let needed = directory.join(needed);
            fs::create_dir_all(&needed)
                .with_context(|| format!("creating {}", needed.display()))?;
        }
        let archive = Self {
            configuration: directory.join("apt.conf"),
            packages,
        };
        let sources = directory.join("sources.list");
        fs::write(
            &sources,
            sources_list(&address()?, Path::new(KEYRING).exists()),
        )?;
        fs::write(&archive.configuration, configuration(&directory, &sources))?;
        archive.update()?;
        Ok(archive)
    }

    fn update(&self) -> Result<()> {
        eprintln!("=== Debian's indices");
        let status = self
            .apt("apt-get")
            .args(["-qq", "update"])
            .stdout(Stdio::null())
            .status()
            .context("starting apt-get")?;
        if !status.success() {
            // A suite may have left the archive; the others serve all the same.
            eprintln!("warning: not all of {} could be read", SUITES.join(", "));
        }
        Ok(())
    }

    /// The newest kernel of a series of which every part is there.
    pub(super) fn newest(&self, series: &Series) -> Result<Package> {
        let names = process::text(self.apt("apt-cache").args(["pkgnames", "linux-image-"]))?;
        let flavour = match series.variant() {
            Variant::RealTime => REAL_TIME,
            Variant::Plain | Variant::FourCpus | Variant::Lockdown => FLAVOUR,
        };
        let mut releases: Vec<&str> = names
            .lines()
            .filter_map(|name| name.strip_prefix("linux-image-"))
            .filter(|release| release.ends_with(flavour) && series.has(release))
            .collect();
        ensure!(!releases.is_empty(), "the archive has no kernel {series}");
        releases.sort_by_key(|release| version(release));
        let mut gone = None;
        for release in releases.into_iter().rev() {
            let image = format!("linux-image-{release}");
            let depends = process::text(self.apt("apt-cache").args(["depends", &image]))?;
            match parts(&image, release, &depends) {
                Ok(names) => {
                    let release = release.to_owned();
                    return Ok(Package { release, names });
                }
                Err(missing) => gone = gone.or(Some(missing)),
            }
        }
        bail!(
            "the archive has kernels {series}, but none of them complete any more: {} is gone",
            gone.unwrap_or_default()
        )
    }

    /// Fetches a package, unless it was before, and unpacks it.
    pub(super) fn unpack(&self, package: &str, into: &Path) -> Result<()> {
        // An empty directory each, so that the one file there is the one just fetched.
        let directory = self.packages.join(package);
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory)?;
        let mut fetch = self.apt("apt-get");
        fetch
            .args(["-qq", "download", package])
            .current_dir(&directory);
        process::output(&mut fetch).with_context(|| format!("fetching {package}"))?;
        let file = fs::read_dir(&directory)?
            .next()
            .context("apt-get fetched nothing")??;
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("--extract").arg(file.path()).arg(into);
        process::output(&mut unpack).with_context(|| format!("unpacking {package}"))?;
        fs::remove_dir_all(&directory)?;
        Ok(())
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .arg("-c")
            .arg(&self.configuration)
            .env("LC_ALL", "C")
            .stdin(Stdio::null());
        command
    }
}

/// The packages that make a kernel: `image` itself, and of those it depends on the ones of its
/// own release. An `Err` names one that the archive lacks.
fn parts(image: &str, release: &str, depends: &str) -> Result<Vec<String>, String> {
    let mut names = vec![image.to_owned()];
    for line in depends.lines() {
        let Some(name) = line
            .trim_start_matches([' ', '|'])
            .strip_prefix("Depends: ")
        else {
            continue;
        };
        let present = name.trim_start_matches('<').trim_end_matches('>');
        let part = ["linux-binary-", "linux-modules-"]
            .iter()
            .any(|prefix| present.strip_prefix(prefix) == Some(release));
        if !part {
            continue;
        }
        // apt puts what no package provides in angle brackets.
        if present != name {
            return Err(present.to_owned());
        }
        names.push(present.to_owned());
    }
    Ok(names)
}

/// Where this machine gets Debian from.
fn address() -> Result<String> {
    let format = "$(REPO_URI) $(RELEASE) $(COMPONENT)";
    let targets = process::text(
        Command::new("apt-get")
            .args(["indextargets", "--format", format, "Created-By: Packages"])
            .env("LC_ALL", "C"),
    )?;
    archive_of(&targets).context(
        "this machine's apt sources name no Debian archive: kernels are Debian's, so \
         `cargo xtask kernels` needs a Debian machine",
    )
}

/// The archive among what apt is configured for.
fn archive_of(targets: &str) -> Option<String> {
    // Not among them: updates and security, which are other archives or have no kernels.
    const RELEASES: [&str; 8] = [
        "bullseye", "bookworm", "trixie", "forky", "sid", "stable", "testing", "unstable",
    ];
    targets.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let (uri, release, component) = (fields.next()?, fields.next()?, fields.next()?);
        (RELEASES.contains(&release) && component == "main").then(|| uri.to_owned())
    })
}

fn sources_list(address: &str, has_keyring: bool) -> String {
    let signed = if has_keyring {
        format!("[signed-by={KEYRING}] ")
    } else {
        String::new()
    };
    let lines = SUITES.map(|suite| format!("deb {signed}{address} {suite} main\n"));
    lines.concat()
}

fn configuration(directory: &Path, sources: &Path) -> String {
    let directory = directory.display();
    format!(
        r#"Dir::State::Lists "{directory}/lists";
Dir::State::Status "/dev/null";
Dir::Cache "{directory}/cache";
Dir::Etc::SourceList "{sources}";
Dir::Etc::SourceParts "/dev/null";
APT::Sandbox::User "root";
APT::Architecture "amd64";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::CNF::DefaultEnabled "false";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"#,
        sources = sources.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_found_among_security_and_other_vendors() {
        let targets = "http://vendor.example/apt nodistro main\n\
                       http://debian.example/debian-security/ bookworm-security main\n\
                       http://debian.example/debian/ bookworm contrib\n\
                       http://debian.example/debian/ bookworm main\n";
        let expected = Some("http://debian.example/debian/".to_owned());
        assert_eq!(archive_of(targets), expected);
        assert_eq!(
            archive_of("http://vendor.example/ubuntu noble main\n"),
            None
        );
    }

    #[test]
    fn a_kernel_of_one_package_is_that_package() {
        let depends = "linux-image-6.1.0-50-cloud-amd64\n  Depends: kmod\n  Depends: linux-base\n \
                       |Depends: initramfs-tools\n  Depends: <linux-initramfs-tool>\n";
        let image = "linux-image-6.1.0-50-cloud-amd64";
        let names = parts(image, "6.1.0-50-cloud-amd64", depends);
        assert_eq!(names, Ok(vec![image.to_owned()]));
    }

    #[test]
    fn a_kernel_that_was_split_is_all_its_packages() {
        let depends = "  Depends: linux-base-7.3.4-cloud-amd64\n  \
                       Depends: linux-binary-7.3.4-cloud-amd64\n  \
                       Depends: linux-modules-7.3.4-cloud-amd64\n";
        let names = parts(
            "linux-image-7.3.4-cloud-amd64",
            "7.3.4-cloud-amd64",
            depends,
        )
        .unwrap();
        assert_eq!(
            names[1..],
            [
                "linux-binary-7.3.4-cloud-amd64",
                "linux-modules-7.3.4-cloud-amd64"
            ]
        );
    }

    #[test]
    fn a_kernel_whose_modules_are_gone_is_not_complete() {
        let depends = "  Depends: <linux-modules-7.0.4-cloud-amd64>\n";
        let names = parts(
            "linux-image-7.0.4-cloud-amd64",
            "7.0.4-cloud-amd64",
            depends,
        );
        assert_eq!(names, Err("linux-modules-7.0.4-cloud-amd64".to_owned()));
    }
}
