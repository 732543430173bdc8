//! Frames out of a byte stream: in whatever pieces it comes, they are the same.
//!
//! Input: the largest packet (two bytes), then pairs of a piece's length and its bytes.

use shards::codec::{Framed, frame};
use shards::reject::Reject;

/// Where the frames of a stream begin and end, and how it ends.
#[derive(Debug, PartialEq, Eq)]
struct Cut {
    frames: Vec<(u8, Vec<u8>)>,
    /// Bytes of the last, cut frame, or what is wrong behind the last whole one.
    end: Result<usize, Reject>,
}

/// # Panics
/// If the pieces give other frames than the whole.
pub fn check(data: &[u8]) {
    let [high, low, rest @ ..] = data else { return };
    let packet_bytes_max = u32::from(u16::from_be_bytes([*high, *low]));
    let pieces = pieces(rest);
    let whole = cut_whole(&pieces.concat(), packet_bytes_max);
    assert_eq!(cut_pieces(&pieces, packet_bytes_max), whole);
}

/// Pieces of at most 15 bytes: a piece begins with its length, as far as there are bytes.
fn pieces(mut data: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    while let Some((&count, rest)) = data.split_first() {
        let (piece, rest) = rest.split_at(usize::from(count & 0x0F).min(rest.len()));
        pieces.push(piece);
        data = rest;
    }
    pieces
}

fn cut_whole(bytes: &[u8], packet_bytes_max: u32) -> Cut {
    let mut frames = Vec::new();
    let mut at = 0;
    let end = loop {
        match frame(&bytes[at..], packet_bytes_max) {
            Ok(Framed::Whole(frame)) => {
                assert!(frame.len >= 2 && frame.len <= packet_bytes_max as usize);
                assert_eq!(bytes[at], frame.first);
                assert!(bytes[at..at + frame.len].ends_with(frame.body));
                frames.push((frame.first, frame.body.to_vec()));
                at += frame.len;
            }
            Ok(Framed::Cut { needed }) => {
                let rest = bytes.len() - at;
                assert!(needed.is_none_or(|needed| needed > rest), "nothing is missing");
                break Ok(rest);
            }
            Err(reject) => break Err(reject),
        }
    };
    Cut { frames, end }
}

/// As a connection does it: the bytes of a cut frame are kept until the rest has come.
fn cut_pieces(pieces: &[&[u8]], packet_bytes_max: u32) -> Cut {
    let mut frames = Vec::new();
    let mut kept = Vec::new();
    // What the header of the kept frame announced.
    let mut announced = None;
    for piece in pieces {
        kept.extend_from_slice(piece);
        loop {
            match frame(&kept, packet_bytes_max) {
                Ok(Framed::Whole(frame)) => {
                    assert!(announced.is_none_or(|len| len == frame.len), "the length has changed");
                    announced = None;
                    frames.push((frame.first, frame.body.to_vec()));
                    let used = frame.len;
                    kept.drain(..used);
                }
                Ok(Framed::Cut { needed }) => {
                    assert!(announced.is_none() || announced == needed, "the length has changed");
                    announced = needed;
                    break;
                }
                Err(reject) => return Cut { frames, end: Err(reject) },
            }
        }
    }
    Cut { frames, end: Ok(kept.len()) }
}
