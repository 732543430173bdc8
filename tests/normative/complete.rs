//! That no statement of the standards is without a test, and no test without a statement.
//!
//! The sources are read as text: a test counts wherever in the tree it stands, in this crate or beside
//! the code that it checks.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

const STATEMENTS: &str = include_str!("statements.txt");

/// Where tests of statements stand, from the root of the repository.
const SOURCES: [&str; 6] =
    ["tests/normative", "tests/e2e", "shards/src", "shards/tests", "sim/src", "sim/tests"];

/// A statement in the words of a test's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Version {
    V311,
    V5,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Statement {
    version: Version,
    /// Section in three numbers, then the number of the statement in it.
    number: [u16; 4],
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, n] = self.number;
        let version = match self.version {
            Version::V311 => "3.1.1",
            Version::V5 => "5.0",
        };
        write!(f, "MQTT-{a}.{b}.{c}-{n} of {version}")
    }
}

fn version(word: &str) -> Option<Version> {
    match word {
        "311" => Some(Version::V311),
        "5" => Some(Version::V5),
        _ => None,
    }
}

/// A line of `statements.txt`.
#[derive(Debug)]
struct Listed {
    /// Binds the client alone, and there is a reason why nothing can be asked of a server.
    is_excused: bool,
}

fn parse_listed(line: &str) -> Option<(Statement, Listed)> {
    let mut words = line.splitn(4, ' ');
    let version = version(words.next()?)?;
    let number = parse_number(words.next()?)?;
    let binds = words.next()?;
    let is_excused = words.next().is_some();
    // Only a statement that binds nobody but the client can do without a test.
    let is_sound = match binds {
        "server" | "both" => !is_excused,
        "client" => true,
        _ => false,
    };
    is_sound.then_some((Statement { version, number }, Listed { is_excused }))
}

/// `3.1.2-24`.
fn parse_number(word: &str) -> Option<[u16; 4]> {
    let numbers: Vec<u16> = word.split(['.', '-']).map_while(|part| part.parse().ok()).collect();
    numbers.try_into().ok()
}

/// What the name of a function says: nothing about a statement, a statement, or nonsense.
fn parse_name(name: &str) -> Option<Result<Statement, String>> {
    let numbers: Vec<&str> =
        name.strip_prefix("mqtt_")?.split('_').take_while(|part| is_number(part)).collect();
    if numbers.len() < 4 {
        return None;
    }
    let statement = version(numbers[0]).and_then(|version| {
        let number: Vec<u16> = numbers[1..].iter().filter_map(|part| part.parse().ok()).collect();
        Some(Statement { version, number: number.try_into().ok()? })
    });
    Some(statement.ok_or_else(|| format!("{name}: not mqtt_<311|5>_<a>_<b>_<c>_<n>_<words>")))
}

fn is_number(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
}

/// How a statement is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Shown {
    /// Less than the statement asks, for the reason that the test gives.
    Explained,
    Tested,
}

/// The tests of one source file, or what is wrong with them.
fn tests_in(source: &str) -> Vec<Result<(Statement, Shown), String>> {
    let mut found = Vec::new();
    let (mut is_test, mut is_explained) = (false, false);
    for line in source.lines().map(str::trim) {
        if line.starts_with("///") || line.starts_with("#[") {
            is_test |= line == "#[test]";
            let doc = line.trim_start_matches('/').trim();
            is_explained |=
                doc.starts_with("Not seen from outside:") || doc.starts_with("Not offered:");
            continue;
        }
        if let Some((name, rest)) = line.strip_prefix("fn ").and_then(|rest| rest.split_once('('))
            && let Some(parsed) = parse_name(name)
        {
            // `on_versions!` takes the version in the place of arguments and makes a test of it.
            let level = rest.split(')').next().unwrap_or_default();
            let is_declared = match parsed {
                Ok(Statement { version: Version::V311, .. }) => level == "4",
                Ok(Statement { version: Version::V5, .. }) => level == "5",
                Err(_) => false,
            };
            let shown = if is_explained { Shown::Explained } else { Shown::Tested };
            found.push(match parsed {
                Ok(statement) if is_declared || (is_test && level.is_empty()) => {
                    Ok((statement, shown))
                }
                Ok(_) => Err(format!("{name}: no test, or the wrong version behind it")),
                Err(why) => Err(why),
            });
        }
        (is_test, is_explained) = (false, false);
    }
    found
}

fn sources() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<PathBuf> = SOURCES.iter().map(|folder| root.join(folder)).collect();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.expect("an entry of a directory").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

#[test]
fn every_statement_has_a_test() {
    let mut listed = BTreeMap::new();
    for line in STATEMENTS.lines().filter(|line| !line.starts_with('#')) {
        let (statement, entry) =
            parse_listed(line).unwrap_or_else(|| panic!("statements.txt: {line:?}"));
        assert!(listed.insert(statement, entry).is_none(), "{statement} is listed twice");
    }
    let mut shown: BTreeMap<Statement, Shown> = BTreeMap::new();
    let mut wrong = Vec::new();
    for path in sources() {
        let source = fs::read_to_string(&path).expect("a source file is text");
        for test in tests_in(&source) {
            match test {
                Ok((statement, how)) if listed.contains_key(&statement) => {
                    let best = shown.entry(statement).or_insert(how);
                    *best = (*best).max(how);
                }
                Ok((statement, _)) => {
                    wrong.push(format!("{}: there is no {statement}", path.display()));
                }
                Err(why) => wrong.push(format!("{}: {why}", path.display())),
            }
        }
    }
    let mut counts: BTreeMap<Version, [u32; 3]> = BTreeMap::new();
    for (statement, entry) in &listed {
        let [tested, explained, excused] = counts.entry(statement.version).or_default();
        match shown.get(statement) {
            Some(Shown::Tested) => *tested += 1,
            Some(Shown::Explained) => *explained += 1,
            None if entry.is_excused => *excused += 1,
            None => wrong.push(format!("{statement}: no test")),
        }
    }
    for (version, [tested, explained, excused]) in counts {
        println!(
            "{version:?}: {tested} tested, {explained} explained, {excused} for clients alone"
        );
    }
    assert!(wrong.is_empty(), "{} in all:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn lists_and_names_are_read() {
    let statement = Statement { version: Version::V5, number: [3, 1, 2, 24] };
    assert_eq!(parse_listed("5 3.1.2-24 server").map(|(found, _)| found), Some(statement));
    assert!(parse_listed("5 3.1.2-24 server no test needed").is_none());
    assert!(parse_listed("4 3.1.2-24 server").is_none());
    assert!(parse_listed("5 3.1.2 server").is_none());
    assert!(parse_listed("5 2.2.1-3 client a reason").is_some_and(|(_, e)| e.is_excused));
    assert_eq!(parse_name("mqtt_5_3_1_2_24_no_longer_packet"), Some(Ok(statement)));
    assert_eq!(parse_name("mqtt_3_refusals"), None);
    assert!(parse_name("mqtt_3_1_2_24_no_version").is_some_and(|name| name.is_err()));
    assert!(parse_name("mqtt_5_3_1_2_24_8_more").is_some_and(|name| name.is_err()));
}

#[test]
fn tests_are_found_in_sources() {
    let found = |source| tests_in(source).into_iter().collect::<Result<Vec<_>, _>>();
    let v311 = Statement { version: Version::V311, number: [2, 2, 2, 1] };
    assert_eq!(found("#[test]\nfn mqtt_311_2_2_2_1_x() {"), Ok(vec![(v311, Shown::Tested)]));
    assert_eq!(found("fn mqtt_311_2_2_2_1_x(4) => x;"), Ok(vec![(v311, Shown::Tested)]));
    let explained = "/// Not offered: no such thing.\nfn mqtt_311_2_2_2_1_x(4) => x;";
    assert_eq!(found(explained), Ok(vec![(v311, Shown::Explained)]));
    assert_eq!(found("// fn mqtt_311_2_2_2_1_x(4)"), Ok(vec![]));
    assert!(found("fn mqtt_311_2_2_2_1_x() {").is_err());
    assert!(found("fn mqtt_311_2_2_2_1_x(5) => x;").is_err());
    assert!(found("#[test]\nfn other() {\n}\nfn mqtt_311_2_2_2_1_x() {").is_err());
}
