//! Targets that are not there, refuse, answer wrongly or go away; machines that are too small.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use crate::harness::{ran, run};

/// A server on a thread of its own that does the same with each connection.
fn server(with_each: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            with_each(stream);
        }
    });
    address
}

/// Reads something and answers with `answer`.
fn answering(answer: &'static [u8]) -> String {
    let address = server(move |mut stream| {
        let mut some = [0; 64];
        // The client may be gone already.
        let _ = stream.read(&mut some).and_then(|_| stream.write_all(answer));
        let _ = stream.read(&mut some);
    });
    format!("x={address}")
}

#[test]
fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let ran = run("p2p --publishers 1", &format!("x={address}"));
    ran.expect_failure(&["no broker at", &address.to_string(), "Is it running"]);
}

#[test]
fn a_broker_that_refuses() {
    // CONNACK, return code 5: not authorised.
    run("p2p --publishers 1", &answering(&[0x20, 2, 0, 5])).expect_failure(&["refused", "bench-"]);
    // Return code 1, which only 3.1.1 has: it does not speak 5.0.
    run("p2p --publishers 1 --protocol 5.0", &answering(&[0x20, 2, 0, 1]))
        .expect_failure(&["refused", "UnsupportedProtocolVersion"]);
}

#[test]
fn a_broker_that_answers_wrongly() {
    let failure = ["not an answer"];
    run("p2p --publishers 1", &answering(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
        .expect_failure(&failure);
    // A CONNECT, which only clients send.
    let connect = b"\x10\x0c\0\x04MQTT\x04\x02\0\0\0\0";
    run("p2p --publishers 1", &answering(connect)).expect_failure(&failure);
    run("p2p --publishers 1", &answering(&[0x20, 2, 0, 0, 0x20, 2, 0, 0]))
        .expect_failure(&["CONNACK"]);
}

#[test]
fn a_broker_that_closes_instead_of_an_answer() {
    let address = server(drop);
    run("p2p --publishers 1", &format!("x={address}")).expect_failure(&["refused", "CONNECT"]);
}

#[test]
fn a_broker_that_says_nothing() {
    let address = server(|stream| {
        // Kept open for as long as the test runs.
        std::mem::forget(stream);
    });
    let ran = run("p2p --publishers 3 --setup-max 0.2", &format!("x={address}"));
    ran.expect_failure(&["0 of 6 clients", "--setup-max"]);
}

/// A relay that takes a while's messages and then goes away.
#[test]
fn a_broker_that_dies_midway_leaves_marked_results() {
    let address = server(|mut stream| {
        thread::spawn(move || {
            let mut some = [0; 4096];
            let mut taken = 0;
            let _ = stream.write_all(b"FLOW");
            // About 60 of 100 messages; the subscriber sends nothing and waits.
            while taken < 60 * 80 {
                match stream.read(&mut some) {
                    Ok(0) | Err(_) => return,
                    Ok(bytes) => taken += bytes,
                }
            }
        });
    });
    let ran = run("p2p --publishers 1 --rate 400", &format!("floor={address}"));
    ran.expect_failure(&["ended", "broker's log"]);
    assert!(ran.number("sent_all") > 0);
    let error = ran.json.pointer("/result/error").and_then(serde_json::Value::as_str);
    assert!(error.is_some_and(|error| error.contains("ended")), "{error:?}");
}

#[test]
fn too_few_descriptors() {
    let bench = env!("CARGO_BIN_EXE_bench");
    let script = format!(
        "ulimit -n 100 && exec {bench} connect --publishers 200 --no-pin --broker x=127.0.0.1:1"
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    ran(&output).expect_failure(&["200 connections", "264 file descriptors", "ulimit -n 264"]);
}

#[test]
fn too_few_source_ports() {
    let ran = run("connect --publishers 200000 --sources 1", "x=127.0.0.1:1");
    ran.expect_failure(&["200000 connections", "--sources", "ip_local_port_range"]);
}

#[test]
fn a_broker_that_is_not_installed() {
    run("p2p --program nats=/nowhere/nats", "nats").expect_failure(&["/nowhere/nats", "apt-get"]);
    run("p2p", "hivemq").expect_failure(&["no broker", "mosquitto"]);
}

#[test]
fn flags_that_do_not_fit() {
    let one = "x=127.0.0.1:1";
    run("stream --cross all", one).expect_failure(&["--shards"]);
    run("stream --aliases 1", one).expect_failure(&["--protocol 5.0"]);
    run("p2p --publishers 2 --subscribers 3", one).expect_failure(&["pairs"]);
    run("fanin --disturb", one).expect_failure(&["--disturb"]);
    run("p2p --disturb --protocol 5.0 --aliases 3", one).expect_failure(&["--aliases"]);
    run("p2p --rate 0", one).expect_failure(&["--rate"]);
    run("p2p", "x=192.0.2.1:1883").expect_failure(&["127.0.0.0/8"]);
    run("retained", "floor=127.0.0.1:1").expect_failure(&["floor"]);
}
