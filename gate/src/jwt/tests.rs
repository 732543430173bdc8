use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use serde_json::json;

use super::*;

/// Payload and signatures of RFC 7515 appendices A.1 to A.3.
const EXAMPLE_PAYLOAD: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
const EXAMPLE_EXPIRES: u64 = 1_300_819_380;
const A1_HEADER: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9";
const A1_SIGNATURE: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const A1_KEY: &str = r#"{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#;
const A2_HEADER: &str = "eyJhbGciOiJSUzI1NiJ9";
const A2_SIGNATURE: &str = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
const A2_KEY: &str = r#"{"kty":"RSA","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}"#;
const A3_HEADER: &str = "eyJhbGciOiJFUzI1NiJ9";
const A3_SIGNATURE: &str =
    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
const A3_KEY: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;

/// RFC 8037 appendix A.4; its payload is a sentence and not claims.
const ED_TOKEN: &str = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
const ED_KEY: &str =
    r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

/// The key of A.2, as openssl writes it.
const A2_PEM: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAofgWCuLjybRlzo0tZWJj
NiuSfb4p4fAkd/wWJcyQoTbji9k0l8W26mPddxHmfHQp+Vaw+4qPCJrcS2mJPMEz
P1Pt0Bm4d4QlL+yRT+SFd2lZS+pCgNMsD1W/YpRPEwOWvG6b32690r2jZ47soMZo
9wGzjb/7OMg0LOL+bSf63kpaSHSXndS5z5rexMdbBYUsLA9e+KXBdQOS+UTo7WTB
EMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6/I5IhlJH7aGhyxX
FvUK+DWNmoudF8NAco9/h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXp
oQIDAQAB
-----END PUBLIC KEY-----
";

const SECRET: &[u8; 32] = b"0123456789abcdef0123456789abcdef";
const NOW: u64 = 1_000_000;

fn jwks(keys: &[&str]) -> Keys {
    let mut all = Keys::default();
    all.add_jwks("keys.json", format!(r#"{{"keys":[{}]}}"#, keys.join(",")).as_bytes()).unwrap();
    all
}

fn shared() -> Keys {
    let mut keys = Keys::default();
    keys.add_secret("secret", SECRET).unwrap();
    keys
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn hs256(secret: &[u8], header: &str, payload: &str) -> String {
    let signed = format!("{}.{}", encode(header), encode(payload));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
    format!("{signed}.{}", encode(tag))
}

/// Signed with the shared secret.
fn token(claims: &Value) -> String {
    hs256(SECRET, r#"{"alg":"HS256","typ":"JWT"}"#, &claims.to_string())
}

fn verify(policy: Policy, token: &str) -> Result<Bearer, Refusal> {
    Verifier::new(shared(), policy).verify(token.as_bytes(), "c", Some("u"), NOW)
}

#[test]
fn examples_of_the_standard() {
    let issuer_is_user = || Policy { user_claim: "iss".into(), ..Policy::default() };
    let examples = [
        (A1_HEADER, A1_SIGNATURE, A1_KEY),
        (A2_HEADER, A2_SIGNATURE, A2_KEY),
        (A3_HEADER, A3_SIGNATURE, A3_KEY),
    ];
    for (header, signature, key) in examples {
        let token = format!("{header}.{EXAMPLE_PAYLOAD}.{signature}");
        let verifier = Verifier::new(jwks(&[key]), issuer_is_user());
        let verify = |now| verifier.verify(token.as_bytes(), "c", None, now);
        let bearer = verify(EXAMPLE_EXPIRES - 1).unwrap();
        assert_eq!((&*bearer.user, bearer.expires_unix_s), ("joe", Some(EXAMPLE_EXPIRES)));
        assert_eq!(bearer.into_grant(EXAMPLE_EXPIRES - 5).lasts, Some(Duration::from_secs(5)));
        assert_eq!(verify(EXAMPLE_EXPIRES), Err(Refusal::Expired));
        let all = Verifier::new(jwks(&[A1_KEY, A2_KEY, A3_KEY, ED_KEY]), issuer_is_user());
        assert!(all.verify(token.as_bytes(), "c", None, 0).is_ok());
    }
    let ed = Verifier::new(jwks(&[ED_KEY]), Policy::default());
    assert_eq!(ed.open(ED_TOKEN.as_bytes()).unwrap(), b"Example of Ed25519 signing");
    let not_claims = ed.verify(ED_TOKEN.as_bytes(), "c", None, 0);
    assert_eq!(not_claims, Err(Refusal::NotJson("payload")));
}

#[test]
fn keys_in_pem_verify_what_their_owners_signed() {
    let random = SystemRandom::new();
    let claims = encode(json!({"sub": "ann", "exp": NOW + 1}).to_string());
    let signed = |alg: &str| format!("{}.{claims}", encode(format!(r#"{{"alg":"{alg}"}}"#)));

    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let signer =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pair.serialize_der(), &random);
    let es = signed("ES256");
    let signature = signer.unwrap().sign(&random, es.as_bytes()).unwrap();
    let es = (pair.public_key_pem(), format!("{es}.{}", encode(signature)));

    let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let signer = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pair.serialize_der()).unwrap();
    let ed = signed("EdDSA");
    let signature = signer.sign(ed.as_bytes());
    let ed = (pair.public_key_pem(), format!("{ed}.{}", encode(signature)));

    let mut both = Keys::default();
    both.add_pem("both.pem", format!("{}{}", es.0, ed.0).as_bytes()).unwrap();
    for (pem, token) in [&es, &ed] {
        let mut own = Keys::default();
        own.add_pem("one.pem", pem.as_bytes()).unwrap();
        for keys in [own, both.clone()] {
            let verifier = Verifier::new(keys, Policy::default());
            let bearer = verifier.verify(token.as_bytes(), "c", None, NOW).unwrap();
            assert_eq!(&*bearer.user, "ann");
        }
    }
    let mut other = Keys::default();
    other.add_pem("es.pem", es.0.as_bytes()).unwrap();
    let verifier = Verifier::new(other, Policy::default());
    assert_eq!(verifier.verify(ed.1.as_bytes(), "c", None, NOW), Err(Refusal::NoKey));
    let mut rsa = Keys::default();
    rsa.add_pem("rsa.pem", A2_PEM.as_bytes()).unwrap();
    let verifier = Verifier::new(rsa, Policy { user_claim: "iss".into(), ..Policy::default() });
    let example = format!("{A2_HEADER}.{EXAMPLE_PAYLOAD}.{A2_SIGNATURE}");
    assert!(verifier.verify(example.as_bytes(), "c", None, 0).is_ok());
}

/// Whatever character of a token is changed, it passes no more.
#[test]
fn a_token_that_was_touched_is_refused() {
    let good = token(&json!({"sub": "ann", "exp": NOW + 60}));
    assert!(verify(Policy::default(), &good).is_ok());
    for at in 0..good.len() {
        for other in ["A", "B", "_", ".", "=", ""] {
            let mut touched = good.clone();
            touched.replace_range(at..=at, other);
            if touched != good {
                let refusal = verify(Policy::default(), &touched).unwrap_err();
                let is_plain = matches!(
                    refusal,
                    Refusal::Form
                        | Refusal::Signature
                        | Refusal::NotJson("header")
                        | Refusal::Algorithm
                        | Refusal::NoKey
                );
                assert!(is_plain, "{touched}: {refusal}");
            }
        }
    }
    for form in ["", ".", "a.b", "a.b.c.d", &format!("{good}."), &format!("{good}\n")] {
        assert_eq!(verify(Policy::default(), form), Err(Refusal::Form), "{form:?}");
    }
    assert_eq!(verify(Policy::default(), ".."), Err(Refusal::NotJson("header")));
    let long = "a".repeat(TOKEN_BYTES_MAX + 1);
    assert_eq!(verify(Policy::default(), &long), Err(Refusal::TooLong));
}

#[test]
fn an_algorithm_cannot_be_confused_with_another() {
    let claims = json!({"sub": "eve", "exp": NOW + 60}).to_string();
    let none = format!("{}.{}.", encode(r#"{"alg":"none"}"#), encode(&claims));
    assert_eq!(verify(Policy::default(), &none), Err(Refusal::Algorithm));
    for alg in ["NONE", "hs256", "HS384", "RS512", "PS256", "ES256K", ""] {
        let token = hs256(SECRET, &json!({"alg": alg}).to_string(), &claims);
        assert_eq!(verify(Policy::default(), &token), Err(Refusal::Algorithm), "{alg}");
    }
    for header in [r#"{"typ":"JWT"}"#, r#"{"alg":["HS256"]}"#] {
        assert_eq!(
            verify(Policy::default(), &hs256(SECRET, header, &claims)),
            Err(Refusal::Algorithm)
        );
    }
    // The public key, which everybody knows, as the secret of a MAC.
    let mut rsa = Keys::default();
    rsa.add_pem("rsa.pem", A2_PEM.as_bytes()).unwrap();
    let verifier = Verifier::new(rsa, Policy::default());
    let forged = hs256(A2_PEM.as_bytes(), r#"{"alg":"HS256"}"#, &claims);
    assert_eq!(verifier.verify(forged.as_bytes(), "c", None, NOW), Err(Refusal::NoKey));
    // A MAC of the right secret under the name of a signature.
    let mixed = hs256(SECRET, r#"{"alg":"RS256"}"#, &claims);
    assert_eq!(verify(Policy::default(), &mixed), Err(Refusal::NoKey));
}

#[test]
fn headers_that_ask_for_more_are_refused() {
    let claims = json!({"sub": "ann", "exp": NOW + 60}).to_string();
    let critical = hs256(SECRET, r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, &claims);
    assert_eq!(verify(Policy::default(), &critical), Err(Refusal::Critical));
    let twice = hs256(SECRET, r#"{"alg":"none","alg":"HS256"}"#, &claims);
    assert_eq!(verify(Policy::default(), &twice), Err(Refusal::NotJson("header")));
    let twice = hs256(SECRET, r#"{"alg":"HS256"}"#, r#"{"sub":"a","exp":9999999,"sub":"b"}"#);
    assert_eq!(verify(Policy::default(), &twice), Err(Refusal::NotJson("payload")));
    // A key that the token brings along is not looked at.
    let own = hs256(
        b"eve",
        &format!(r#"{{"alg":"HS256","jwk":{{"kty":"oct","k":"{}"}}}}"#, encode("eve")),
        &claims,
    );
    assert_eq!(verify(Policy::default(), &own), Err(Refusal::Signature));
}

#[test]
fn a_key_name_selects() {
    let secrets: Vec<[u8; 32]> = (0..10).map(|number| [number; 32]).collect();
    let listed: Vec<String> = secrets
        .iter()
        .enumerate()
        .map(|(number, key)| json!({"kty": "oct", "kid": number.to_string(), "k": encode(key)}))
        .map(|key| key.to_string())
        .collect();
    let listed: Vec<&str> = listed.iter().map(String::as_str).collect();
    let verifier = Verifier::new(jwks(&listed), Policy::default());
    let claims = json!({"sub": "ann", "exp": NOW + 60}).to_string();
    let try_key = |secret: &[u8], header: Value| {
        let token = hs256(secret, &header.to_string(), &claims);
        verifier.verify(token.as_bytes(), "c", None, NOW).map(drop)
    };
    for (number, secret) in secrets.iter().enumerate() {
        let named = |kid: usize| json!({"alg": "HS256", "kid": kid.to_string()});
        assert_eq!(try_key(secret, named(number)), Ok(()));
        assert_eq!(try_key(secret, named((number + 1) % 10)), Err(Refusal::Signature));
        // Without a name the first eight are tried.
        let want = if number < 8 { Ok(()) } else { Err(Refusal::Signature) };
        assert_eq!(try_key(secret, json!({"alg": "HS256"})), want);
    }
    let unknown = json!({"alg": "HS256", "kid": "none of them"});
    assert_eq!(try_key(&secrets[0], unknown), Err(Refusal::NoKey));
    assert_eq!(try_key(&secrets[0], json!({"alg": "HS256", "kid": 0})), Err(Refusal::NoKey));
}

#[test]
fn times() {
    let with = |leeway_s| Policy { leeway_s, checks_issued: true, ..Policy::default() };
    let cases = [
        (json!({"exp": NOW + 1}), 0, Ok(())),
        (json!({"exp": NOW}), 0, Err(Refusal::Expired)),
        (json!({"exp": NOW - 1}), 0, Err(Refusal::Expired)),
        (json!({"exp": NOW - 1}), 2, Ok(())),
        (json!({"exp": NOW - 2}), 2, Err(Refusal::Expired)),
        (json!({"exp": 1_000_000.5}), 0, Ok(())),
        (json!({"exp": -5}), 0, Err(Refusal::Expired)),
        (json!({"exp": 1e300}), 5, Ok(())),
        (json!({"exp": u64::MAX}), 5, Ok(())),
        (json!({"exp": "1000001"}), 0, Err(Refusal::Malformed("exp".into()))),
        (json!({"exp": null}), 0, Err(Refusal::Malformed("exp".into()))),
        (json!({}), 0, Err(Refusal::Missing("exp".into()))),
        (json!({"exp": NOW + 9, "nbf": NOW}), 0, Ok(())),
        (json!({"exp": NOW + 9, "nbf": NOW + 1}), 0, Err(Refusal::TooEarly)),
        (json!({"exp": NOW + 9, "nbf": NOW + 1}), 1, Ok(())),
        (json!({"exp": NOW + 9, "nbf": 1_000_000.5}), 0, Err(Refusal::TooEarly)),
        (json!({"exp": NOW + 9, "iat": NOW + 1}), 0, Err(Refusal::IssuedLater)),
        (json!({"exp": NOW + 9, "iat": NOW + 1}), 1, Ok(())),
    ];
    for (mut claims, leeway_s, want) in cases {
        claims["sub"] = "ann".into();
        assert_eq!(verify(with(leeway_s), &token(&claims)).map(drop), want, "{claims}");
    }
    let endless = Policy { needs_expiry: false, ..Policy::default() };
    let bearer = verify(endless, &token(&json!({"sub": "ann"}))).unwrap();
    assert_eq!((bearer.expires_unix_s, bearer.into_grant(NOW).lasts), (None, None));
}

#[test]
fn what_is_asked_of_claims() {
    let policy = Policy {
        audience: Some("mqtt".into()),
        issuer: Some("https://issuer".into()),
        required: vec![
            ("site".into(), "berlin".into()),
            ("roles".into(), "device".into()),
            ("level".into(), "3".into()),
            ("active".into(), "true".into()),
        ],
        client_id_claim: Some("cid".into()),
        user_name_must_match: true,
        ..Policy::default()
    };
    let good = json!({
        "sub": "u", "exp": NOW + 9, "aud": ["web", "mqtt"], "iss": "https://issuer", "cid": "c",
        "site": "berlin", "roles": ["reader", "device"], "level": 3, "active": true
    });
    assert!(verify(policy.clone(), &token(&good)).is_ok());
    let cases = [
        ("aud", json!("mqtt"), Ok(())),
        ("aud", json!("web"), Err(Refusal::OtherAudience)),
        ("aud", json!(["mqtts"]), Err(Refusal::OtherAudience)),
        ("aud", json!({"mqtt": 1}), Err(Refusal::OtherAudience)),
        ("iss", json!("https://other"), Err(Refusal::OtherIssuer)),
        ("site", json!("berlin "), Err(Refusal::OtherValue("site".into()))),
        ("site", json!(null), Err(Refusal::OtherValue("site".into()))),
        ("roles", json!(["reader"]), Err(Refusal::OtherValue("roles".into()))),
        ("level", json!(4), Err(Refusal::OtherValue("level".into()))),
        ("active", json!(false), Err(Refusal::OtherValue("active".into()))),
        ("cid", json!("C"), Err(Refusal::OtherClient)),
        ("cid", json!(1), Err(Refusal::Malformed("cid".into()))),
        ("sub", json!("v"), Err(Refusal::OtherUser)),
        ("sub", json!(""), Err(Refusal::Malformed("sub".into()))),
        ("sub", json!("a\0"), Err(Refusal::Malformed("sub".into()))),
        ("sub", json!(7), Err(Refusal::Malformed("sub".into()))),
    ];
    for (name, value, want) in cases {
        let mut claims = good.clone();
        claims[name] = value;
        assert_eq!(verify(policy.clone(), &token(&claims)).map(drop), want, "{claims}");
    }
    for name in ["aud", "iss", "site", "cid", "sub"] {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(name);
        assert!(verify(policy.clone(), &token(&claims)).is_err(), "without {name}");
    }
    // Meant for somebody, and nobody said that we are that.
    let for_others = token(&json!({"sub": "u", "exp": NOW + 9, "aud": "web"}));
    assert_eq!(verify(Policy::default(), &for_others), Err(Refusal::OtherAudience));
}

#[test]
fn user_names_in_any_script() {
    let claims = json!({"sub": "Ünï €🙂", "exp": NOW + 9});
    assert_eq!(&*verify(Policy::default(), &token(&claims)).unwrap().user, "Ünï €🙂");
    let escaped = hs256(SECRET, r#"{"alg":"HS256"}"#, r#"{"sub":"\u00dc","exp":9999999}"#);
    assert_eq!(&*verify(Policy::default(), &escaped).unwrap().user, "Ü");
    let half = hs256(SECRET, r#"{"alg":"HS256"}"#, r#"{"sub":"\ud83d","exp":9999999}"#);
    assert_eq!(verify(Policy::default(), &half), Err(Refusal::NotJson("payload")));
}

#[test]
fn topics_from_claims() {
    let policy = Policy {
        topics: Some(TopicClaims { publish: "pub".into(), subscribe: "sub_topics".into() }),
        ..Policy::default()
    };
    let rights = |claims: Value| verify(policy.clone(), &token(&claims)).map(|b| b.rights.unwrap());
    let given = rights(json!({
        "sub": "ann", "exp": NOW + 9, "pub": "state/%c", "sub_topics": ["cmd/%u/%c/#", "news/+"]
    }));
    let given = given.unwrap();
    assert_eq!(*given.publish, ["state/c".into()]);
    assert_eq!(*given.subscribe, ["cmd/ann/c/#".into(), "news/+".into()]);
    let nothing = rights(json!({"sub": "ann", "exp": NOW + 9})).unwrap();
    assert_eq!(nothing, Rights::default());
    for bad in [json!("a/#/b"), json!([""]), json!([1]), json!({"a": 1}), json!(null)] {
        let refusal = rights(json!({"sub": "ann", "exp": NOW + 9, "pub": bad}));
        assert_eq!(refusal, Err(Refusal::Malformed("pub".into())));
    }
    let wide = rights(json!({"sub": "+", "exp": NOW + 9, "pub": "state/%u"}));
    assert_eq!(wide, Err(Refusal::WildcardInName));
    // Put in once: what looks like a variable in a name is none.
    let odd = rights(json!({"sub": "%c", "exp": NOW + 9, "pub": "state/%u"})).unwrap();
    assert_eq!(*odd.publish, ["state/%c".into()]);
}

#[test]
fn says_what_is_wrong_with_keys() {
    type Add = fn(&mut Keys, &str, &[u8]) -> Result<(), crate::text::ParseError>;
    let small = format!(r#"{{"keys":[{{"kty":"RSA","e":"AQAB","n":"{}"}}]}}"#, encode([255; 128]));
    let private = KeyPair::generate_for(&PKCS_ED25519).unwrap().serialize_pem();
    let private = format!("{A2_PEM}{private}");
    let cases: [(Add, &str, usize, &str); 11] = [
        (Keys::add_secret, "short", 1, "32 bytes"),
        (Keys::add_secret, A2_PEM, 1, "no secret"),
        (Keys::add_pem, "nothing", 1, "no PEM block"),
        (Keys::add_pem, &private, 10, "private key"),
        (Keys::add_pem, &A2_PEM[..200], 1, "PEM"),
        (Keys::add_jwks, "{\n\n?", 3, "not a JWKS document"),
        (Keys::add_jwks, r#"{"keys":[]}"#, 1, "no key for"),
        (Keys::add_jwks, r#"{"keys":[{"kty":"OKP","crv":"X25519","x":"AA"}]}"#, 1, "no key for"),
        (Keys::add_jwks, r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA"}]}"#, 1, "key 0"),
        (Keys::add_jwks, r#"{"keys":[{"kty":"EC","crv":"P-256","x":"?"}]}"#, 1, "base64url"),
        (Keys::add_jwks, &small, 1, "2048 bits"),
    ];
    for (add, text, line, problem) in cases {
        let mut keys = Keys::default();
        let error = add(&mut keys, "file", text.as_bytes()).unwrap_err();
        assert_eq!((&*error.file, error.line), ("file", line), "{error}");
        assert!(error.problem.contains(problem), "{error}");
        assert!(keys.is_empty());
    }
}

#[test]
fn keys_for_something_else_are_passed_over() {
    let marked = |mark: &str| A1_KEY.replace('{', &format!("{{{mark},"));
    for mark in [r#""use":"enc""#, r#""key_ops":["sign"]"#, r#""alg":"HS512""#, r#""alg":"RS256""#]
    {
        let keys = jwks(&[&marked(mark), A3_KEY]);
        let verifier = Verifier::new(keys, Policy::default());
        let token = format!("{A1_HEADER}.{EXAMPLE_PAYLOAD}.{A1_SIGNATURE}");
        let refusal = verifier.verify(token.as_bytes(), "c", None, 0);
        assert_eq!(refusal, Err(Refusal::NoKey), "{mark}");
    }
    let secret = "a secret that nobody is to see, 1234";
    let mut keys = Keys::default();
    keys.add_secret("secret", secret.as_bytes()).unwrap();
    assert!(!format!("{keys:?}").contains("nobody"));
}
