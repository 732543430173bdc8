//! Tokens: nothing passes but what was signed, and of that only what holds.
//!
//! Input: one byte, and behind it a token (even byte) or a payload that is signed here (odd byte).

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use gate::jwt::{Bearer, Keys, Policy, Refusal, TopicClaims, Verifier};
use ring::hmac;
use serde_json::Value;
use shards::topic::TopicFilter;

const SECRET: [u8; 32] = *b"0123456789abcdef0123456789abcdef";
const NOW: u64 = 1_000_000;

/// The public key of RFC 7515 appendix A.3; whose private key is known, but not here.
const JWKS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256",
    "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

/// And what was signed with it.
pub(crate) const SIGNED: &str = "eyJhbGciOiJFUzI1NiJ9.\
    eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
    DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";

/// # Panics
/// If a token passes that should not, or one does not that should.
pub fn check(data: &[u8]) {
    let Some((&mode, rest)) = data.split_first() else { return };
    if mode % 2 == 0 {
        check_token(rest);
    } else {
        check_payload(rest);
    }
}

fn verifier(user_claim: &str) -> Verifier {
    let mut keys = Keys::default();
    keys.add_secret("secret", &SECRET).expect("long enough");
    keys.add_jwks("keys", JWKS.as_bytes()).expect("a good key");
    let topics = TopicClaims { publish: "pub".into(), subscribe: "subs".into() };
    let policy =
        Policy { user_claim: user_claim.into(), topics: Some(topics), ..Policy::default() };
    Verifier::new(keys, policy)
}

/// A token in compact form, of the shared secret.
pub(crate) fn sign(payload: &[u8]) -> String {
    let header = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
    let signed = format!("{header}.{}", BASE64_URL_SAFE_NO_PAD.encode(payload));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &SECRET), signed.as_bytes());
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag))
}

fn check_token(token: &[u8]) {
    let user_claim = if token == SIGNED.as_bytes() { "iss" } else { "sub" };
    let outcome = verifier(user_claim).verify(token, "c", None, NOW);
    if token == SIGNED.as_bytes() {
        return assert!(outcome.is_ok(), "{outcome:?}");
    }
    let is_signed = is_signed(token);
    match outcome {
        Ok(bearer) => assert!(is_signed, "{bearer:?}"),
        Err(Refusal::Signature) => assert!(!is_signed, "a good signature is refused"),
        Err(_) => {}
    }
}

/// Whether the last part is the tag of what stands before it.
fn is_signed(token: &[u8]) -> bool {
    let Some(dot) = token.iter().rposition(|&byte| byte == b'.') else { return false };
    let tag = BASE64_URL_SAFE_NO_PAD.decode(&token[dot + 1..]);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &SECRET);
    tag.is_ok_and(|tag| hmac::verify(&key, &token[..dot], &tag).is_ok())
}

fn check_payload(payload: &[u8]) {
    let token = sign(payload);
    match verifier("sub").verify(token.as_bytes(), "c", None, NOW) {
        Ok(bearer) => check_bearer(&bearer, payload),
        Err(Refusal::Signature | Refusal::Algorithm | Refusal::NoKey | Refusal::Form) => {
            panic!("the form of a good token is refused: {token}")
        }
        Err(refusal) => assert!(!refusal.to_string().is_empty()),
    }
}

fn check_bearer(bearer: &Bearer, payload: &[u8]) {
    let claims: Value = serde_json::from_slice(payload).expect("it was read");
    assert_eq!(claims["sub"].as_str(), Some(&*bearer.user));
    assert!(claims["exp"].as_f64().expect("a time") > 1_000_000.0, "{claims}");
    let begins = claims.get("nbf").map_or(0.0, |time| time.as_f64().expect("a time"));
    assert!(begins <= 1_000_000.0, "{claims}");
    assert!(bearer.expires_unix_s > Some(NOW) && claims.get("aud").is_none(), "{claims}");
    let rights = bearer.rights.as_ref().expect("the policy asks for them");
    for filter in rights.publish.iter().chain(&rights.subscribe) {
        let plain = format!("x/{filter}");
        assert!(TopicFilter::parse(&plain, u16::MAX).is_ok(), "{filter:?}");
    }
}
