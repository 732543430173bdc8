//! The repository's rules that a machine can check: which module may use which, where unsafe code and
//! calls of the core may stand, and what must not be left behind.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules of the core from low to high. A module may use what stands before it, and itself.
const LAYERS: &[&str] = &[
    "marks", "planted", "ids", "time", "limits", "reject", "rng", "arena", "origin", "output",
    "slots", "timers", "auth", "codec", "topic", "store", "session", "mailbox", "conn", "mail",
    "counters", "shard",
];

/// What the core may depend on: data structures, nothing that touches the world.
const CORE_DEPENDENCIES: &[&str] = &["bytes", "hashbrown", "rtrb"];

/// Files that may hold unsafe code: the allocator and one call of it, the net ring, and in tests a counting
/// allocator and a data race that a sanitizer must find.
const UNSAFE_FILES: &[&str] = &[
    "heap/src/lib.rs",
    "heap/src/pages.rs",
    "src/reactor/net_ring.rs",
    "src/reactor/buffers.rs",
    "src/reactor/enter.rs",
    "src/reactor/memory.rs",
    "tests/allocations.rs",
    "shards/tests/threads/planted.rs",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All Rust files below a folder of the repository, by their path in it, with their text.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the repository") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                if !path.ends_with("target") && !path.ends_with("node_modules") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("source text");
                let name = path.strip_prefix(root()).expect("below the root");
                found.push((name.to_string_lossy().into_owned(), text));
            }
        }
    }
    assert!(!found.is_empty(), "nothing below {folder}");
    found.sort();
    found
}

/// The code of a file, its comments left out.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines()).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn arrows_between_modules_of_the_core_go_down() {
    let layer = |module: &str| LAYERS.iter().position(|&known| known == module);
    for (name, text) in sources("shards/src") {
        let inside = name.strip_prefix("shards/src/").expect("below it");
        let own = inside.split(['/', '.']).next().unwrap_or_default();
        if own == "lib" {
            continue;
        }
        let own_layer =
            layer(own).unwrap_or_else(|| panic!("{name}: {own} has no layer in tidy.rs"));
        for (number, line) in code(&text) {
            for used in line.split("crate::").skip(1) {
                let end = used.find(|c: char| !c.is_alphanumeric() && c != '_');
                let used = &used[..end.unwrap_or(used.len())];
                if let Some(used_layer) = layer(used) {
                    assert!(used_layer <= own_layer, "{name}:{number}: {own} must not use {used}");
                }
            }
        }
    }
}

#[test]
fn the_core_touches_nothing_outside() {
    let manifest = fs::read_to_string(root().join("shards/Cargo.toml")).expect("the manifest");
    let dependencies = manifest.split("[dependencies]").nth(1).expect("a list of dependencies");
    let dependencies = dependencies.split("\n[").next().unwrap_or_default();
    for line in dependencies.lines().filter(|line| line.contains('=') && !line.starts_with('#')) {
        let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
        assert!(CORE_DEPENDENCIES.contains(&name), "the core must not depend on {name}");
    }
    let lib = fs::read_to_string(root().join("shards/src/lib.rs")).expect("the crate's root");
    assert!(lib.contains("#![forbid(unsafe_code)]"));
    for (name, text) in sources("shards/src") {
        for (number, line) in code(&text) {
            for banned in ["std::net::Tcp", "std::fs", "std::thread", "Instant", "SystemTime"] {
                assert!(!line.contains(banned), "{name}:{number}: {banned} in the core");
            }
        }
    }
}

#[test]
fn only_the_reactor_calls_the_core() {
    for (name, text) in sources("src") {
        if name.starts_with("src/reactor/") {
            continue;
        }
        for (number, line) in code(&text) {
            assert!(
                !line.contains("core.handle(") && !line.contains("shard.handle("),
                "{name}:{number}: only the reactor calls the core"
            );
        }
    }
}

#[test]
fn unsafe_code_stays_in_its_files() {
    for folder in ["src", "heap", "shards", "tests"] {
        for (name, text) in sources(folder) {
            let is_allowed = UNSAFE_FILES.contains(&name.as_str()) || name.ends_with("tidy.rs");
            for (number, line) in code(&text).filter(|_| !is_allowed) {
                let is_unsafe = ["unsafe {", "unsafe fn", "unsafe impl"]
                    .iter()
                    .any(|keyword| line.contains(keyword));
                assert!(!is_unsafe, "{name}:{number}: unsafe code");
            }
        }
    }
}

#[test]
fn nothing_is_left_behind() {
    for folder in ["src", "heap", "shards", "tests"] {
        for (name, text) in sources(folder) {
            if name.ends_with("tidy.rs") {
                continue;
            }
            for (number, line) in (1..).zip(text.lines()) {
                for left in
                    ["TODO", "FIXME", "XXX", "todo!(", "dbg!(", "#[ignore", "unimplemented!("]
                {
                    assert!(!line.contains(left), "{name}:{number}: {left}");
                }
                // glommio leaks tasks that are cancelled before they end.
                let is_cancel = name.starts_with("src/") && line.contains(".cancel()");
                assert!(!is_cancel, "{name}:{number}: a task ends by itself");
            }
        }
    }
}
