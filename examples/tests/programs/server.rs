use std::path::Path;

use crate::process::{Running, command, run, turn};
use crate::report::{check, number};

/// A server on a free port, and its address.
fn server(options: &str) -> (Running, String) {
    let options = format!("--listen 127.0.0.1:0 {options}");
    let mut server = Running::start(command("server", &options));
    let line = server.wait_for("listening at ");
    let address = line.rsplit(' ').next().expect("it ends with the address");
    let address = address.to_owned();
    (server, address)
}

fn file(directory: &tempfile::TempDir, name: &str) -> String {
    let file: &Path = &directory.path().join(name);
    file.to_str().expect("its name is text").to_owned()
}

#[test]
fn both_ends_agree_on_what_arrived() {
    let _turn = turn();
    let (server, address) = server("--flows 3 --json");
    let options = format!("--connect {address} --flows 3 --seconds 1 --json");
    let sent = run(command("client", &options)).json();
    let received = server.end().json();
    check(&sent, 3);
    assert_eq!(number(&received, "/flows"), 3.0);
    assert_eq!(
        number(&received, "/received_bytes"),
        number(&sent, "/acked_bytes")
    );
}

#[test]
fn a_server_ends_with_its_summary_when_interrupted() {
    let _turn = turn();
    let (mut server, address) = server("--json");
    let options = format!("--connect {address} --seconds 0.5 --json");
    let sent = run(command("client", &options)).json();
    server.wait_for("Mbit/s");
    server.interrupt();
    let received = server.end().json();
    assert_eq!(
        number(&received, "/received_bytes"),
        number(&sent, "/acked_bytes")
    );
}

#[test]
fn a_client_notices_that_the_server_went_away() {
    let _turn = turn();
    let (server, address) = server("--seconds 1.5");
    let options = format!("--connect {address} --seconds 30 --json");
    let ended = run(command("client", &options));
    assert!(server.end().status.success());
    let complaint = ended.complaint();
    assert!(complaint.contains("the server ends"), "{complaint}");
    let last = ended.stdout.lines().last().unwrap_or_default();
    let so_far = serde_json::from_str(last).expect("the summary so far");
    assert!(number(&so_far, "/acked_bytes") > 0.0);
}

#[test]
fn a_client_with_a_certificate_talks_to_its_owner_alone() {
    let _turn = turn();
    let directory = tempfile::tempdir().unwrap();
    let (right, wrong) = (file(&directory, "right"), file(&directory, "wrong"));
    let (_impostor, impostor) = server(&format!("--cert {wrong}"));
    let (_server, address) = server(&format!("--cert {right}"));
    let client = |address: &str| {
        let options = format!("--connect {address} --cert {right} --seconds 0.2 --source none");
        run(command("client", &options))
    };
    assert!(client(&address).status.success());
    let refused = client(&impostor);
    assert!(refused.complaint().contains("certificate"), "{refused:?}");
}
