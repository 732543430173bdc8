//! The codec against byte vectors.
//!
//! A line of a vector file is `name | version | bytes | what it is`. Bytes are in hex, or in quotes
//! for ASCII. What it is:
//!
//! - `= summary`: decodes to this, and encodes to the same bytes again
//! - `~ summary`: decodes to this; other bytes say the same more briefly, or by the rules of 3.1
//! - `! 81`: is refused with this reason code
//!
//! The version is 31, 311, 5, or a list like `31,311`.

mod chance;
mod matrix;
mod mutate;
mod render;
mod round_trip;
mod summary;

use shards::codec::{Frame, Framed, Packet, decode, frame};
use shards::ids::Version;
use shards::reject::Reject;

const FILES: [(&str, &str); 8] = [
    ("connect.txt", include_str!("connect.txt")),
    ("connack.txt", include_str!("connack.txt")),
    ("publish.txt", include_str!("publish.txt")),
    ("acks.txt", include_str!("acks.txt")),
    ("subscribe.txt", include_str!("subscribe.txt")),
    ("unsubscribe.txt", include_str!("unsubscribe.txt")),
    ("disconnect.txt", include_str!("disconnect.txt")),
    ("frame.txt", include_str!("frame.txt")),
];

/// As large as the protocol allows.
const LARGEST: u32 = 268_435_460;

pub(crate) struct Vector {
    /// File, line and name, to find it again.
    place: String,
    pub(crate) version: Version,
    pub(crate) bytes: Vec<u8>,
    want: &'static str,
}

impl Vector {
    pub(crate) fn is_good(&self) -> bool {
        !self.want.starts_with('!')
    }
}

pub(crate) fn vectors() -> Vec<Vector> {
    let mut vectors = Vec::new();
    for (file, text) in FILES {
        for (index, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let columns: Vec<&'static str> = line.split(" | ").map(str::trim).collect();
            let &[name, versions, bytes, want] = &columns[..] else {
                panic!("{file}:{}: not four columns", index + 1);
            };
            for version in versions.split(',') {
                let place = format!("{file}: {name} ({version}), line {}", index + 1);
                let bytes = parse_bytes(bytes);
                vectors.push(Vector { place, version: parse_version(version), bytes, want });
            }
        }
    }
    vectors
}

fn parse_version(text: &str) -> Version {
    match text {
        "31" => Version::V31,
        "311" => Version::V311,
        "5" => Version::V5,
        _ => panic!("no version: {text}"),
    }
}

fn parse_bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for token in text.split_ascii_whitespace() {
        if let Some(ascii) = token.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            bytes.extend_from_slice(ascii.as_bytes());
            continue;
        }
        for pair in token.as_bytes().chunks(2) {
            let digits = str::from_utf8(pair).expect("hex is ASCII");
            bytes.push(u8::from_str_radix(digits, 16).expect("two hex digits"));
        }
    }
    bytes
}

/// Frame and decode in one; the packet must take all bytes.
pub(crate) fn read(bytes: &[u8], version: Version) -> Result<Packet<'_>, Reject> {
    match frame(bytes, LARGEST)? {
        Framed::Whole(frame) => {
            assert_eq!(frame.len, bytes.len(), "bytes behind the packet");
            decode(&frame, version)
        }
        Framed::Cut { needed } => panic!("cut: {needed:?} bytes needed of {}", bytes.len()),
    }
}

#[track_caller]
fn check(vector: &Vector) {
    let Vector { place, version, bytes, want } = vector;
    let (kind, want) = want.split_at(1);
    let want = want.trim();
    match read(bytes, *version) {
        Ok(packet) => {
            assert_ne!(kind, "!", "{place}: {} was taken", summary::of(&packet));
            assert_eq!(summary::of(&packet), want, "{place}");
            check_encode(vector, &packet, kind == "=");
        }
        Err(reject) => {
            assert_eq!(kind, "!", "{place}: {reject}");
            assert_eq!(format!("{:02x}", reject.reason.byte()), want, "{place}: {reject}");
        }
    }
}

#[track_caller]
fn check_encode(vector: &Vector, packet: &Packet<'_>, is_canonical: bool) {
    let Vector { place, version, bytes, .. } = vector;
    let mut out = b"before".to_vec();
    packet.encode(*version, &mut out);
    let encoded = out.strip_prefix(b"before").expect("encode appends");
    assert_eq!(encoded == bytes, is_canonical, "{place}: {encoded:02x?}");
    assert_eq!(read(encoded, *version).as_ref(), Ok(packet), "{place}: written and read again");
    assert_eq!(packet.kind() as u8, bytes[0] >> 4, "{place}");
}

#[test]
fn every_vector_is_read_as_it_says() {
    let vectors = vectors();
    assert!(vectors.len() >= 250, "only {} vectors", vectors.len());
    for vector in &vectors {
        check(vector);
    }
}

#[test]
fn every_part_of_a_packet_is_cut() {
    for Vector { place, bytes, .. } in vectors().iter().filter(|vector| vector.is_good()) {
        for cut in 0..bytes.len() {
            let needed = match frame(&bytes[..cut], LARGEST) {
                Ok(Framed::Cut { needed }) => needed,
                other => panic!("{place}: {cut} bytes are {other:?}"),
            };
            assert!(needed.is_none_or(|needed| needed == bytes.len()), "{place}: {needed:?}");
            // All packets here are short enough for a remaining length of at most two bytes.
            assert!(needed.is_some() || cut < 3, "{place}: {cut} bytes");
        }
    }
}

/// A body that ends early, behind a remaining length that says so. Payloads and lists may end
/// anywhere; whatever is taken must be writable and mean the same again.
#[test]
fn every_short_body_is_refused_or_consistent() {
    for Vector { place, version, bytes, .. } in vectors().iter().filter(|vector| vector.is_good()) {
        let Ok(Framed::Whole(whole)) = frame(bytes, LARGEST) else { panic!("{place}") };
        for cut in 0..whole.body.len() {
            let short = Frame { first: whole.first, body: &whole.body[..cut], len: 2 + cut };
            let Ok(packet) = decode(&short, *version) else { continue };
            let mut out = Vec::new();
            packet.encode(*version, &mut out);
            assert_eq!(read(&out, *version), Ok(packet), "{place}: {cut} bytes of body");
        }
    }
}

#[test]
fn names_of_vectors_are_unique() {
    let vectors = vectors();
    let mut names: Vec<_> = vectors.iter().map(|vector| vector.place.rsplit_once(", ")).collect();
    names.sort_unstable();
    for pair in names.windows(2) {
        assert_ne!(pair[0].map(|(name, _)| name), pair[1].map(|(name, _)| name));
    }
}
