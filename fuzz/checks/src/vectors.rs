//! The packet vectors of the core's tests, as inputs to start from.
//!
//! The form of the files is told in `shards/tests/vectors/main.rs`.

use shards::ids::Version;

const FILES: [&str; 8] = [
    include_str!("../../../shards/tests/vectors/connect.txt"),
    include_str!("../../../shards/tests/vectors/connack.txt"),
    include_str!("../../../shards/tests/vectors/publish.txt"),
    include_str!("../../../shards/tests/vectors/acks.txt"),
    include_str!("../../../shards/tests/vectors/subscribe.txt"),
    include_str!("../../../shards/tests/vectors/unsubscribe.txt"),
    include_str!("../../../shards/tests/vectors/disconnect.txt"),
    include_str!("../../../shards/tests/vectors/frame.txt"),
];

/// One packet in one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vector {
    pub version: Version,
    /// The whole packet, fixed header and all; it may be a bad one.
    pub bytes: Vec<u8>,
    /// It is refused.
    pub is_bad: bool,
}

/// All vectors, once for each of their versions.
///
/// # Panics
/// If a file has not the form that the core's tests read.
#[must_use]
pub fn all() -> Vec<Vector> {
    let lines = FILES.iter().flat_map(|text| text.lines());
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).flat_map(of_line).collect()
}

fn of_line(line: &str) -> Vec<Vector> {
    let columns: Vec<&str> = line.split(" | ").map(str::trim).collect();
    let &[_name, versions, bytes, want] = &columns[..] else {
        panic!("not four columns: {line}");
    };
    let of_version = |text| Vector {
        version: match text {
            "31" => Version::V31,
            "311" => Version::V311,
            "5" => Version::V5,
            _ => panic!("no version: {text}"),
        },
        bytes: bytes.split_ascii_whitespace().flat_map(of_token).collect(),
        is_bad: want.starts_with('!'),
    };
    versions.split(',').map(of_version).collect()
}

/// Text in quotes, or pairs of hexadecimal digits.
fn of_token(token: &str) -> Vec<u8> {
    if let Some(text) = token.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        return text.as_bytes().to_vec();
    }
    let digits: Vec<char> = token.chars().collect();
    let byte = |pair: &[char]| {
        let text: String = pair.iter().collect();
        u8::from_str_radix(&text, 16).unwrap_or_else(|_| panic!("no hexadecimal digits: {token}"))
    };
    digits.chunks(2).map(byte).collect()
}
