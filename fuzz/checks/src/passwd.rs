//! Password files out of arbitrary text: no panic; what is read is printed and read as the same; an error
//! names a line that is there; edits change what they should and nothing else.
//!
//! Input: a user name, a line end, and a file.

use gate::passwd::{self, Hash, ParseError, Passwords};

/// For a SCRAM entry, so that nothing need be computed.
pub(crate) const ENTRY: &str = "SCRAM-SHA-256$4096:AQIDBAUGBwgJCgsMDQ4PEA==$\
    B9Mb8TSkDsvpddTD0BDmSDpJAo08+gvK8zcSCGRjCZw=:0z4kjgndRyJQnA93HtYE376F1vMDI59QM1nDcPyu8Rw=";

/// # Panics
/// If a reader does, or an edit loses something.
pub fn check(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let (user, text) = text.split_once('\n').unwrap_or(("", text));
    let hash = Hash::parse(ENTRY).expect("a good entry");
    match parse(text) {
        Ok(passwords) => {
            let printed = passwords.to_string();
            assert_eq!(parse(&printed), Ok(passwords.clone()), "printed\n{printed}");
            if passwd::check_user(user).is_ok() {
                check_edits(text, user, &hash, &passwords);
            }
        }
        Err(error) => check_error(&error, text),
    }
    let upgrade = |text| passwd::upgrade("file", text, |_| Ok::<_, ParseError>(hash.clone()));
    match upgrade(text) {
        Ok((upgraded, _)) => {
            assert!(parse(&upgraded).is_ok(), "upgraded\n{upgraded}");
            assert_eq!(upgrade(&upgraded), Ok((upgraded.clone(), 0)));
        }
        Err(error) => check_error(&error, text),
    }
}

fn parse(text: &str) -> Result<Passwords, ParseError> {
    Passwords::parse("file", text)
}

fn check_edits(text: &str, user: &str, hash: &Hash, before: &Passwords) {
    let set = passwd::set(text, user, hash);
    let with = parse(&set).unwrap_or_else(|error| panic!("{error}: set\n{set}"));
    assert!(with.scram(user).is_some());
    let deleted = passwd::delete(&set, user).expect("it was just set");
    let without = parse(&deleted).unwrap_or_else(|error| panic!("{error}: deleted\n{deleted}"));
    assert!(!without.contains(user));
    match passwd::delete(text, user) {
        Some(deleted) => assert_eq!(parse(&deleted), Ok(without)),
        None => assert_eq!(&without, before),
    }
}

fn check_error(error: &ParseError, text: &str) {
    assert!((1..=text.lines().count()).contains(&error.line), "{error}: in\n{text}");
    assert!(!error.problem.is_empty());
}
