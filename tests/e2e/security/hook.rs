//! The HTTP hook: an application that is asked whether a client may come, that says no, and that says nothing.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use crate::harness::broker::{Broker, Options, scratch_file};
use crate::harness::client::Client;
use crate::harness::wire::Connect;

/// Answers requests by the word in them; each body also goes to who listens. Ends with the process.
fn application() -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (sender, bodies) = channel();
    thread::spawn(move || {
        let mut silent = Vec::new();
        for stream in listener.incoming().map_while(Result::ok) {
            let Some(body) = request(&stream) else { continue };
            let status = if body.contains("open sesame") { "200 OK" } else { "403 Forbidden" };
            if body.contains("say nothing") {
                silent.push(stream);
            } else if body.contains("be broken") {
                let _ = (&stream).write_all(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n");
            } else {
                let answer =
                    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                let _ = (&stream).write_all(answer.as_bytes());
            }
            let _ = sender.send(body);
        }
    });
    (address, bodies)
}

/// The body of a request.
fn request(stream: &TcpStream) -> Option<String> {
    let mut reader = BufReader::new(stream);
    let mut bytes = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim().to_ascii_lowercase();
        if let Some(length) = line.strip_prefix("content-length:") {
            bytes = length.trim().parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; bytes];
    reader.read_exact(&mut body).ok()?;
    String::from_utf8(body).ok()
}

#[test]
fn an_application_decides_who_comes_in() {
    let (application, bodies) = application();
    let config = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\nauthentication = [\"http\"]\n\n\
         [auth.http]\nurl = \"http://{application}/who\"\ntimeout_ms = 500\n"
    );
    for shards in [1, 2] {
        let options = Options::configured(shards, scratch_file("toml", &config));
        let broker = Broker::start_with(&options);
        let login = |word: &str| {
            let connect = Connect::new(5, "ali").login("ali", word);
            let answer = Client::offer(&broker, &connect);
            let body = bodies.recv().expect("the application was asked");
            assert!(body.contains("\"client_id\":\"ali\"") && body.contains("127.0.0.1"), "{body}");
            answer
        };
        let (mut inside, code) = login("open sesame");
        assert_eq!(code, 0);
        inside.ping();
        assert_eq!(login("open barley").1, 0x86);
        // Who may come when the application does not say is nobody; whoever is inside goes on meanwhile.
        assert_eq!(login("be broken").1, 0x88);
        let connect = Connect::new(5, "waits").login("waits", "say nothing");
        let mut waits = Client::open(&broker, 5);
        waits.send(&connect.encode());
        bodies.recv().expect("the application was asked");
        inside.ping();
        assert_eq!(waits.connack(), 0x88);
        inside.ping();
        assert_eq!(broker.log_lines("sesame"), Vec::<String>::new());
    }
}
