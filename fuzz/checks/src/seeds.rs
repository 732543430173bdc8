//! The first inputs of every target, made from the packet vectors and a few texts, so that no binary
//! files need to be kept.

use shards::codec::{Framed, frame};
use shards::ids::Version;
use shards::rng::Rng;

use crate::jwt;
use crate::transport::REQUEST;
use crate::vectors::{self, Vector};
use crate::{TARGETS, passwd, scram, version_byte};

/// Packet type of CONNECT, in the upper half of the first byte.
const CONNECT: u8 = 1;

const PING: [u8; 2] = [0xC0, 0];

/// Packets that a client may send.
const FROM_CLIENTS: [u8; 11] = [CONNECT, 3, 4, 5, 6, 7, 8, 10, 12, 14, 15];

const FILTERS: [&str; 14] = [
    "a/b\na/b",
    "a/+\na/b",
    "a/#\na",
    "#\na/b/c",
    "+/b\n/b",
    "#\n$SYS/x",
    "$SYS/#\n$SYS/x",
    "$share/g/a/+\na/b",
    "$share//a\na",
    "$share/g\na",
    "a/#/b\na",
    "a+\na",
    "//\n//",
    "ä/€\nä/€",
];

const CONFIGS: [&str; 13] = [
    "\0listen = [\"127.0.0.1:1883\", \"[::1]:1883\"]\nshards = 2\ncores = \"0-1,3\"\nidle = \"spin\"\n",
    "\0idle = 25\nlog = \"json\"\nlog_level = \"debug\"\n[session]\noverflow = \"refuse\"\n",
    "\0[limits]\nlinger_ms = -1\n",
    "\0[share]\nstrategy = \"sticky\"\n[mqtt]\nmaximum_qos = 3\n",
    "\0[limits]\npacket_bytes_maxx = 5\n",
    "\0[[listener]]\nkind = \"mqtts\"\naddress = \"127.0.0.1:1\"\nauthentication = [\"x509\"]\n\
     [listener.tls]\ncertificate = \"a\"\nkey = \"b\"\nclient_ca = \"c\"\n\
     client_certificates = \"required\"\nidentity = \"common_name\"\n\
     [[listener.tls.additional]]\ncertificate = \"d\"\nkey = \"file:e\"\n",
    "\0[[listener]]\nkind = \"unix\"\npath = \"a\"\nmode = \"600\"\nowner = \"0:0\"\n\
     [[listener]]\nkind = \"ws\"\naddress = \"[::1]:0\"\nproxy_protocol = true\n\
     proxy_networks = [\"10.0.0.0/8\"]\n[listener.websocket]\norigins = [\"http://a\"]\n",
    "\0[[listener]]\naddress = \"127.0.0.1:0\"\nauthentication = [\"password\", \"jwt\"]\n\
     mount_point = \"m/\"\n[auth.password]\nfile = \"a\"\n[auth.jwt]\nsecret = \"file:b\"\n\
     [auth.jwt.claims]\na = \"b\"\n[admission]\npenalty_s = 900\n",
    "\0[[listener]]\n[[listener]]\nkind = \"unix\"\n",
    "\u{2}MURING_AUTH_JWT_SECRET=env:MURING_X\nMURING_X=a\nMURING_ACL_FILE=a/../b\n",
    "\u{1}limits.linger_ms=5\nsession.overflow=disconnect\nshards=3\ncores=0-3\n",
    "\u{2}MURING_SHARDS=2\nMURING_LIMITS_LINGER_MS=7\nMURING_IDLE=park\n",
    "\u{2}MURING_SESSION_EMPTY_CLIENT_ID=no\nMURING_SERVICE_HOST=10.0.0.1\n",
];

/// List, client identifier, user name, topic, filter.
const ACLS: [&str; 10] = [
    "topic a/#\ntopic deny a/b\n\0c\0\0a/b\0a/+",
    "user ann\ntopic read a/+\nuser bob\ntopic write #\n\0c\0ann\0a/x\0#",
    "pattern dev/%c/%u/#\npattern deny dev/%c/secret\n\0c\0u\0dev/c/u/x\0dev/c/#",
    "pattern read %u\n\0c\0\0c\0+",
    "pattern %c/#\n\0+\0u\0x/y\0+/y",
    "topic $SYS/#\n\0c\0\0$SYS/broker/connection/b/state\0$SYS/#",
    "# c\n\n  topic  readwrite  a b\r\n\0c\0\0a b\0a b",
    "topic read\ntopic deny\n\0c\0\0deny\0$share/g/deny",
    "topic bad line\n",
    "user  \n",
];

const CLAIMS: [&str; 8] = [
    r#"{"sub":"ann","exp":2000000}"#,
    r#"{"sub":"ann","exp":2000000,"nbf":1000001}"#,
    r#"{"sub":"ann","exp":1000000.5,"pub":["a/%c","b/+/#"],"subs":"%u"}"#,
    r#"{"sub":"+","exp":1e10,"pub":"%u"}"#,
    r#"{"sub":"a","sub":"b","exp":2000000}"#,
    r#"{"sub":"ann","exp":999999}"#,
    r#"{"sub":"ann","exp":2000000,"aud":["x"]}"#,
    r#"[{"exp":{}},[[[]]],"\ud83d\ude42",-0.5e3,null,true]"#,
];

/// The inputs of one target. Empty for a name that no target has.
#[must_use]
pub fn of(target: &str) -> Vec<Vec<u8>> {
    let vectors = vectors::all();
    match target {
        "frame" => frames(&vectors),
        "chunks" => chunks(&vectors),
        "conn" => conns(&vectors),
        "filter" => FILTERS.iter().map(|text| text.as_bytes().to_vec()).collect(),
        "config" => configs(),
        "acl" => ACLS.iter().map(|text| text.as_bytes().to_vec()).collect(),
        "jwt" => tokens(),
        "passwd" => passwds(),
        "scram" => scrams(),
        "proxy" => proxies(),
        "websocket" => websockets(),
        "tls" => handshakes(),
        "trie" => noise(1, 24),
        "session" => noise(2, 48),
        packet => packets(packet, &vectors),
    }
}

/// All targets with their first inputs.
pub fn all() -> impl Iterator<Item = (&'static str, Vec<Vec<u8>>)> {
    TARGETS.iter().map(|&(name, _)| (name, of(name)))
}

/// Streams of packets in pieces of three bytes.
fn frames(vectors: &[Vector]) -> Vec<Vec<u8>> {
    let input = |bytes: &[u8]| {
        let pieces = bytes.chunks(3).flat_map(|piece| {
            let count = u8::try_from(piece.len()).expect("three at most");
            std::iter::once(count).chain(piece.iter().copied())
        });
        [0xFF, 0xFF].into_iter().chain(pieces).collect()
    };
    vectors.chunks(4).map(|some| input(&join(some))).collect()
}

fn join(vectors: &[Vector]) -> Vec<u8> {
    vectors.iter().flat_map(|vector| vector.bytes.iter().copied()).collect()
}

fn type_of(vector: &Vector) -> u8 {
    vector.bytes.first().map_or(0, |first| first >> 4)
}

/// What a client of this version could send after its CONNECT.
fn of_client(vectors: &[Vector], version: Version) -> Vec<Vector> {
    let is_it = |vector: &&Vector| {
        let kind = type_of(vector);
        vector.version == version && kind != CONNECT && FROM_CLIENTS.contains(&kind)
    };
    vectors.iter().filter(is_it).cloned().collect()
}

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

fn chunks(vectors: &[Vector]) -> Vec<Vec<u8>> {
    let connects = vectors.iter().filter(|vector| type_of(vector) == CONNECT);
    let mut inputs: Vec<Vec<u8>> =
        connects.map(|vector| [&[0, 0, 1], &*vector.bytes].concat()).collect();
    for version in VERSIONS {
        let good = of_client(vectors, version).into_iter().filter(|vector| !vector.is_bad);
        for some in good.collect::<Vec<_>>().chunks(5) {
            for before in [0x04, 0x08] {
                // Congruent to the version modulo 3, whatever the other bits say.
                let before = (before..=u8::MAX)
                    .find(|byte| byte & 0x0C == before && byte % 3 == version_byte(version));
                inputs.extend(before.map(|before| [&[before, 0, 9], &*join(some)].concat()));
            }
        }
    }
    inputs
}

fn conns(vectors: &[Vector]) -> Vec<Vec<u8>> {
    let connects = vectors.iter().filter(|vector| type_of(vector) == CONNECT);
    let mut inputs: Vec<Vec<u8>> =
        connects.map(|vector| [&[0, 1, 3], &*vector.bytes].concat()).collect();
    for version in VERSIONS {
        let packets = of_client(vectors, version);
        for (number, some) in packets.chunks(4).enumerate() {
            let number = u8::try_from(number % 256).expect("a remainder");
            let state = (0..=0x7F_u8)
                .find(|byte| byte >> 2 == 1 + number % 7 && byte % 3 == version_byte(version));
            let setup = number.wrapping_mul(0x1D);
            inputs.extend(state.map(|state| [&[state, setup, number], &*join(some)].concat()));
        }
    }
    inputs
}

fn configs() -> Vec<Vec<u8>> {
    let example = format!("\0{}", include_str!("../../../config/muring.toml"));
    let texts = CONFIGS.iter().map(|text| text.as_bytes().to_vec());
    texts.chain([example.into_bytes()]).collect()
}

/// Payloads, the tokens that they make, and one that another key signed.
fn tokens() -> Vec<Vec<u8>> {
    let payloads = CLAIMS.iter().map(|claims| [&[1], claims.as_bytes()].concat());
    let signed = CLAIMS.iter().map(|claims| jwt::sign(claims.as_bytes()));
    let tokens = signed.chain([jwt::SIGNED.to_owned()]);
    payloads.chain(tokens.map(|token| [&[0], token.as_bytes()].concat())).collect()
}

fn passwds() -> Vec<Vec<u8>> {
    let scram = format!("anna\nanna:{}\n  # comment\nbert:{0}", passwd::ENTRY);
    let sha512 = format!("x\nbert:$6$AQIDBAUGBwgJCgsM${}==\n", "A".repeat(86));
    let pbkdf2 = format!("x y\r\n bert : $7$101$AQIDBAUGBwgJCgsM${}==\r\n", "A".repeat(86));
    let argon2id = "carl\ncarl:$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$\
        nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4\n";
    let plain = "x\n# plain\n\nanna:secret\nbert:pa:ss\n";
    [scram, sha512, pbkdf2, argon2id.to_owned(), plain.to_owned()].map(String::into_bytes).into()
}

fn scrams() -> Vec<Vec<u8>> {
    let last = scram::LAST;
    [
        format!("\u{1}{last}"),
        format!("\0n,,n=user,r=abc\n{last}"),
        format!("\0y,a=user,n=user,r=abc,x=y\n{}", last.replace("biws", "eSxhPXVzZXIs")),
        format!("\0n,,n=no=2Cbo=3Ddy,r=abc\n{last}"),
        format!("\0n,,m=x,n=user,r=abc\n{last}"),
        format!("\0p=tls-exporter,,n=user,r=abc\n{last}"),
    ]
    .map(String::into_bytes)
    .into()
}

/// Headers of both versions, and a packet behind them.
fn proxies() -> Vec<Vec<u8>> {
    let binary = |head: &[u8], body: &[u8]| [b"\r\n\r\n\0\r\nQUIT\n", head, body].concat();
    let headers = [
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 1883\r\n".to_vec(),
        b"PROXY TCP6 2001:db8::1 ::ffff:1.2.3.4 65535 0\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        binary(&[0x20, 0, 0, 0], &[]),
        binary(&[0x21, 0, 0, 4], &[4, 0, 1, 0]),
        binary(&[0x21, 0x11, 0, 17], &[192, 0, 2, 1, 192, 0, 2, 2, 3, 232, 7, 91, 4, 0, 2, 0, 0]),
        binary(&[0x21, 0x21, 0, 36], &[1; 36]),
    ];
    let lengths = [0, 4, 30].into_iter().cycle();
    headers
        .iter()
        .zip(lengths)
        .map(|(header, length)| [&[length], &**header, &PING].concat())
        .collect()
}

/// Requests, and frames of all kinds.
fn websockets() -> Vec<Vec<u8>> {
    let request = [&[2], REQUEST, &[0x82, 0x82, 1, 2, 3, 4, 0xC1, 2]].concat();
    let elsewhere = [&[8], &b"GET / HTTP/1.1\r\nOrigin: null\r\n\r\n"[..]].concat();
    let mask = [1, 2, 3, 4];
    let frame = |head: &[u8], body: &[u8]| [head, &mask, body].concat();
    let long = [7; 300];
    let frames = [
        frame(&[0x82, 0x82], &PING),
        [frame(&[0x02, 0x81], &[9]), frame(&[0x89, 0x80], &[]), frame(&[0x80, 0x81], &[9])]
            .concat(),
        [frame(&[0x82, 0xFE, 1, 44], &long), frame(&[0x8A, 0x82], &PING)].concat(),
        frame(&[0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0, 2], &PING),
        frame(&[0x88, 0x82], &[3 ^ 1, 0xE8 ^ 2]),
        frame(&[0x88, 0x85], &[3 ^ 1, 0xE9 ^ 2, b'b' ^ 3, b'y' ^ 4, b'e' ^ 1]),
        frame(&[0x81, 0x82], b"hi"),
    ];
    let frames = frames.iter().map(|frame| [&[9], &**frame].concat());
    frames.chain([request, elsewhere]).collect()
}

/// Records of all kinds, before, within and after a handshake.
fn handshakes() -> Vec<Vec<u8>> {
    let records: [&[u8]; 6] = [
        &[22, 3, 1, 0, 6, 1, 0, 0, 2, 3, 3],
        &[22, 3, 3, 0, 4, 1, 0, 255, 255, 22, 3, 3, 0, 1, 0],
        &[20, 3, 3, 0, 1, 1],
        &[21, 3, 3, 0, 2, 1, 0],
        &[23, 3, 3, 0, 17, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17],
        &[0x80, 0x2E, 1, 3, 1],
    ];
    let after = |flights: u8| records.into_iter().map(move |record| [&[flights], record].concat());
    (0..4).flat_map(after).collect()
}

/// Operations are read out of any bytes.
fn noise(seed: u64, count: usize) -> Vec<Vec<u8>> {
    let mut rng = Rng::new(seed);
    let mut input = |index: usize| {
        let words = 4 + 4 * index;
        (0..words).flat_map(|_| rng.next_u64().to_le_bytes()).collect()
    };
    (0..count).map(&mut input).collect()
}

/// Version, first byte and what stands behind the remaining length.
fn packets(target: &str, vectors: &[Vector]) -> Vec<Vec<u8>> {
    let kinds = TARGETS.iter().filter(|(name, _)| name.starts_with("packet_"));
    let Some(kind) = kinds.map(|(name, _)| *name).position(|name| name == target) else {
        return Vec::new();
    };
    let inputs = vectors.iter().filter(|vector| usize::from(type_of(vector)) == kind + 1);
    inputs
        .filter_map(|vector| {
            let Ok(Framed::Whole(whole)) = frame(&vector.bytes, u32::MAX) else { return None };
            Some([&[version_byte(vector.version), whole.first], whole.body].concat())
        })
        .collect()
}
