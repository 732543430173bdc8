//! Password files: what other programs wrote, what is refused and why, edits.

use super::*;

/// Made with mosquitto_passwd 2.0.11: by default, with `-H sha512`, with an empty password.
const BY_MOSQUITTO: [(&str, &str); 3] = [
    (
        "secret",
        "$7$101$kYP91N5L+UuwKCcR$2SzDsML/+Y15zKoVJ0/yYgUvryo5R23w/jRSi6YfnRhfElz45Ial0KDl+SV/p2s2jVxi\
         +lZwO5bYMK/LV2ZYcQ==",
    ),
    (
        "pässwörd",
        "$6$zPtJigIOuIMAfvLy$PSxfMMSv2Rtw+2hxxAEsJW8rPBEoD0Wwb79dWK2RapotZpmRKUftXhq5Ve+KCe4y2MLaYS3S\
         pt661yHnFn80zw==",
    ),
    (
        "",
        "$7$101$j7xPEAwRMe7FKa7M$JvhvVGkL6UfU7hjn5YcAA5lNn7/DEjPTQst3yANnxCpXV6fZecn9bDWEEjmiwx3MilMb\
         w/1NP0tSxWUx2qt2WA==",
    ),
];

/// Made with the reference implementation of Argon2, and with hashlib of Python.
const BY_OTHERS: [(&str, &str); 3] = [
    (
        "password",
        "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
    ),
    (
        "password",
        "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
    ),
    ("pencil", PENCIL),
];

const PENCIL: &str = "SCRAM-SHA-256$4096:AQIDBAUGBwgJCgsMDQ4PEA==$\
    B9Mb8TSkDsvpddTD0BDmSDpJAo08+gvK8zcSCGRjCZw=:0z4kjgndRyJQnA93HtYE376F1vMDI59QM1nDcPyu8Rw=";

const SALT: [u8; SALT_BYTES] = [7; SALT_BYTES];

#[test]
fn passwords_of_other_programs() {
    for (password, entry) in BY_MOSQUITTO.into_iter().chain(BY_OTHERS) {
        let passwords = Passwords::parse("file", &format!("user:{entry}\n")).unwrap();
        assert!(passwords.verify("user", password.as_bytes()), "{entry}");
        assert!(!passwords.verify("user", b"passworD"), "{entry}");
        assert!(!passwords.verify("nobody", password.as_bytes()), "{entry}");
        assert_eq!(passwords.to_string(), format!("user:{entry}\n"));
    }
}

#[test]
fn a_password_is_any_bytes() {
    let password = b"a\0b\xFF";
    let text = "six:$6$AQIDBAUGBwgJCgsM$X4u6jZbFLu3Ffj+JoXwhJUQlnhT+9XGECcwzSC7wlYmQEHCuW0KXuXRTpJEi4ubv1GK01/SUwlXnr3Wgzre+kA==\n\
                seven:$7$101$AQIDBAUGBwgJCgsM$9T9n0/omdwmTu1PICva1d2XiYim4A2Sq2HNYLLWitaqYVKsd44NaVc5Ns90vMzLqdxFDeVu59Y8TDZ7bVxUpHg==\n";
    let passwords = Passwords::parse("file", text).unwrap();
    for user in ["six", "seven"] {
        assert!(passwords.verify(user, password));
        assert!(!passwords.verify(user, b"a"));
        assert!(!passwords.verify(user, b"a\0b\xFE"));
    }
}

#[test]
fn new_entries_are_read_again() {
    let entries = [
        Hash::argon2id(b"p\0w", SALT),
        Hash::pbkdf2(b"p\0w", SALT),
        Hash::new_scram("p\u{aa}w\u{ad}".as_bytes(), SALT).unwrap(),
    ];
    for (hash, password) in entries.into_iter().zip([&b"p\0w"[..], b"p\0w", b"paw"]) {
        assert_eq!(Hash::parse(&hash.to_string()).as_ref(), Ok(&hash));
        assert!(hash.verify(password), "{hash:?}");
        assert!(!hash.verify(b"p"), "{hash:?}");
        assert_eq!(hash.cost(), Cost::Dear);
        // What is logged by mistake says nothing.
        assert!(format!("{hash:?}").len() < 10);
    }
    assert_eq!(Hash::new_scram(b"a\0b", SALT), Err(Unfit));
    assert_eq!(Hash::new_scram(b"a\xFFb", SALT), Err(Unfit));
}

#[test]
fn comments_blanks_and_line_ends() {
    let (_, hash) = BY_MOSQUITTO[0];
    let text = format!(
        "# comment: with a colon\n  # another\n\n \t\n  spaced  : \t{hash} \ncrlf:{hash}\r\nü:{hash}\nlast:{hash}"
    );
    let passwords = Passwords::parse("file", &text).unwrap();
    for user in ["spaced", "crlf", "ü", "last"] {
        assert!(passwords.verify(user, b"secret"), "{user}");
    }
    assert!(!passwords.contains("# comment"));
}

/// Mosquitto 2.0.11 does the same.
#[test]
fn the_last_of_a_name_counts() {
    let [(first, first_hash), (last, last_hash), _] = BY_MOSQUITTO;
    let text = format!("b:{first_hash}\na:{first_hash}\nc:{first_hash}\na:{last_hash}\n");
    let passwords = Passwords::parse("file", &text).unwrap();
    assert!(passwords.verify("a", last.as_bytes()));
    assert!(!passwords.verify("a", first.as_bytes()));
    assert!(passwords.verify("b", first.as_bytes()) && passwords.verify("c", first.as_bytes()));
}

#[test]
fn unknown_users_cost_what_known_ones_do() {
    let (_, dear) = BY_MOSQUITTO[0];
    let (_, cheap) = BY_MOSQUITTO[1];
    let passwords = Passwords::parse("file", &format!("a:{dear}\n")).unwrap();
    assert_eq!(passwords.cost("a"), Cost::Dear);
    assert_eq!(passwords.cost("nobody"), Cost::Dear);
    let passwords = Passwords::parse("file", &format!("a:{cheap}\n")).unwrap();
    assert_eq!(passwords.cost("nobody"), Cost::Cheap);
    let passwords = Passwords::parse("file", &format!("a:{dear}\nb:{cheap}\n")).unwrap();
    let costs: Vec<Cost> = (0..40).map(|n| passwords.cost(&n.to_string())).collect();
    // Either kind, so that neither means that the name is unknown.
    assert!(costs.contains(&Cost::Dear) && costs.contains(&Cost::Cheap));
    assert!(!Passwords::default().verify("a", b""));
}

#[track_caller]
fn refused(line: &str, problem: &str) {
    let (_, good) = BY_MOSQUITTO[0];
    let text = format!("good:{good}\n{line}\nalso:{good}\n");
    let error = Passwords::parse("users.txt", &text).unwrap_err();
    assert!(error.problem.contains(problem), "{line}: {error}");
    assert_eq!(error.line, 2);
    assert!(error.to_string().starts_with("users.txt, line 2: "), "{error}");
    // Nothing of the line gets into a log.
    assert!(!error.to_string().contains("s3cr3t"), "{error}");
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    let (_, pbkdf2) = BY_MOSQUITTO[0];
    let (_, argon2id) = BY_OTHERS[0];
    refused("junk s3cr3t", "no ':'");
    refused(":s3cr3t", "no user name");
    refused(&format!("{}:x", "s3cr3t".repeat(11_000)), "longer than 65535");
    refused("a:", "no password");
    refused("a:s3cr3t", "muring passwd --upgrade");
    refused("a:$9$s3cr3t", "known kind");
    refused("a:$6$s3cr3t", "salt and hash");
    refused("a:$6$!s3cr3t$AAAA", "salt is not base64");
    refused("a:$6$AAAA$s3cr3t", "hash is not base64 of 64");
    refused("a:$6$AAAA$AAAA$s3cr3t", "hash is not base64 of 64");
    refused("a:$7$101$AAAA", "iterations, salt and hash");
    refused(&format!("a:{}", pbkdf2.replace("101", "0")), "1 to 1000000");
    refused(&format!("a:{}", pbkdf2.replace("101", "1000001")), "1 to 1000000");
    refused(&format!("a:{}", pbkdf2.replace("101", "+101")), "1 to 1000000");
    refused(&format!("a:{pbkdf2}:s3cr3t"), "hash is not base64 of 64");
    // 4 GiB.
    refused(&format!("a:{}", argon2id.replace("m=256", "m=4194304")), "256 MiB");
    refused(&format!("a:{}", argon2id.replace("t=2", "t=17")), "more than 16");
    refused(&format!("a:{}", argon2id.replace("p=1", "p=17")), "more than 16");
    refused(&format!("a:{}", argon2id.replace("t=2", "t=0")), "is 0");
    refused(&format!("a:{}", argon2id.replace("m=256", "m=15,").replace("p=1", "p=2")), "NUMBER");
    refused(&format!("a:{}", argon2id.replace("p=1", "p=1,keyid=AAAA")), "more parameters");
    refused(&format!("a:{}", argon2id.replace("v=19", "v=16")), "v=19");
    refused(&format!("a:{}", argon2id.replace("c29tZXNhbHQ", "c29t")), "salt is not");
    refused(&format!("a:{argon2id}="), "hash is not base64 of 16");
    refused("a:$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$s3cr3t", "known kind");
    refused("a:SCRAM-SHA-256$s3cr3t", "StoredKey:ServerKey");
    refused(&format!("a:{}", PENCIL.replace("4096", "4095")), "4096 to 1000000");
    refused(&format!("a:{}", PENCIL.replace("4096", "1000001")), "4096 to 1000000");
    refused(&format!("a:{PENCIL}="), "ServerKey is not");
    refused("a:SCRAM-SHA-256$4096:AAAA$s3cr3t:AAAA", "StoredKey is not");
}

const FILE: &str = "# users\nanna:$x\n\n  bert : $y\nanna:$z";

#[test]
fn edits_leave_the_rest_alone() {
    let hash = Hash::parse(PENCIL).unwrap();
    let anna = format!("# users\nanna:{PENCIL}\n\n  bert : $y\n");
    assert_eq!(set(FILE, "anna", &hash), anna);
    assert_eq!(set(FILE, "bert", &hash), format!("# users\nanna:$x\n\nbert:{PENCIL}\nanna:$z\n"));
    assert_eq!(set(FILE, "new", &hash), format!("{FILE}\nnew:{PENCIL}\n"));
    assert_eq!(set("", "new", &hash), format!("new:{PENCIL}\n"));
    assert_eq!(delete(FILE, "anna").as_deref(), Some("# users\n\n  bert : $y\n"));
    assert_eq!(delete(FILE, "new"), None);
    assert_eq!(delete(FILE, "# users"), None);
}

#[test]
fn plain_passwords_become_hashes() {
    let text = format!("# users\nanna:pa:ss\n bert : two words \ncarl:{PENCIL}");
    let hash_of = |password: &[u8]| Ok::<_, ParseError>(Hash::pbkdf2(password, SALT));
    let (upgraded, count) = upgrade("file", &text, hash_of).unwrap();
    assert_eq!(count, 2);
    let passwords = Passwords::parse("file", &upgraded).unwrap();
    assert!(passwords.verify("anna", b"pa:ss"));
    assert!(passwords.verify("bert", b"two words"));
    assert!(passwords.verify("carl", b"pencil"));
    assert_eq!(upgrade("file", &upgraded, hash_of), Ok((upgraded.clone(), 0)));
    for (broken, line) in [("a:b\na:$6$broken", 2), ("a:b\n\nb", 3), ("a:", 1), ("a:$9$x", 1)] {
        assert_eq!(upgrade("file", broken, hash_of).unwrap_err().line, line, "{broken}");
    }
}

#[test]
fn names_that_a_file_cannot_keep() {
    for name in ["anna", "ä ö", "a#b", "$SYS"] {
        assert_eq!(check_user(name), Ok(()), "{name}");
    }
    let bad = ["", " a", "a ", "#a", "a:b", "a\nb", "a\0", "\u{85}a"].map(str::to_owned);
    for name in bad.into_iter().chain(["a".repeat(65_536)]) {
        assert!(check_user(&name).is_err(), "{name:?}");
    }
}

#[test]
fn an_edit_leaves_no_carriage_return() {
    let text = format!("# a\r\r\na:{PENCIL}\r\n# b\r");
    let plain = format!("# a\na:{PENCIL}\n# b\n");
    let hash_of = |_: &[u8]| Err(ParseError { file: "file".into(), line: 0, problem: "" });
    assert_eq!(upgrade("file", &text, hash_of), Ok((plain.clone(), 0)));
    assert_eq!(delete(&set(&text, "b", &Hash::parse(PENCIL).unwrap()), "b"), Some(plain));
}
