//! As little of an MQTT 3.1.1 client as asking a broker for its decisions needs.

use std::collections::BTreeSet;
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Far above anything a working broker needs, also on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(30);

const CONNACK: u8 = 2;
const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;
const SUBACK: u8 = 9;
const PINGRESP: u8 = 13;

/// One connection, and the messages that came over it so far.
#[derive(Debug)]
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    /// Topic and payload.
    messages: BTreeSet<(String, String)>,
}

impl Client {
    /// Clean session, no keep alive; the password is the user name.
    #[track_caller]
    pub(crate) fn connect(addr: SocketAddr, client_id: &str, user: Option<&str>) -> Self {
        let stream = TcpStream::connect(addr).expect("connect to the broker");
        stream.set_nodelay(true).expect("no delay");
        stream.set_read_timeout(Some(DEADLINE)).expect("read timeout");
        stream.set_write_timeout(Some(DEADLINE)).expect("write timeout");
        let mut client = Self { stream: BufReader::new(stream), messages: BTreeSet::new() };
        let flags = 0x02 | if user.is_some() { 0xC0 } else { 0 };
        let mut body = [&text("MQTT")[..], &[4, flags, 0, 0], &text(client_id)].concat();
        if let Some(user) = user {
            body.extend([text(user), text(user)].concat());
        }
        client.send(0x10, &body);
        assert_eq!(client.wait_for(CONNACK), [0, 0], "CONNACK for {client_id:?}, {user:?}");
        client
    }

    #[track_caller]
    pub(crate) fn subscribe(&mut self, filters: &[&str]) {
        let entries = filters.iter().flat_map(|filter| [&text(filter)[..], &[0]].concat());
        let body: Vec<u8> = [0, 1].into_iter().chain(entries).collect();
        self.send(0x82, &body);
        let granted = self.wait_for(SUBACK);
        assert_eq!(granted.len(), 2 + filters.len(), "SUBACK for {filters:?}");
    }

    /// Publishes `payload` to all topics, and waits until the broker has taken all of them.
    #[track_caller]
    pub(crate) fn publish(&mut self, topics: &[&str], payload: &str) {
        for (index, topic) in topics.iter().enumerate() {
            let id = u16::try_from(index + 1).expect("few topics").to_be_bytes();
            self.send(0x32, &[&text(topic)[..], &id, payload.as_bytes()].concat());
        }
        for _ in topics {
            self.wait_for(PUBACK);
        }
    }

    /// The topics of all messages with this payload that the broker had for this client before now, or of
    /// all messages whatsoever.
    #[track_caller]
    pub(crate) fn received(&mut self, payload: Option<&str>) -> BTreeSet<String> {
        // The second question is read in a later turn of the broker's loop: whatever it put off to the
        // end of the first has come by then.
        for _ in 0..2 {
            self.send(0xC0, &[]);
            self.wait_for(PINGRESP);
        }
        let is_asked = |message: &&(String, String)| payload.is_none_or(|text| message.1 == text);
        self.messages.iter().filter(is_asked).map(|(topic, _)| topic.clone()).collect()
    }

    fn send(&mut self, first: u8, body: &[u8]) {
        let mut packet = vec![first];
        let mut left = body.len();
        loop {
            let low = u8::try_from(left % 128).expect("a remainder");
            left /= 128;
            packet.push(if left > 0 { low | 0x80 } else { low });
            if left == 0 {
                break;
            }
        }
        packet.extend_from_slice(body);
        self.stream.get_mut().write_all(&packet).expect("the broker takes what is sent");
    }

    /// The body of the next packet of this kind; messages before it are kept.
    #[track_caller]
    fn wait_for(&mut self, kind: u8) -> Vec<u8> {
        loop {
            let (first, body) = self.receive();
            match first >> 4 {
                PUBLISH => self.keep(&body),
                came => {
                    assert_eq!(came, kind, "kind of packet");
                    return body;
                }
            }
        }
    }

    /// Messages are at QoS 0, as the subscriptions are.
    fn keep(&mut self, body: &[u8]) {
        let (length, rest) = body.split_first_chunk().expect("a topic");
        let (topic, payload) = rest.split_at(usize::from(u16::from_be_bytes(*length)));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.messages.insert((text(topic), text(payload)));
    }

    #[track_caller]
    fn receive(&mut self) -> (u8, Vec<u8>) {
        let first = self.byte();
        let mut length = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte();
            length |= usize::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("a whole packet");
        (first, body)
    }

    #[track_caller]
    fn byte(&mut self) -> u8 {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).expect("a packet before the connection's end");
        byte[0]
    }
}

fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("short texts").to_be_bytes();
    [&length, text.as_bytes()].concat()
}
