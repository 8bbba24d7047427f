//! The programs that README shows: what a user of quinn changes, and how they are run.

use crate::process::{Running, command};

const README: &str = include_str!("../../../README.md");
const SERVERS: [&str; 2] = [
    include_str!("../../minimal/plain_server.rs"),
    include_str!("../../minimal/server.rs"),
];
const CLIENTS: [&str; 2] = [
    include_str!("../../minimal/plain_client.rs"),
    include_str!("../../minimal/client.rs"),
];

/// Lines of code that only the first has, and only the second.
fn difference<'a>([plain, governed]: [&'a str; 2]) -> (Vec<&'a str>, Vec<&'a str>) {
    let code = |text: &'a str| text.lines().filter(|line| !line.starts_with("//!"));
    let only = |of: &'a str, other: &str| -> Vec<&'a str> {
        code(of)
            .filter(|line| !code_lines(other).contains(line))
            .collect()
    };
    (only(plain, governed), only(governed, plain))
}

fn code_lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

#[test]
fn the_readme_shows_all_that_a_user_of_quinn_changes() {
    for files in [SERVERS, CLIENTS] {
        let (removed, added) = difference(files);
        assert!(
            removed.len() <= added.len() && added.len() <= 3,
            "{added:?}"
        );
        let lines = removed.iter().map(|line| format!("-{line}"));
        for line in lines.chain(added.iter().map(|line| format!("+{line}"))) {
            assert!(README.contains(&line), "README lacks {line}");
        }
    }
}

#[test]
fn the_readmes_commands_for_two_machines_run() {
    // Both on this one, and not for as long.
    let options = |program: &str| {
        let start = format!("cargo run --release --example {program} -- ");
        let line = README.lines().find_map(|line| line.strip_prefix(&start));
        line.expect("README shows it")
            .replace("--seconds 10", "--seconds 1")
    };
    let listen = options("server").replace("0.0.0.0:4433", "127.0.0.1:0");
    let mut server = Running::start(command("server", &listen));
    let line = server.wait_for("listening at ");
    let address = line.rsplit(' ').next().expect("it ends with the address");
    let connect = options("client").replace("192.0.2.1:4433", address);
    let sent = crate::process::run(command("client", &connect));
    assert!(sent.stdout.contains("Summary:\n"), "{sent:?}");
    server.interrupt();
    let received = server.end();
    assert!(
        received.stdout.contains("Summary: 4 uploads"),
        "{received:?}"
    );
}

#[test]
fn governed_and_plain_ends_talk_to_each_other() {
    let directory = tempfile::tempdir().unwrap();
    for [server, client] in [
        ["minimal-server", "minimal-client"],
        ["minimal-server", "plain-client"],
        ["plain-server", "minimal-client"],
    ] {
        let mut server = command(server, "");
        let mut server = Running::start({
            server.current_dir(&directory);
            server
        });
        server.wait_for("listening at 127.0.0.1:4433");
        let mut client = command(client, "");
        client.current_dir(&directory);
        let ended = crate::process::run(client);
        assert!(ended.status.success(), "{ended:?}");
        assert_eq!(ended.stdout, "hello\n");
    }
}
