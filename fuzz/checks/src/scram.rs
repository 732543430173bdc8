//! SCRAM's messages out of arbitrary bytes, in both states of an exchange: no panic, and only who has the
//! password gets in.
//!
//! Input: a byte that says whether the first message is given (odd) or read, and the messages, between
//! them a line end.

use gate::passwd::Passwords;
use gate::scram::{self, Disguise, Failure};

use crate::passwd::ENTRY;

const FIRST: &[u8] = b"n,,n=user,r=abc";

/// What the user sends who has the password, if [`FIRST`] came before and the nonce is of zeros.
pub(crate) const LAST: &str = "c=biws,r=abcAAAAAAAAAAAAAAAAAAAAAAAA,\
    p=/4NsIk3jAho9vwvkF13JbCF9W0XsJTq69sgX2Yc0A+4=";

/// # Panics
/// If an exchange does, or lets somebody in.
pub fn check(data: &[u8]) {
    let Some((&state, messages)) = data.split_first() else { return };
    let middle = messages.iter().position(|&byte| byte == b'\n').unwrap_or(messages.len());
    let (mut first, mut last) = messages.split_at(middle);
    last = last.get(1..).unwrap_or_default();
    if !state.is_multiple_of(2) {
        (first, last) = (FIRST, messages);
    }
    let passwords = Passwords::parse("file", &format!("user:{ENTRY}\n")).expect("a good file");
    let begin =
        || scram::begin(first, &[0; scram::NONCE_BYTES], &passwords, &Disguise::new(&[1; 32]));
    let (Ok((exchange, answer)), Ok((_, again))) = (begin(), begin()) else { return };
    assert_eq!(answer, again, "an answer that varies tells who is unknown");
    assert!(answer.starts_with(b"r=") && answer.ends_with(b",i=4096"));
    let user = exchange.user().to_owned();
    assert!(!user.is_empty());
    match exchange.finish(last) {
        Ok(answer) => {
            assert!(answer.starts_with(b"v="));
            assert_eq!(user, "user", "unknown, and yet let in");
        }
        Err(failure) => {
            assert_ne!((first, last), (FIRST, LAST.as_bytes()), "{failure}");
            assert!(!matches!(
                failure,
                Failure::UserName | Failure::OtherUser | Failure::Extension
            ));
        }
    }
}
