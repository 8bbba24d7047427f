use std::net::ToSocketAddrs;
use std::path::Path;

use crate::process::{Running, command, run};
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
fn a_server_is_found_by_its_hosts_name_and_one_upload_is_not_called_several() {
    // Whichever family this host prefers.
    let mut addresses = ("localhost", 0).to_socket_addrs().unwrap();
    let local = addresses.next().expect("every host has one");
    let mut server = Running::start(command("server", &format!("--listen {local} --flows 1")));
    let line = server.wait_for("listening at ");
    let (_, port) = line.rsplit_once(':').expect("it ends with the port");
    let options = format!("--connect localhost:{port} --seconds 0.5");
    let sent = run(command("client", &options));
    assert!(sent.status.success(), "{sent:?}");
    assert!(!sent.stdout.contains("min 0 µs"), "{sent:?}");
    let received = server.end();
    assert!(
        received.stdout.contains("Summary: 1 upload, "),
        "{received:?}"
    );

    let nowhere = run(command("client", "--connect no-such-host.invalid:4433"));
    let complaint = nowhere.complaint();
    assert!(
        complaint.contains("cannot find the host of no-such-host.invalid:4433"),
        "{complaint}"
    );
}

#[test]
fn both_ends_agree_on_what_was_downloaded() {
    let directory = tempfile::tempdir().unwrap();
    let trace = file(&directory, "trace");
    let (server, address) = server(&format!("--flows 3 --json --trace {trace}"));
    let options = format!("--connect {address} --flows 3 --seconds 1 --download --json");
    let received = run(command("client", &options)).json();
    let sent = server.end().json();
    let sent = &sent["downloads"];
    check(sent, 3);
    // What arrived while the server heard of the end.
    let more = number(sent, "/acked_bytes") / number(&received, "/received_bytes");
    assert!((1.0..1.2).contains(&more), "{sent} {received}");

    let rows = examples::trace::read(Path::new(&trace)).unwrap();
    let flows = rows.iter().map(|row| row.flow).max();
    assert_eq!(flows, Some(2));
    let last = |flow| rows.iter().rfind(|row| row.flow == flow).unwrap();
    let traced: u64 = (0..3).map(|flow| last(flow).delivered_bytes).sum();
    let share = traced as f64 / number(sent, "/acked_bytes");
    assert!((0.5..=1.0).contains(&share), "{share}");
}

#[test]
fn bursts_and_staggered_flows_are_sent_as_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let trace = file(&directory, "trace");
    let (_server, address) = server("");
    let options = format!(
        "--connect {address} --seconds 1.5 --flows 2 --stagger 0.5 --burst 20000 --pause 0.05 \
         --trace {trace} --json"
    );
    let sent = run(command("client", &options)).json();
    let bursts = number(&sent, "/bursts_us/count");
    assert!((5.0..60.0).contains(&bursts), "{sent}");
    assert!(number(&sent, "/bursts_us/max") >= number(&sent, "/bursts_us/p50"));
    // The last may have been cut short.
    let whole = bursts * 20_000.0;
    assert!(
        (whole..whole + 40_003.0).contains(&number(&sent, "/acked_bytes")),
        "{sent}"
    );

    let rows = examples::trace::read(Path::new(&trace)).unwrap();
    let began = |flow| {
        let arrived = rows
            .iter()
            .find(|row| row.flow == flow && row.delivered_bytes > 0);
        arrived.unwrap().t
    };
    assert!(began(1) >= 0.5, "{}", began(1));
    assert!(began(0) < began(1));
}

#[test]
fn a_server_ends_with_its_summary_when_interrupted() {
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
    // Long enough for a client to load probes on a busy machine.
    let (server, address) = server("--seconds 5");
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
