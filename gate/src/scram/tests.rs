//! The test vector of RFC 7677, and what a client may and may not say.

use super::*;

const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const BINDING_AND_NONCE: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";

/// Of the user `name` with the password and salt of the vector.
fn passwords(name: &str) -> Passwords {
    let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    let keys = Keys::derive(b"pencil", &salt, NonZeroU32::new(4096).unwrap());
    let line = format!("{name}:{}\n", crate::passwd::Hash::Scram(keys));
    Passwords::parse("file", &line).unwrap()
}

fn disguise() -> Disguise {
    Disguise::new(&[1; 32])
}

fn start(message: &str) -> Result<(Exchange, String), Failure> {
    let begun = begin_with_nonce(message.as_bytes(), SERVER_NONCE, &passwords("user"), &disguise());
    begun.map(|(exchange, answer)| (exchange, String::from_utf8(answer).unwrap()))
}

/// What a client sends that knows the password and does all it must. `first` is its first message.
fn last(password: &str, first: &str, answer: &str, without_proof: &str) -> String {
    let bare = first.splitn(3, ',').nth(2).unwrap();
    let (rest, iterations) = answer.rsplit_once(",i=").unwrap();
    let (_, salt) = rest.rsplit_once(",s=").unwrap();
    let mut salted = [0; KEY_BYTES];
    let salt = STANDARD.decode(salt).unwrap();
    let iterations = iterations.parse().unwrap();
    let password = password.as_bytes();
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, password, &mut salted);
    let key = sign(&salted, b"Client Key");
    let signed = format!("{bare},{answer},{without_proof}");
    let signature = sign(&sha256(&key), signed.as_bytes());
    let proof: Vec<u8> = key.iter().zip(signature).map(|(left, right)| left ^ right).collect();
    format!("{without_proof},p={}", STANDARD.encode(proof))
}

fn nonce_of(answer: &str) -> &str {
    answer.strip_prefix("r=").unwrap().split(',').next().unwrap()
}

#[test]
fn the_vector_of_rfc_7677() {
    let (exchange, answer) = start(FIRST).unwrap();
    assert_eq!(exchange.user(), "user");
    assert_eq!(
        answer,
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );
    let message = format!("{BINDING_AND_NONCE},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
    let answer = exchange.finish(message.as_bytes()).unwrap();
    assert_eq!(answer, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

#[test]
fn wrong_proofs_are_refused() {
    let finish = |message: String| start(FIRST).unwrap().0.finish(message.as_bytes());
    let (_, answer) = start(FIRST).unwrap();
    let good = last("pencil", FIRST, &answer, BINDING_AND_NONCE);
    assert!(finish(good.clone()).is_ok());
    assert_eq!(finish(last("Pencil", FIRST, &answer, BINDING_AND_NONCE)), Err(Failure::Proof));
    let zeros = STANDARD.encode([0; KEY_BYTES]);
    assert_eq!(finish(format!("{BINDING_AND_NONCE},p={zeros}")), Err(Failure::Proof));
    // Signed by the client, but another exchange's.
    let other = BINDING_AND_NONCE.replace("k0", "k1");
    let message = last("pencil", FIRST, &answer, &other);
    assert!(matches!(finish(message), Err(Failure::Malformed(_))));
    // Says that it was told of channel binding.
    let other = BINDING_AND_NONCE.replace("biws", "eSws");
    let message = last("pencil", FIRST, &answer, &other);
    assert_eq!(finish(message), Err(Failure::ChannelBinding));
    for broken in ["", "p=", ",p=", "c=biws", &good.replace(",p=", ",p=="), &good[7..]] {
        assert!(matches!(finish(broken.to_owned()), Err(Failure::Malformed(_))), "{broken}");
    }
    assert_eq!(finish(format!("{good}\0")), Err(Failure::Malformed("has a NUL")));
}

#[test]
fn all_that_a_client_may_say() {
    for first in [
        "y,,n=user,r=abc",
        "n,a=user,n=user,r=abc",
        "n,,n=user,r=abc,x=ignored,y=also=this",
        // Compared as `user`: SASLprep drops soft hyphens.
        "n,,n=us\u{ad}er,r=abc",
    ] {
        let (exchange, answer) = start(first).unwrap();
        let header = first.len() - first.splitn(3, ',').nth(2).unwrap().len();
        let binding = STANDARD.encode(&first[..header]);
        let without_proof = format!("c={binding},r={},z=more", nonce_of(&answer));
        let message = last("pencil", first, &answer, &without_proof);
        exchange.finish(message.as_bytes()).unwrap_or_else(|failure| panic!("{first}: {failure}"));
    }
}

#[test]
fn names_are_unescaped() {
    let passwords = passwords("a,b=c");
    let first = b"n,,n=a=2Cb=3Dc,r=abc";
    let (exchange, _) = begin(first, &[0; NONCE_BYTES], &passwords, &disguise()).unwrap();
    assert_eq!(exchange.user(), "a,b=c");
    assert!(exchange.is_known);
}

#[track_caller]
fn refused(first: &str, failure: Failure) {
    assert_eq!(start(first).map(|(_, answer)| answer), Err(failure), "{first}");
}

#[test]
fn first_messages_that_are_refused() {
    refused("p=tls-exporter,,n=user,r=abc", Failure::ChannelBinding);
    refused("n,,m=x,n=user,r=abc", Failure::Extension);
    refused("n,a=root,n=user,r=abc", Failure::OtherUser);
    refused("n,,n=,r=abc", Failure::UserName);
    refused("n,,n=us\ter,r=abc", Failure::UserName);
    for broken in [
        "",
        "n",
        "n,,",
        "n,",
        "x,,n=user,r=abc",
        "n,b,n=user,r=abc",
        "n,,user,r=abc",
        "n,,n=user",
        "n,,n=user,r=",
        "n,,n=user,r=a b",
        "n,,n=user,r=abc,",
        "n,,n=user,r=abc,x",
        "n,,n=u=ser,r=abc",
        "n,,n=user=2c,r=abc",
        "n,,n=us\0er,r=abc",
        "n,,n=user,r=\u{e4}",
        "n,,r=abc,n=user",
        "n,,n=user,r=abc,1=x",
    ] {
        let failure = start(broken).map(|(_, answer)| answer).unwrap_err();
        assert!(matches!(failure, Failure::Malformed(_)), "{broken}: {failure}");
    }
    let long = format!("n,,n=user,r={}", "a".repeat(NONCE_BYTES_MAX + 1));
    refused(&long, Failure::Malformed("no nonce, or one that is too long"));
    let bytes = begin(b"n,,n=\xFF,r=a", &[0; NONCE_BYTES], &passwords("user"), &disguise());
    assert_eq!(bytes.map(drop), Err(Failure::Malformed("not UTF-8")));
}

/// Two names, one of which is in the file, are answered alike; each the same again; no proof is good.
#[test]
fn unknown_users_look_like_known_ones() {
    let first = FIRST.replace("user", "nobody");
    let (exchange, answer) = start(&first).unwrap();
    let (_, known) = start(FIRST).unwrap();
    assert_eq!(answer.len(), known.len());
    assert_ne!(answer, known);
    assert!(answer.ends_with(",i=4096"));
    assert_eq!(start(&first).unwrap().1, answer);
    assert_ne!(start(&FIRST.replace("user", "nemo12")).unwrap().1, answer);
    let message = last("pencil", &first, &answer, BINDING_AND_NONCE);
    assert_eq!(exchange.finish(message.as_bytes()), Err(Failure::Proof));
    // Of another process.
    let other = Disguise::new(&[2; 32]);
    let (_, other) =
        begin_with_nonce(first.as_bytes(), SERVER_NONCE, &passwords("user"), &other).unwrap();
    assert_ne!(other, answer.as_bytes());
    // A file that has no SCRAM entry at all.
    let nobody = Passwords::default();
    let (_, answer) = begin(first.as_bytes(), &[0; NONCE_BYTES], &nobody, &disguise()).unwrap();
    assert!(answer.ends_with(format!(",i={ITERATIONS}").as_bytes()));
}

/// The stand-in's keys are zeros, and whoever could sign with them is nobody still.
#[test]
fn a_stand_in_lets_nobody_in() {
    let keys = disguise().keys("nobody", None);
    assert_eq!(keys.stored, [0; KEY_BYTES]);
    let (mut exchange, _) = start(FIRST).unwrap();
    exchange.is_known = false;
    let message = format!("{BINDING_AND_NONCE},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
    assert_eq!(exchange.finish(message.as_bytes()), Err(Failure::Proof));
}
