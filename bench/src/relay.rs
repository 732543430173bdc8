//! The floors: relays that move the same bytes from publishers to subscribers and know nothing of
//! MQTT. What a broker needs beyond this is the price of MQTT.
//!
//! A connection begins with a [`Greeting`], answered by [`WELCOME`]. Afterwards whatever a publisher
//! of a channel sends is appended, in whole records, to what is sent to each subscriber of the
//! channel: one send for each subscriber and turn. Records all have the length that the greeting
//! says, so that messages of several publishers do not get mixed.
//!
//! A relay can be told to make one kind of mistake, to show that the load generator notices.

use std::io;
use std::net::{SocketAddr, TcpListener};

use crate::net::{Ending, Handler, Key, Net, Outs};

/// The answer to a greeting: the connection has its role.
pub(crate) const WELCOME: &[u8] = b"FLOW";

const MAGIC: &[u8] = b"FLOR";

/// Bytes before the channels.
const HEAD_BYTES: usize = 11;

/// Channels there may be.
const CHANNELS_MAX: u32 = 1 << 20;

/// What may wait for one subscriber; more is dropped.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Publisher,
    Subscriber,
}

/// A deliberate mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Fault {
    /// A record is not sent.
    Drop,
    /// A record is sent twice.
    Duplicate,
    /// A record is sent after the one behind it.
    Reorder,
}

/// Every so many records of a publisher, a mistake.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    pub(crate) fault: Fault,
    pub(crate) every: u64,
}

/// First bytes of a connection: magic, role, record length, channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub(crate) role: Role,
    pub(crate) record_bytes: u32,
    pub(crate) channels: Vec<u32>,
}

impl Greeting {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(MAGIC);
        out.push(match self.role {
            Role::Publisher => b'P',
            Role::Subscriber => b'S',
        });
        out.extend_from_slice(&self.record_bytes.to_be_bytes());
        let count = u16::try_from(self.channels.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&count.to_be_bytes());
        for channel in self.channels.iter().take(usize::from(count)) {
            out.extend_from_slice(&channel.to_be_bytes());
        }
    }

    /// The greeting at the start of `bytes` and its length; `Ok(None)` if it is cut.
    fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, ()> {
        let Some(head) = bytes.first_chunk::<HEAD_BYTES>() else {
            return Ok(None);
        };
        let [m0, m1, m2, m3, role, r0, r1, r2, r3, c0, c1] = *head;
        let role = match role {
            b'P' => Role::Publisher,
            b'S' => Role::Subscriber,
            _ => return Err(()),
        };
        let record_bytes = u32::from_be_bytes([r0, r1, r2, r3]);
        let count = usize::from(u16::from_be_bytes([c0, c1]));
        if [m0, m1, m2, m3] != MAGIC || record_bytes == 0 {
            return Err(());
        }
        let end = HEAD_BYTES + count * size_of::<u32>();
        let Some(list) = bytes.get(HEAD_BYTES..end) else {
            return Ok(None);
        };
        let (list, _) = list.as_chunks::<{ size_of::<u32>() }>();
        let channels: Vec<u32> = list.iter().map(|channel| u32::from_be_bytes(*channel)).collect();
        if channels.iter().any(|channel| *channel >= CHANNELS_MAX) {
            return Err(());
        }
        Ok(Some((Self { role, record_bytes, channels }, end)))
    }
}

/// Runs a relay on `listener` until the process ends.
pub(crate) fn run(
    mut net: impl Net,
    listener: TcpListener,
    faults: Option<Faults>,
) -> io::Result<()> {
    let address: SocketAddr = listener.local_addr()?;
    net.listen(listener)?;
    // The same words as the broker's, so that both are started alike.
    eprintln!("listening addr={address}");
    eprintln!("ready");
    let mut relay = Relay { conns: Vec::new(), channels: Vec::new(), faults };
    loop {
        net.turn(None, &mut relay)?;
    }
}

/// All connections and channels.
#[derive(Debug)]
struct Relay {
    conns: Vec<Conn>,
    /// Subscribers by channel.
    channels: Vec<Vec<Key>>,
    faults: Option<Faults>,
}

#[derive(Debug, Default)]
struct Conn {
    greeting: Option<Greeting>,
    /// The start of a greeting or of a record whose rest has not come yet.
    cut: Vec<u8>,
    records: u64,
    /// A record that waits for the one behind it.
    held: Vec<u8>,
}

impl Handler for Relay {
    fn opened(&mut self, key: Key, _outs: &mut Outs) {
        if self.conns.len() <= key.index() {
            self.conns.resize_with(key.index() + 1, Conn::default);
        }
        self.conns[key.index()] = Conn::default();
    }

    fn received(&mut self, key: Key, bytes: &[u8], outs: &mut Outs) {
        let conn = &mut self.conns[key.index()];
        if conn.greeting.is_none() {
            conn.cut.extend_from_slice(bytes);
            self.greet(key, outs);
        } else if conn.cut.is_empty() {
            self.forward(key, bytes, outs);
        } else {
            // At most one record, completed from what has come now.
            let whole = self.complete(key, bytes);
            let (head, rest) = bytes.split_at(whole);
            self.conns[key.index()].cut.extend_from_slice(head);
            let cut = std::mem::take(&mut self.conns[key.index()].cut);
            self.forward(key, &cut, outs);
            self.forward(key, rest, outs);
        }
    }

    fn closed(&mut self, key: Key, _error: Option<io::Error>, _outs: &mut Outs) {
        let conn = std::mem::take(&mut self.conns[key.index()]);
        for channel in conn.greeting.into_iter().flat_map(|greeting| greeting.channels) {
            if let Some(subscribers) = self.channels.get_mut(channel as usize) {
                subscribers.retain(|subscriber| *subscriber != key);
            }
        }
    }
}

impl Relay {
    fn greet(&mut self, key: Key, outs: &mut Outs) {
        let conn = &mut self.conns[key.index()];
        let (greeting, end) = match Greeting::decode(&conn.cut) {
            Ok(Some(found)) => found,
            Ok(None) => return,
            Err(()) => return outs.end(key, Ending::Now),
        };
        let rest = conn.cut.split_off(end);
        conn.cut.clear();
        for channel in &greeting.channels {
            let index = *channel as usize;
            if self.channels.len() <= index {
                self.channels.resize_with(index + 1, Vec::new);
            }
            if greeting.role == Role::Subscriber {
                self.channels[index].push(key);
            }
        }
        conn.greeting = Some(greeting);
        outs.buffer(key).extend_from_slice(WELCOME);
        if !rest.is_empty() {
            self.forward(key, &rest, outs);
        }
    }

    /// How many of `bytes` complete the record that is cut.
    fn complete(&self, key: Key, bytes: &[u8]) -> usize {
        let conn = &self.conns[key.index()];
        let record = conn.greeting.as_ref().map_or(1, |greeting| greeting.record_bytes as usize);
        record.saturating_sub(conn.cut.len()).min(bytes.len())
    }

    /// Appends the whole records of `bytes` to each subscriber and keeps the rest.
    fn forward(&mut self, key: Key, bytes: &[u8], outs: &mut Outs) {
        let conn = &mut self.conns[key.index()];
        let Some(greeting) = &conn.greeting else { return };
        if greeting.role == Role::Subscriber {
            return;
        }
        let record = greeting.record_bytes as usize;
        let (whole, rest) = bytes.split_at(bytes.len() - bytes.len() % record);
        conn.cut.extend_from_slice(rest);
        if let Some(faults) = self.faults {
            let wrong = conn.spoil(whole, record, faults);
            spread(&self.channels, self.conns[key.index()].greeting.as_ref(), &wrong, outs);
        } else {
            spread(&self.channels, conn.greeting.as_ref(), whole, outs);
        }
    }
}

/// Appends `bytes` to all subscribers of the publisher's channels.
fn spread(channels: &[Vec<Key>], greeting: Option<&Greeting>, bytes: &[u8], outs: &mut Outs) {
    if bytes.is_empty() {
        return;
    }
    for channel in greeting.iter().flat_map(|greeting| &greeting.channels) {
        for subscriber in channels.get(*channel as usize).into_iter().flatten() {
            if outs.waiting(*subscriber) <= WAITING_BYTES_MAX {
                outs.buffer(*subscriber).extend_from_slice(bytes);
            }
        }
    }
}

impl Conn {
    /// `whole` with a mistake in every `faults.every`th record.
    fn spoil(&mut self, whole: &[u8], record: usize, faults: Faults) -> Vec<u8> {
        let mut wrong = Vec::with_capacity(whole.len());
        for bytes in whole.chunks_exact(record) {
            self.records += 1;
            let is_due = self.records.is_multiple_of(faults.every);
            match (is_due, faults.fault) {
                (true, Fault::Drop) => {}
                (true, Fault::Duplicate) => {
                    wrong.extend_from_slice(bytes);
                    wrong.extend_from_slice(bytes);
                }
                (true, Fault::Reorder) => self.held.extend_from_slice(bytes),
                (false, _) => {
                    wrong.extend_from_slice(bytes);
                    wrong.append(&mut self.held);
                }
            }
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greeting_in_pieces() {
        let greeting =
            Greeting { role: Role::Subscriber, record_bytes: 80, channels: vec![0, 1, 70_000] };
        let mut bytes = Vec::new();
        greeting.encode(&mut bytes);
        for cut in 0..bytes.len() {
            assert_eq!(Greeting::decode(&bytes[..cut]), Ok(None));
        }
        assert_eq!(Greeting::decode(&bytes), Ok(Some((greeting, bytes.len()))));
        assert_eq!(Greeting::decode(b"GET / HTTP/1.1\r\n"), Err(()));
    }

    #[track_caller]
    fn check(fault: Fault, want: &[u8]) {
        let mut conn = Conn::default();
        assert_eq!(conn.spoil(b"abcdef", 1, Faults { fault, every: 3 }), want);
    }

    #[test]
    fn mistakes_are_those_asked_for() {
        check(Fault::Drop, b"abde");
        check(Fault::Duplicate, b"abccdeff");
        check(Fault::Reorder, b"abdce");
    }
}
