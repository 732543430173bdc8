//! What every fuzz target must stand without libFuzzer: its first inputs, damaged copies of them, and
//! the inputs that once found something.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use checks::{TARGETS, seeds};
use shards::rng::Rng;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// Says which input failed.
struct Place<'a>(&'a str, &'a [u8]);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("target {}, input {:02x?}", self.0, self.1);
        }
    }
}

fn run(name: &str, check: fn(&[u8]), input: &[u8]) {
    let _place = Place(name, input);
    check(input);
}

#[test]
fn first_inputs_pass() {
    for (name, check) in TARGETS {
        let inputs = seeds::of(name);
        assert!(inputs.len() >= 2, "{name} has {} inputs", inputs.len());
        inputs.iter().for_each(|input| run(name, check, input));
    }
}

/// A little of what libFuzzer does at length.
#[test]
fn damaged_inputs_pass() {
    let mut rng = Rng::new(5);
    for (name, check) in TARGETS {
        // Whole worlds cost more than packets.
        let copies = if name.starts_with("packet_") { 20 } else { 1 };
        for input in seeds::of(name) {
            for _ in 0..copies {
                let mut damaged = input.clone();
                for _ in 0..1 + rng.next_u64() % 3 {
                    let draw = rng.next_u64();
                    let at = usize::try_from(draw % damaged.len() as u64).unwrap();
                    damaged[at] = draw.to_be_bytes()[0];
                }
                run(name, check, &damaged);
            }
        }
    }
}

#[test]
fn found_inputs_pass() {
    let mut names = BTreeSet::new();
    for target in fs::read_dir(folder("regressions")).unwrap() {
        let target = target.unwrap();
        let name = target.file_name().into_string().unwrap();
        if name == "README.md" {
            continue;
        }
        let check = TARGETS.iter().find(|(known, _)| *known == name).map(|(_, check)| *check);
        let check = check.unwrap_or_else(|| panic!("{name} is no target"));
        for input in fs::read_dir(target.path()).unwrap() {
            let path = input.unwrap().path();
            run(&name, check, &fs::read(&path).unwrap());
        }
        names.insert(name);
    }
    assert!(names.len() <= TARGETS.len());
}

/// Every target has its program, and no program is left without a target.
#[test]
fn every_target_has_a_program() {
    let of_files = fs::read_dir(folder("fuzz_targets"))
        .unwrap()
        .map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned());
    let known: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(of_files.collect::<BTreeSet<_>>(), known);
    let manifest = fs::read_to_string(folder("Cargo.toml")).unwrap();
    for name in known {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in the manifest");
    }
}
