use std::error::Error;
use std::{env, fmt};

/// The environment variable that promises the privilege and the programs that the tests
/// need: with the value `1`, a test that lacks one fails.
pub const REQUIRE_PRIVILEGE: &str = "NETLAB_REQUIRE_PRIVILEGE";

/// Debian's packages of the programs that tests use.
const PACKAGES: [(&str, &str); 9] = [
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("ss", "iproute2"),
    ("nft", "nftables"),
    ("iperf3", "iperf3"),
    ("wg", "wireguard-tools"),
    ("setpriv", "util-linux"),
    ("strace", "strace"),
    ("ethtool", "ethtool"),
];

/// Why a test cannot run here. A test returns it as its error.
#[derive(Debug)]
pub struct Skip {
    why: String,
    promised: bool,
}

impl Skip {
    /// The running kernel, or the machine, lacks what the test is about; no environment variable
    /// can require it.
    #[must_use]
    pub fn new(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            promised: false,
        }
    }

    /// A privilege or a program is missing, which [`REQUIRE_PRIVILEGE`] may promise.
    fn missing(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            promised: env::var(REQUIRE_PRIVILEGE).is_ok_and(|value| value == "1"),
        }
    }

    pub(crate) fn breaks_promise(&self) -> bool {
        self.promised
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One line: it is one of a list.
        f.write_str(&self.why.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

impl Error for Skip {}

/// For a test that needs a privilege or a program: `missing` is why it is not there and what would
/// change that, or `None`.
///
/// # Errors
///
/// [`Skip`] when it is missing. The test fails then where [`REQUIRE_PRIVILEGE`] is set to `1`.
pub fn require(missing: Option<impl Into<String>>) -> Result<(), Skip> {
    missing.map_or(Ok(()), |why| Err(Skip::missing(why)))
}

/// For a test that runs a program.
///
/// # Errors
///
/// As [`require`], with the package to install.
pub fn require_program(name: &str) -> Result<(), Skip> {
    let path = env::var_os("PATH").unwrap_or_default();
    let there = env::split_paths(&path).any(|directory| directory.join(name).is_file());
    require((!there).then(|| advice(name)))
}

fn advice(name: &str) -> String {
    let known = PACKAGES.iter().find(|(program, _)| *program == name);
    let package = known.map_or(name, |(_, package)| package);
    format!("no program {name}: install {package} (Debian: apt-get install {package})")
}
