use std::net::UdpSocket;

use crate::process::{command, run};

#[test]
fn wrong_arguments_are_named_with_what_would_be_right() {
    let cases = [
        ("loopback", "--seconds 0", "more than 0"),
        ("loopback", "--seconds soon", "number of seconds"),
        ("loopback", "--flows 0", "1..=512"),
        ("loopback", "--base reno", "cubic, newreno, bbr"),
        ("loopback", "--governor maybe", "on, off"),
        (
            "loopback",
            "--source guess",
            "auto, ebpf, socket, mock, none",
        ),
        ("loopback", "--burst 1000", "--pause <SECONDS>"),
        ("loopback", "--flows 2", "--flows is for --plain"),
        ("loopback", "--governor off", "--governor is for --plain"),
        ("loopback", "--plain --svg x", "cannot be used with"),
        ("loopback", "--rate 0", "0.5 to 1000 Mbit/s"),
        (
            "loopback",
            "--seconds 2 --flows 3 --stagger 1",
            "a longer --seconds",
        ),
        (
            "client",
            "--connect 127.0.0.1:9 --download --stagger 1",
            "cannot be used with",
        ),
        ("loopback", "--seconds -1", "more than 0"),
        ("loopback", "--rate -1", "0.5 to 1000 Mbit/s"),
        ("loopback", "--flows -1", "1..=512"),
        (
            "client",
            "--connect 127.0.0.1:9 --rebind-after -1",
            "more than 0",
        ),
        (
            "client",
            "--connect 127.0.0.1:9 --burst -1 --pause 1",
            "1..=4294967295",
        ),
        ("server", "--listen [::1]:4433 --flows -1", "1..=65535"),
        ("client", "--seconds 1", "--connect <HOST:PORT>"),
        ("client", "--connect nowhere", "such as example.org:4433"),
        ("server", "--listen [::1]:4433 --seconds -1", "more than 0"),
        ("server", "--json", "--listen <ADDR>"),
    ];
    for (program, arguments, advice) in cases {
        let ended = run(command(program, arguments));
        assert_eq!(ended.status.code(), Some(2), "{program} {arguments}");
        let complaint = ended.complaint();
        assert!(complaint.contains(advice), "{arguments}: {complaint}");
    }
}

#[test]
fn help_names_every_option() {
    for (program, own) in [
        ("loopback", ["--seconds", "--flows"].as_slice()),
        (
            "client",
            &["--seconds", "--trace", "--connect", "--cert", "--download"],
        ),
        (
            "server",
            &[
                "--seconds",
                "--flows",
                "--listen",
                "--cert",
                "--receive-buffer",
            ],
        ),
    ] {
        let ended = run(command(program, "--help"));
        assert!(ended.status.success());
        for option in ["--base", "--governor", "--source", "--json"]
            .iter()
            .chain(own)
        {
            assert!(ended.stdout.contains(option), "{program} {option}");
        }
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let ended = run(command(
        "server",
        &format!("--listen {address} --source none"),
    ));
    let complaint = ended.complaint();
    assert!(complaint.contains(&address.to_string()), "{complaint}");
    assert!(complaint.contains("in use"), "{complaint}");
}

#[test]
fn a_server_that_is_not_there_is_named_with_how_to_start_one() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let ended = run(command(
        "client",
        &format!("--connect {address} --source none"),
    ));
    let complaint = ended.complaint();
    assert!(complaint.contains(&address.to_string()), "{complaint}");
    assert!(complaint.contains("--example server"), "{complaint}");
}

#[test]
fn a_certificate_that_cannot_be_read_is_named() {
    let options = "--connect 127.0.0.1:9 --cert /no/such/file";
    let ended = run(command("client", options));
    let complaint = ended.complaint();
    assert!(complaint.contains("/no/such/file"), "{complaint}");
    assert!(complaint.contains("copy it from the server"), "{complaint}");
}
