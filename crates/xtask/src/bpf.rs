//! Builds the probes into one object whose bytes depend on nothing but sources and toolchain.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use object::read::elf::ElfFile64;
use object::{Endianness, Object as _, ObjectSection};
use serde_json::Value;

use crate::toolchain::{TARGET, Toolchain, without_outer_build};

const PROBES: &str = "crates/ebpf-congestion-signals-ebpf";
const OBJECT: &str = "crates/ebpf-congestion-signals/probes.bpf.o";

/// The object's SHA-256 as `sha256sum` writes it, for those who have the package alone.
const CHECKSUM: &str = "crates/ebpf-congestion-signals/probes.bpf.o.sha256";

/// Where the toolchain of the probes works, apart from the other crates' builds.
const TARGET_DIRECTORY: &str = "target/bpf";

/// What the workspace's directory is called inside the object.
const WORKSPACE_NAME: &str = "/ebpf-congestion-signals";

/// Where dependencies lie inside the object.
const DEPENDENCIES_NAME: &str = "/dependencies";

/// Begins what the object says of its toolchain.
const COMMENT: &str = "built with ";

/// Builds the probes and replaces the committed object if it differs.
pub(crate) fn build(workspace: &Path, tools: &Toolchain) -> Result<()> {
    let built = object(workspace, tools)?;
    let path = workspace.join(OBJECT);
    // An unchanged file keeps its time, so that the crate that embeds it is not rebuilt.
    let changed = fs::read(&path).ok().as_deref() != Some(&built[..]);
    if changed {
        fs::write(&path, &built).with_context(|| format!("writing {}", path.display()))?;
    }
    write_checksum(workspace)?;
    let verb = if changed { "written" } else { "unchanged" };
    println!(
        "{OBJECT}: {verb}, {} bytes, {COMMENT}{}",
        built.len(),
        tools.versions()
    );
    Ok(())
}

/// Fails unless the committed object is what the sources build.
pub(crate) fn check(workspace: &Path, tools: &Toolchain) -> Result<()> {
    let path = workspace.join(OBJECT);
    let committed = fs::read(&path)
        .with_context(|| format!("reading {}: `cargo xtask bpf` builds it", path.display()))?;
    let built = object(workspace, tools)?;
    if committed != built {
        bail!("{}", difference(&committed, &built));
    }
    let recorded = fs::read_to_string(workspace.join(CHECKSUM)).unwrap_or_default();
    ensure!(
        recorded == checksum(workspace)?,
        "{CHECKSUM} is not the object's: `cargo xtask bpf` writes it"
    );
    println!(
        "{OBJECT} is what the sources build, {COMMENT}{}",
        tools.versions()
    );
    Ok(())
}

/// Brings the object's checksum up to date.
fn write_checksum(workspace: &Path) -> Result<()> {
    fs::write(workspace.join(CHECKSUM), checksum(workspace)?).context(CHECKSUM)
}

/// The line that `sha256sum` prints of the object.
fn checksum(workspace: &Path) -> Result<String> {
    let object = workspace.join(OBJECT);
    let mut command = Command::new("sha256sum");
    if let (Some(directory), Some(name)) = (object.parent(), object.file_name()) {
        command.current_dir(directory).arg(name);
    }
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.context("starting sha256sum")?;
    ensure!(output.status.success(), "sha256sum: {}", output.status);
    String::from_utf8(output.stdout).context("reading what sha256sum wrote")
}

/// Runs the toolchain's clippy over the probes.
pub(crate) fn lint(workspace: &Path, tools: &Toolchain) -> Result<()> {
    let clippy = tools.beside_rustc("cargo-clippy");
    ensure!(
        clippy.exists(),
        "no {}: on Debian, `apt-get install rust-web-clippy`",
        clippy.display()
    );
    let mut command = in_probes(Command::new(clippy), workspace, tools);
    command
        .args(["clippy", "--locked", "--release", "--target", TARGET])
        .args(["--", "-Dwarnings"])
        .env("CARGO", &tools.cargo)
        .env("CARGO_TARGET_DIR", workspace.join(TARGET_DIRECTORY));
    run(&mut command)
}

/// Says how the committed object differs from what was built, and how to mend it.
fn difference(committed: &[u8], built: &[u8]) -> String {
    let same = committed
        .iter()
        .zip(built)
        .take_while(|(a, b)| a == b)
        .count();
    let mut text = format!(
        "{OBJECT} is not what the sources build: {} bytes committed, {} built, the first \
         difference at byte {same}.\n",
        committed.len(),
        built.len()
    );
    let [was, is] = [committed, built].map(recorded_versions);
    if was == is {
        text += "Run `cargo xtask bpf` and commit the object with the sources.";
    } else {
        let [was, is] = [was, is].map(|versions| versions.unwrap_or("an unknown toolchain"));
        text += &format!(
            "It was {COMMENT}{was}; here there is {is}. Install that toolchain, or run \
             `cargo xtask bpf` with this one and commit the object."
        );
    }
    text
}

/// What an object says of the toolchain that built it.
fn recorded_versions(object: &[u8]) -> Option<&str> {
    let start = object
        .windows(COMMENT.len())
        .position(|window| window == COMMENT.as_bytes())?;
    let rest = &object[start + COMMENT.len()..];
    let end = rest.iter().position(|byte| *byte == 0)?;
    std::str::from_utf8(&rest[..end]).ok()
}

/// The object's bytes: BTF and line information kept, without DWARF.
fn object(workspace: &Path, tools: &Toolchain) -> Result<Vec<u8>> {
    let directory = workspace.join(TARGET_DIRECTORY);
    fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
    let linked = compile(workspace, &directory, tools)?;

    let comment = directory.join("comment");
    fs::write(&comment, format!("{COMMENT}{}\0", tools.versions()))
        .with_context(|| format!("writing {}", comment.display()))?;
    let stripped = directory.join("probes.bpf.o");
    let mut objcopy = Command::new(&tools.objcopy);
    objcopy
        .arg("--strip-debug")
        .arg(format!("--add-section=.comment={}", comment.display()))
        .args([&linked, &stripped]);
    run(&mut objcopy)?;
    let object = fs::read(&stripped).with_context(|| format!("reading {}", stripped.display()))?;
    let elf = ElfFile64::<Endianness>::parse(&*object).context("reading the built object")?;
    for section in [".BTF", ".BTF.ext"] {
        ensure!(
            elf.section_by_name(section).is_some(),
            "the built object has no {section}"
        );
    }
    ensure!(
        calls(&elf)? == 0,
        "a program calls a function that is not inlined: Linux before 6.5 does not survive a fault in \
         such a program"
    );
    Ok(object)
}

/// How many calls of functions the programs have.
///
/// Before commit 0108a4e9f358 ("bpf: ensure main program has an extable", Linux 6.5), the kernel does
/// not find the table of the loads that may fault for a program with such calls: the first fault
/// stops the kernel.
fn calls(elf: &ElfFile64<'_>) -> Result<usize> {
    const CALL: u8 = 0x85;
    const PSEUDO_CALL: u8 = 1; // BPF_PSEUDO_CALL, as the source register
    let mut calls = 0;
    for section in elf.sections() {
        let name = section.name().context("a section's name")?;
        if name.starts_with("tp_btf/") || name.starts_with("fexit/") {
            let instructions = section.data().with_context(|| format!("reading {name}"))?;
            let instructions = instructions.as_chunks::<8>().0;
            calls += instructions
                .iter()
                .filter(|bytes| bytes[0] == CALL && bytes[1] >> 4 == PSEUDO_CALL)
                .count();
        }
    }
    Ok(calls)
}

/// Compiles and links the probes; returns where the linked object is.
fn compile(workspace: &Path, directory: &Path, tools: &Toolchain) -> Result<PathBuf> {
    let mut flags = vec![
        format!("-Clinker={}", tools.linker.display()),
        "-Clink-arg=--btf".to_owned(),
        // Else every memset is a call of a loop over bytes, whose frame kernels before 6.12 round
        // up to 32 bytes on top of the caller's: over the 512 that a program may have.
        "-Clink-arg=--disable-expand-memcpy-in-order".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        // Source lines go into the object, so that the verifier's log can quote them; else LLVM
        // would read them from wherever the paths below happen to lead.
        "-Zembed-source=yes".to_owned(),
        "-Zdwarf-version=5".to_owned(),
    ];
    flags.extend(remapped_paths(workspace, tools)?);

    let mut cargo = in_probes(Command::new(&tools.cargo), workspace, tools);
    cargo
        .args(["build", "--locked", "--release", "--target", TARGET])
        .env("CARGO_TARGET_DIR", directory)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    run(&mut cargo)?;
    Ok(directory.join(TARGET).join("release/probes"))
}

/// Gives every package's directory a name that is the same on every machine. A later flag wins
/// over an earlier one, and packages lie in no other package's directory.
fn remapped_paths(workspace: &Path, tools: &Toolchain) -> Result<Vec<String>> {
    let mut command = in_probes(Command::new(&tools.cargo), workspace, tools);
    command
        .args([
            "metadata",
            "--locked",
            "--format-version=1",
            "--filter-platform",
            TARGET,
        ])
        .stdout(Stdio::piped());
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .context("starting `cargo metadata`")?;
    ensure!(
        output.status.success(),
        "`cargo metadata`: {}",
        output.status
    );
    let metadata: Value =
        serde_json::from_slice(&output.stdout).context("reading what `cargo metadata` wrote")?;

    let mut flags = vec![format!(
        "--remap-path-prefix={}={WORKSPACE_NAME}",
        workspace.display()
    )];
    let packages = metadata["packages"]
        .as_array()
        .context("`cargo metadata` lists no packages")?;
    for package in packages {
        let text = |field: &str| {
            let value = package[field].as_str();
            value.with_context(|| format!("`cargo metadata` names a package without {field}"))
        };
        if package["source"].is_null() {
            continue; // One of this workspace's own.
        }
        let manifest = Path::new(text("manifest_path")?);
        let root = manifest.parent().unwrap_or(manifest).display();
        let (name, version) = (text("name")?, text("version")?);
        flags.push(format!(
            "--remap-path-prefix={root}={DEPENDENCIES_NAME}/{name}-{version}"
        ));
    }
    Ok(flags)
}

/// Has a cargo work on the probes with their own toolchain, whatever cargo runs this program.
fn in_probes(mut command: Command, workspace: &Path, tools: &Toolchain) -> Command {
    without_outer_build(&mut command);
    command
        .current_dir(workspace.join(PROBES))
        .env("RUSTC", &tools.rustc)
        .env("RUSTC_WRAPPER", "")
        .env("RUSTC_WORKSPACE_WRAPPER", "")
        // Debian's compiler is a stable one; BPF needs unstable features of `core`.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_INCREMENTAL", "0")
        // By default aya-ebpf compiles for the building machine's architecture. The probes use
        // nothing that differs, but its name would be in the object.
        .env("AYA_BPF_TARGET_ARCH", "x86_64");
    command
}

fn run(command: &mut Command) -> Result<()> {
    let tool = command.get_program().display().to_string();
    let status = command
        .status()
        .with_context(|| format!("starting {tool}"))?;
    ensure!(status.success(), "{tool}: {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_names_the_object_as_the_package_does() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let line = checksum(&workspace).expect("every system with coreutils has sha256sum");
        assert_eq!(line.len(), 64 + "  probes.bpf.o\n".len());
        assert!(line.ends_with("  probes.bpf.o\n"), "{line}");
    }

    #[test]
    fn programs_call_no_functions() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let object = fs::read(workspace.join(OBJECT)).expect("it is committed");
        let elf = ElfFile64::parse(&*object).expect("an ELF file");
        assert_eq!(calls(&elf).expect("sections have names"), 0);
    }

    #[test]
    fn an_object_names_the_toolchain_that_built_it() {
        let object = b"\x7fELF..built with rustc 1.96.0, LLVM 22\0.symtab\0";
        assert_eq!(recorded_versions(object), Some("rustc 1.96.0, LLVM 22"));
        assert_eq!(recorded_versions(b"\x7fELF"), None);
    }

    #[test]
    fn changed_sources_ask_for_a_rebuild() {
        let text = difference(b"abXbuilt with 1\0", b"abYbuilt with 1\0");
        assert!(text.contains("first difference at byte 2"), "{text}");
        assert!(text.contains("Run `cargo xtask bpf`"), "{text}");
    }

    #[test]
    fn a_changed_toolchain_is_named() {
        let text = difference(b"built with 1\0", b"built with 2\0");
        assert!(text.contains("built with 1; here there is 2"), "{text}");
    }
}
