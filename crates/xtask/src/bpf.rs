//! Builds the probes into objects whose bytes depend on nothing but sources and toolchain.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use object::read::elf::ElfFile64;
use object::{Endianness, Object as _, ObjectSection};
use serde_json::Value;

use crate::toolchain::{TARGET, Toolchain, without_outer_build};

const PROBES: &str = "crates/ebpf-congestion-signals-ebpf";

/// Where the objects are committed.
const DIRECTORY: &str = "crates/ebpf-congestion-signals";

/// A build of the probes.
struct Object {
    name: &'static str,
    /// Features of the probes' crate that it is built with.
    features: &'static str,
}

/// The feature without calls between functions.
const INLINED: &str = "inlined";

const OBJECTS: [Object; 2] = [
    Object {
        name: "probes.bpf.o",
        features: "",
    },
    Object {
        name: "probes-inlined.bpf.o",
        features: INLINED,
    },
];

impl Object {
    /// Where it is committed, in the workspace.
    fn committed(&self) -> String {
        format!("{DIRECTORY}/{}", self.name)
    }
}

/// The objects' SHA-256 as `sha256sum` writes it, for those who have the package alone.
const CHECKSUM: &str = "crates/ebpf-congestion-signals/probes.bpf.o.sha256";

/// Where the toolchain of the probes works, apart from the other crates' builds.
const TARGET_DIRECTORY: &str = "target/bpf";

/// What the workspace's directory is called inside the object.
const WORKSPACE_NAME: &str = "/ebpf-congestion-signals";

/// Where dependencies lie inside the object.
const DEPENDENCIES_NAME: &str = "/dependencies";

/// Begins what the object says of its toolchain.
const COMMENT: &str = "built with ";

/// Builds the probes and replaces the committed objects that differ.
pub(crate) fn build(workspace: &Path, tools: &Toolchain) -> Result<()> {
    for object in &OBJECTS {
        let built = bytes(object, workspace, tools)?;
        let committed = object.committed();
        let path = workspace.join(&committed);
        // An unchanged file keeps its time, so that the crate that embeds it is not rebuilt.
        let changed = fs::read(&path).ok().as_deref() != Some(&built[..]);
        if changed {
            fs::write(&path, &built).with_context(|| format!("writing {committed}"))?;
        }
        let verb = if changed { "written" } else { "unchanged" };
        println!(
            "{committed}: {verb}, {} bytes, {COMMENT}{}",
            built.len(),
            tools.versions()
        );
    }
    fs::write(workspace.join(CHECKSUM), checksum(workspace)?).context(CHECKSUM)
}

/// Fails unless the committed objects are what the sources build.
pub(crate) fn check(workspace: &Path, tools: &Toolchain) -> Result<()> {
    for object in &OBJECTS {
        let name = object.committed();
        let committed = fs::read(workspace.join(&name))
            .with_context(|| format!("reading {name}: `cargo xtask bpf` builds it"))?;
        let built = bytes(object, workspace, tools)?;
        if committed != built {
            bail!("{}", difference(&name, &committed, &built));
        }
        println!(
            "{name} is what the sources build, {COMMENT}{}",
            tools.versions()
        );
    }
    let recorded = fs::read_to_string(workspace.join(CHECKSUM)).unwrap_or_default();
    ensure!(
        recorded == checksum(workspace)?,
        "{CHECKSUM} is not the objects': `cargo xtask bpf` writes it"
    );
    Ok(())
}

/// The lines that `sha256sum` prints of the objects.
fn checksum(workspace: &Path) -> Result<String> {
    let output = Command::new("sha256sum")
        .current_dir(workspace.join(DIRECTORY))
        .args(OBJECTS.iter().map(|object| object.name))
        .stderr(Stdio::inherit())
        .output()
        .context("starting sha256sum")?;
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

/// Says how a committed object differs from what was built, and how to mend it.
fn difference(name: &str, committed: &[u8], built: &[u8]) -> String {
    let same = committed
        .iter()
        .zip(built)
        .take_while(|(a, b)| a == b)
        .count();
    let mut text = format!(
        "{name} is not what the sources build: {} bytes committed, {} built, the first \
         difference at byte {same}.\n",
        committed.len(),
        built.len()
    );
    let [was, is] = [committed, built].map(recorded_versions);
    if was == is {
        text += "Run `cargo xtask bpf` and commit it with the sources.";
    } else {
        let [was, is] = [was, is].map(|versions| versions.unwrap_or("an unknown toolchain"));
        text += &format!(
            "It was {COMMENT}{was}; here there is {is}. Install that toolchain, or run \
             `cargo xtask bpf` with this one and commit it."
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

/// An object's bytes: BTF and line information kept, without DWARF.
fn bytes(object: &Object, workspace: &Path, tools: &Toolchain) -> Result<Vec<u8>> {
    let directory = workspace.join(TARGET_DIRECTORY);
    fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
    let linked = compile(object, workspace, &directory, tools)?;

    let comment = directory.join("comment");
    fs::write(&comment, format!("{COMMENT}{}\0", tools.versions()))
        .with_context(|| format!("writing {}", comment.display()))?;
    let stripped = directory.join(object.name);
    let mut objcopy = Command::new(&tools.objcopy);
    objcopy
        .arg("--strip-debug")
        .arg(format!("--add-section=.comment={}", comment.display()))
        .args([&linked, &stripped]);
    run(&mut objcopy)?;
    let built = fs::read(&stripped).with_context(|| format!("reading {}", stripped.display()))?;
    let elf = ElfFile64::<Endianness>::parse(&*built).context("reading the built object")?;
    for section in [".BTF", ".BTF.ext"] {
        ensure!(
            elf.section_by_name(section).is_some(),
            "the built object has no {section}"
        );
    }
    ensure!(
        object.features != INLINED || calls(&elf)? == 0,
        "{} has calls between functions: one is not inlined",
        object.name
    );
    Ok(built)
}

/// How many calls of functions its programs have.
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
fn compile(
    object: &Object,
    workspace: &Path,
    directory: &Path,
    tools: &Toolchain,
) -> Result<PathBuf> {
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
        .args(["--features", object.features])
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
    fn checksums_name_the_objects_as_the_package_does() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let lines = checksum(&workspace).expect("every system with coreutils has sha256sum");
        let names = lines.lines().map(|line| line.split_once("  "));
        let names: Option<Vec<(&str, &str)>> = names.collect();
        let names = names.expect("two blanks between checksum and name");
        assert_eq!(names.len(), OBJECTS.len());
        for ((sum, name), object) in names.into_iter().zip(&OBJECTS) {
            assert_eq!(sum.len(), 64);
            assert_eq!(name, object.name);
        }
    }

    #[test]
    fn what_old_kernels_load_calls_no_functions() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let calls = OBJECTS.map(|object| {
            let built = fs::read(workspace.join(object.committed())).expect("it is committed");
            let elf = ElfFile64::parse(&*built).expect("an ELF file");
            calls(&elf).expect("sections with names")
        });
        assert!(calls[0] > 0, "{calls:?}");
        assert_eq!(calls[1], 0, "{calls:?}");
    }

    #[test]
    fn an_object_tells_the_toolchain_that_built_it() {
        let object = b"\x7fELF..built with rustc 1.96.0, LLVM 22\0.symtab\0";
        assert_eq!(recorded_versions(object), Some("rustc 1.96.0, LLVM 22"));
        assert_eq!(recorded_versions(b"\x7fELF"), None);
    }

    #[test]
    fn changed_sources_ask_for_a_rebuild() {
        let text = difference("probes.bpf.o", b"abXbuilt with 1\0", b"abYbuilt with 1\0");
        assert!(text.contains("first difference at byte 2"), "{text}");
        assert!(text.contains("Run `cargo xtask bpf`"), "{text}");
    }

    #[test]
    fn a_changed_toolchain_is_named() {
        let text = difference("probes.bpf.o", b"built with 1\0", b"built with 2\0");
        assert!(text.contains("built with 1; here there is 2"), "{text}");
    }
}
