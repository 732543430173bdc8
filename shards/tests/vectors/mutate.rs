//! Damaged packets: none makes the codec panic, and whatever it takes it can say again.

use shards::codec::{Frame, Framed, Packet, decode, frame, refused_version};
use shards::ids::Version;

use crate::chance::Chance;
use crate::{LARGEST, Vector, read, summary, vectors};

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

/// Bytes on which the codec's decisions turn.
const EDGES: [u8; 16] = [
    0x00, 0x01, 0x02, 0x04, 0x05, 0x0B, 0x1F, 0x23, 0x26, 0x2B, 0x7F, 0x80, 0xC0, 0xED, 0xFE, 0xFF,
];

#[test]
fn no_damage_makes_it_panic() {
    let good: Vec<Vector> = vectors().into_iter().filter(Vector::is_good).collect();
    let mut chance = Chance::new(0x6d75_7269_6e67);
    let mut taken = 0;
    for _ in 0..200_000 {
        let vector = &good[chance.below(good.len())];
        let donor = &good[chance.below(good.len())];
        let mut bytes = vector.bytes.clone();
        for _ in 0..=chance.below(3) {
            damage(&mut bytes, &donor.bytes, &mut chance);
        }
        // Mostly in the packet's own version: in another it often fails at once.
        let version = if chance.below(4) == 0 { chance.pick(&VERSIONS) } else { vector.version };
        taken += u32::from(is_taken(&bytes, version, &mut chance));
    }
    // Damage that is always refused would test little, damage that never is as well.
    assert!((20_000..180_000).contains(&taken), "{taken} packets were taken");
}

fn damage(bytes: &mut Vec<u8>, donor: &[u8], chance: &mut Chance) {
    if bytes.is_empty() {
        bytes.push(chance.byte());
    }
    let at = chance.below(bytes.len());
    match chance.below(7) {
        0 => bytes[at] = chance.byte(),
        1 => bytes[at] = chance.pick(&EDGES),
        2 => bytes[at] ^= 1 << chance.below(8),
        3 => bytes.insert(at, chance.pick(&EDGES)),
        4 => drop(bytes.remove(at)),
        5 => bytes.truncate(at),
        _ => {
            bytes.truncate(at);
            bytes.extend_from_slice(&donor[chance.below(donor.len())..]);
        }
    }
}

/// Reads damaged bytes as they are, or as the body of a frame that fits them.
fn is_taken(bytes: &[u8], version: Version, chance: &mut Chance) -> bool {
    let framed = if chance.below(4) == 0 {
        frame(bytes, chance.pick(&[LARGEST, 20]))
    } else if let &[first, _, ref body @ ..] = bytes {
        Ok(Framed::Whole(Frame { first, body, len: bytes.len() }))
    } else {
        return false;
    };
    let Ok(Framed::Whole(whole)) = framed else { return false };
    let answer_version = refused_version(&whole);
    let Ok(packet) = decode(&whole, version) else { return false };
    if let Packet::Connect(connect) = &packet {
        assert_eq!(answer_version, Some(connect.version));
    }
    let line = summary::of(&packet);
    let mut out = Vec::new();
    packet.encode(version, &mut out);
    let again = read(&out, version);
    assert_eq!(again.as_ref(), Ok(&packet), "{line}: {bytes:02x?}");
    assert_eq!(again.map(|packet| summary::of(&packet)), Ok(line));
    true
}

#[test]
fn noise_makes_no_panic() {
    let mut chance = Chance::new(1);
    for _ in 0..50_000 {
        let count = chance.below(40);
        let bytes: Vec<u8> = (0..count).map(|_| chance.byte()).collect();
        let version = chance.pick(&VERSIONS);
        is_taken(&bytes, version, &mut chance);
    }
}
