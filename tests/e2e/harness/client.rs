//! A blocking MQTT client over one `TcpStream`, for scenarios that must know every byte.
//!
//! It waits with one generous deadline and panics when that passes; it never sleeps and never
//! retries. Packets that a wait skips over are kept, in order, for the next one.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use super::broker::Broker;
use super::wire::{self, Connect, Packet, Prop, Publish};

/// Far above anything a working broker needs, also on a loaded machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    /// What lies between it and MQTT, if anything does.
    tls: Option<Box<rustls::ClientConnection>>,
    version: u8,
    /// Bytes read and not yet decoded: `bytes[start..]`.
    bytes: Vec<u8>,
    start: usize,
    aside: VecDeque<Packet>,
    id_last: u16,
    /// Session Present of the CONNACK.
    pub(crate) present: bool,
    /// Properties of the CONNACK.
    pub(crate) props: Vec<Prop>,
}

impl Client {
    /// A network connection on which nothing has been said.
    pub(crate) fn open(broker: &Broker, version: u8) -> Self {
        Self::open_at(broker.addr, version)
    }

    /// The same to another listener than the first.
    pub(crate) fn open_at(address: SocketAddr, version: u8) -> Self {
        let stream = TcpStream::connect(address).expect("connect to the broker");
        stream.set_nodelay(true).expect("no delay");
        stream.set_read_timeout(Some(DEADLINE)).expect("read timeout");
        stream.set_write_timeout(Some(DEADLINE)).expect("write timeout");
        Self {
            stream,
            tls: None,
            version,
            bytes: Vec::new(),
            start: 0,
            aside: VecDeque::new(),
            id_last: 0,
            present: false,
            props: Vec::new(),
        }
    }

    /// A connection with TLS to `localhost`; the handshake takes place with the first packet.
    pub(crate) fn open_tls(
        address: SocketAddr,
        version: u8,
        config: &Arc<rustls::ClientConfig>,
    ) -> Self {
        let mut client = Self::open_at(address, version);
        let name = "localhost".try_into().expect("a name");
        let tls = rustls::ClientConnection::new(Arc::clone(config), name).expect("a configuration");
        client.tls = Some(Box::new(tls));
        client
    }

    /// Sends CONNECT and returns whatever CONNACK says.
    pub(crate) fn offer(broker: &Broker, connect: &Connect) -> (Self, u8) {
        Self::open(broker, connect.version).introduce(connect)
    }

    /// The same on a connection that is open.
    #[track_caller]
    pub(crate) fn introduce(self, connect: &Connect) -> (Self, u8) {
        let mut client = self;
        client.send(&connect.encode());
        let code = client.connack();
        (client, code)
    }

    /// Takes the CONNACK; its code.
    #[track_caller]
    pub(crate) fn connack(&mut self) -> u8 {
        let Packet::Connack { present, code, props } = self.recv() else {
            panic!("the first packet is not a CONNACK");
        };
        self.present = present;
        self.props = props;
        code
    }

    #[track_caller]
    pub(crate) fn connect(broker: &Broker, connect: &Connect) -> Self {
        let (client, code) = Self::offer(broker, connect);
        assert_eq!(code, 0, "CONNACK for {connect:?}");
        assert!(connect.version == 5 || client.props.is_empty(), "properties before 5.0");
        client
    }

    /// Clean start, no keep alive.
    #[track_caller]
    pub(crate) fn plain(broker: &Broker, version: u8, client_id: &str) -> Self {
        Self::connect(broker, &Connect::new(version, client_id))
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.write_all(bytes).expect("the broker takes what is sent");
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return self.stream.write_all(bytes) };
        let mut stream = rustls::Stream::new(&mut **tls, &mut self.stream);
        stream.write_all(bytes)?;
        stream.flush()
    }

    fn read(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.stream.read(chunk) };
        rustls::Stream::new(&mut **tls, &mut self.stream).read(chunk)
    }

    /// Sends as much as the broker takes before it closes; the scenario looks at the answer.
    pub(crate) fn send_lossy(&mut self, bytes: &[u8]) {
        // A broker that rejects the first bytes may reset before the last are written.
        let _ = self.write_all(bytes);
    }

    /// The next packet. Panics at the end of the stream and at the deadline.
    #[track_caller]
    pub(crate) fn recv(&mut self) -> Packet {
        self.recv_or_end().expect("a packet, not the end of the connection")
    }

    /// The next packet, or `None` when the broker has closed.
    #[track_caller]
    pub(crate) fn recv_or_end(&mut self) -> Option<Packet> {
        if let Some(packet) = self.aside.pop_front() {
            return Some(packet);
        }
        self.read_packet()
    }

    /// Everything that comes until the broker closes.
    #[track_caller]
    pub(crate) fn until_end(&mut self) -> Vec<Packet> {
        let mut packets = Vec::new();
        while let Some(packet) = self.recv_or_end() {
            packets.push(packet);
        }
        packets
    }

    /// The first packet that `wanted` takes; the others stay for later.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, wanted: impl Fn(&Packet) -> bool) -> Packet {
        if let Some(index) = self.aside.iter().position(&wanted) {
            return self.aside.remove(index).expect("the position is in range");
        }
        loop {
            let Some(packet) = self.read_packet() else {
                panic!("connection ended; received before: {:?}", self.aside);
            };
            if wanted(&packet) {
                return packet;
            }
            self.aside.push_back(packet);
        }
    }

    /// The bytes of the next packet, for tests of the form itself. Nothing may be kept aside.
    #[track_caller]
    pub(crate) fn recv_bytes(&mut self) -> Vec<u8> {
        assert!(self.aside.is_empty(), "skipped over: {:?}", self.aside);
        let (_, bytes) = self.read_frame().expect("a packet, not the end of the connection");
        bytes
    }

    #[track_caller]
    fn read_packet(&mut self) -> Option<Packet> {
        let (body, bytes) = self.read_frame()?;
        Some(Packet::decode(bytes[0], self.version, &bytes[body..]))
    }

    /// A whole packet, and where its body begins.
    #[track_caller]
    fn read_frame(&mut self) -> Option<(usize, Vec<u8>)> {
        loop {
            if let Some((body, end)) = frame(&self.bytes[self.start..]) {
                let bytes = self.bytes[self.start..self.start + end].to_vec();
                self.start += end;
                return Some((body, bytes));
            }
            self.bytes.drain(..self.start);
            self.start = 0;
            let mut chunk = [0; 16 * 1024];
            match self.read(&mut chunk) {
                Ok(0) => {
                    assert!(self.bytes.is_empty(), "cut in a packet: {:02x?}", self.bytes);
                    return None;
                }
                Ok(count) => self.bytes.extend_from_slice(&chunk[..count]),
                Err(e) if e.kind() == ErrorKind::ConnectionReset => return None,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => panic!("no packet within {DEADLINE:?}: {e}; aside {:?}", self.aside),
            }
        }
    }

    /// A packet identifier that was not used shortly before.
    pub(crate) fn next_id(&mut self) -> u16 {
        self.id_last = self.id_last.checked_add(1).unwrap_or(1);
        self.id_last
    }

    /// Subscribes to one filter; the reason code.
    #[track_caller]
    pub(crate) fn subscribe(&mut self, filter: &str, options: u8) -> u8 {
        self.subscribe_with(&[(filter, options)], &[])[0]
    }

    #[track_caller]
    pub(crate) fn subscribe_with(&mut self, filters: &[(&str, u8)], props: &[Prop]) -> Vec<u8> {
        let id = self.next_id();
        self.send(&wire::subscribe(self.version, id, filters, props));
        let suback = self.wait_for(|p| matches!(p, Packet::Suback { id: of, .. } if *of == id));
        let Packet::Suback { codes, .. } = suback else { unreachable!("matched above") };
        assert_eq!(codes.len(), filters.len(), "one code for each filter");
        codes
    }

    #[track_caller]
    pub(crate) fn unsubscribe(&mut self, filters: &[&str]) -> Vec<u8> {
        let id = self.next_id();
        self.send(&wire::unsubscribe(self.version, id, filters));
        let packet = self.wait_for(|p| matches!(p, Packet::Unsuback { id: of, .. } if *of == id));
        let Packet::Unsuback { codes, .. } = packet else { unreachable!("matched above") };
        codes
    }

    /// Publishes and sees the exchange through to its end.
    #[track_caller]
    pub(crate) fn publish(&mut self, topic: &str, payload: impl AsRef<[u8]>, qos: u8) {
        self.publish_as(Publish::new(topic, payload, qos));
    }

    /// As [`Self::publish`]; returns the reason code of PUBACK or PUBREC.
    #[track_caller]
    pub(crate) fn publish_as(&mut self, mut publish: Publish) -> u8 {
        if publish.qos > 0 {
            publish.id = self.next_id();
        }
        let id = publish.id;
        self.send(&publish.encode(self.version));
        match publish.qos {
            0 => 0,
            1 => {
                let ack =
                    self.wait_for(|p| matches!(p, Packet::Puback { id: of, .. } if *of == id));
                let Packet::Puback { code, .. } = ack else { unreachable!("matched above") };
                code
            }
            _ => {
                let ack =
                    self.wait_for(|p| matches!(p, Packet::Pubrec { id: of, .. } if *of == id));
                let Packet::Pubrec { code, .. } = ack else { unreachable!("matched above") };
                if code < 0x80 {
                    self.send(&wire::ack(wire::PUBREL, id));
                    self.wait_for(|p| matches!(p, Packet::Pubcomp { id: of, .. } if *of == id));
                }
                code
            }
        }
    }

    /// Sees the exchanges of messages that were sent together through to their end.
    #[track_caller]
    pub(crate) fn complete(&mut self, ids: &[u16], qos: u8) {
        for &of in ids {
            match qos {
                0 => {}
                1 => {
                    self.wait_for(|p| matches!(p, Packet::Puback { id, .. } if *id == of));
                }
                _ => {
                    self.wait_for(|p| matches!(p, Packet::Pubrec { id, .. } if *id == of));
                    self.send(&wire::ack(wire::PUBREL, of));
                    self.wait_for(|p| matches!(p, Packet::Pubcomp { id, .. } if *id == of));
                }
            }
        }
    }

    /// Publishes the numbers from 0 as payload, `window` of them unacknowledged at most.
    #[track_caller]
    pub(crate) fn publish_window(&mut self, topic: &str, count: u32, qos: u8, window: u32) {
        let (mut sent, mut done) = (0, 0);
        while done < count {
            let mut bytes = Vec::new();
            while sent < count && sent - done < window {
                let mut publish = Publish::new(topic, sent.to_be_bytes(), qos);
                if qos > 0 {
                    publish.id = self.next_id();
                }
                bytes.extend(publish.encode(self.version));
                sent += 1;
            }
            self.send(&bytes);
            match (qos, if qos == 0 { Packet::Pingresp } else { self.recv() }) {
                (0, _) => done = sent,
                (1, Packet::Puback { code, .. }) => {
                    assert!(code < 0x80, "PUBACK 0x{code:02x}");
                    done += 1;
                }
                (_, Packet::Pubrec { id, code }) => {
                    assert!(code < 0x80, "PUBREC 0x{code:02x}");
                    self.send(&wire::ack(wire::PUBREL, id));
                }
                (_, Packet::Pubcomp { .. }) => done += 1,
                (_, other) => panic!("a publisher gets {other:?}"),
            }
        }
    }

    /// The next application message, its exchange seen through to its end.
    #[track_caller]
    pub(crate) fn message(&mut self) -> Publish {
        let publish = self.message_unacked();
        self.acknowledge(&publish);
        publish
    }

    /// The next application message; what is owed for it is the scenario's business.
    #[track_caller]
    pub(crate) fn message_unacked(&mut self) -> Publish {
        match self.wait_for(|p| matches!(p, Packet::Publish(_))) {
            Packet::Publish(publish) => publish,
            other => unreachable!("matched above: {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn acknowledge(&mut self, publish: &Publish) {
        let id = publish.id;
        match publish.qos {
            0 => {}
            1 => self.send(&wire::ack(wire::PUBACK, id)),
            _ => {
                self.send(&wire::ack(wire::PUBREC, id));
                self.wait_for(|p| matches!(p, Packet::Pubrel { id: of, .. } if *of == id));
                self.send(&wire::ack(wire::PUBCOMP, id));
            }
        }
    }

    /// A round trip on this connection.
    #[track_caller]
    pub(crate) fn ping(&mut self) {
        self.send(&wire::PINGREQ);
        self.wait_for(|p| matches!(p, Packet::Pingresp));
    }

    /// Panics if an application message came before the answer to a ping. A message that is still on
    /// its way between shards is not seen: this finds a broken promise often, and never a kept one.
    #[track_caller]
    pub(crate) fn assert_no_message(&mut self) {
        self.ping();
        let message = self.aside.iter().find(|p| matches!(p, Packet::Publish(_)));
        assert_eq!(message, None, "no message is due");
    }

    /// Normal disconnection; returns when the broker has closed too.
    #[track_caller]
    pub(crate) fn disconnect(mut self) {
        self.send(&wire::DISCONNECT);
        self.until_end();
    }

    /// FIN: nothing more will be said, so what is incomplete stays so.
    pub(crate) fn finish_writing(&self) {
        // The broker may have closed first.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Ends the connection without a DISCONNECT: FIN, and waits for the broker to close.
    #[track_caller]
    pub(crate) fn vanish(mut self) {
        self.finish_writing();
        self.until_end();
    }

    /// Sends what the kernel takes without waiting; how much that is.
    pub(crate) fn send_greedily(&mut self, bytes: &[u8]) -> usize {
        self.stream.set_nonblocking(true).expect("a socket option");
        // It takes none when the broker does not read, or has closed.
        let taken = self.stream.write(bytes).unwrap_or(0);
        self.stream.set_nonblocking(false).expect("a socket option");
        taken
    }

    /// True if the broker has closed or sent something that was not read yet.
    pub(crate) fn has_news(&self) -> bool {
        self.stream.set_nonblocking(true).expect("a socket option");
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).expect("a socket option");
        !peeked.is_err_and(|e| e.kind() == ErrorKind::WouldBlock)
    }

    /// True if the broker ends the handshake instead of answering these bytes.
    pub(crate) fn is_refused_by_tls(&mut self, bytes: &[u8]) -> bool {
        // In TLS 1.3 the client is done first: it learns of the refusal when it reads.
        self.write_all(bytes).is_err() || self.read(&mut [0; 16]).map_or(true, |read| read == 0)
    }

    /// Ends the connection with a TCP reset.
    pub(crate) fn reset(self) {
        set_socket_linger(&self.stream, Some(Duration::ZERO)).expect("SO_LINGER");
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

/// Where the body begins and where the packet ends, if it is whole.
fn frame(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for (index, byte) in bytes.iter().enumerate().skip(1) {
        assert!(index <= 4, "remaining length of more than four bytes");
        length |= usize::from(byte & 0x7F) << (7 * (index - 1));
        if *byte < 0x80 {
            let end = index + 1 + length;
            return (bytes.len() >= end).then_some((index + 1, end));
        }
    }
    None
}
