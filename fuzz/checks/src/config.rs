//! The configuration reader over arbitrary text: no panic, an answer that names the mistake, and what
//! is printed can be read again.
//!
//! Input: where the text stands (one byte: file, flags or environment) and the text.

use std::fs;
use std::path::{Path, PathBuf};

use muring::cli::Cli;
use muring::config::{Config, ConfigError, Loaded, Source};
use toml::{Table, Value};

const CORES: [usize; 4] = [0, 1, 2, 3];

/// # Panics
/// If the reader does, or if its answer says too little.
pub fn check(data: &[u8]) {
    let Some((&place, text)) = data.split_first() else { return };
    let Ok(text) = str::from_utf8(text) else { return };
    let variables = if place % 3 == 2 { variables(text) } else { Vec::new() };
    let (loaded, file) = match place % 3 {
        0 => (load_file(text), Some(text)),
        1 => (load_flags(text), None),
        _ => (load_environment(&variables), None),
    };
    match loaded {
        Some(Ok(loaded)) => check_printed(&loaded, variables),
        Some(Err(error)) => check_error(&error, file),
        None => {}
    }
}

/// A file of this process and thread, gone when it is dropped.
struct File(PathBuf);

impl File {
    fn new(text: &str) -> Self {
        let thread = format!("{:?}", std::thread::current().id());
        let number: String = thread.chars().filter(char::is_ascii_digit).collect();
        let name = format!("muring-fuzz-{}-{number}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, text).expect("room for a small file");
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // Another input will write it again; what is left behind is one small file.
        drop(fs::remove_file(&self.0));
    }
}

fn load(
    path: Option<&Path>,
    set: Vec<String>,
    environment: Vec<(String, String)>,
) -> Result<Loaded, ConfigError> {
    let cli = Cli { config: path.map(Path::to_owned), set, ..Cli::default() };
    Config::load(&cli, environment.into_iter(), &CORES)
}

fn load_file(text: &str) -> Option<Result<Loaded, ConfigError>> {
    let table = text.parse::<Table>().unwrap_or_default();
    let listeners = table.get("listener").and_then(Value::as_array).into_iter().flatten();
    let addresses = listeners.filter_map(|listener| listener.get("address"));
    if table.get("listen").into_iter().chain(addresses).any(has_host_name) {
        return None;
    }
    let file = File::new(text);
    Some(load(Some(&file.0), Vec::new(), Vec::new()))
}

fn load_flags(text: &str) -> Option<Result<Loaded, ConfigError>> {
    let set: Vec<String> = text.lines().map(str::to_owned).collect();
    let is_listen = |setting: &String| setting.trim_start().starts_with("listen");
    (!set.iter().any(is_listen)).then(|| load(None, set, Vec::new()))
}

fn variables(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter_map(|line| line.split_once('='));
    lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn load_environment(variables: &[(String, String)]) -> Option<Result<Loaded, ConfigError>> {
    let may_ask = |(name, _): &(String, String)| {
        let name = name.to_uppercase();
        name.contains("LISTEN") || name == "MURING_CONFIG"
    };
    (!variables.iter().any(may_ask)).then(|| load(None, Vec::new(), variables.to_vec()))
}

/// Looking up a name would ask the network.
fn has_host_name(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains(|c: char| c.is_alphabetic()) && text.contains(':'),
        Value::Array(values) => values.iter().any(has_host_name),
        Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_)
        | Value::Table(_) => false,
    }
}

/// The resolved configuration is a file that says the same.
fn check_printed(loaded: &Loaded, variables: Vec<(String, String)>) {
    let file = File::new(&loaded.printed);
    // Secrets may be in variables.
    let again = load(Some(&file.0), Vec::new(), variables);
    let again = again.unwrap_or_else(|error| panic!("{error}: printed\n{}", loaded.printed));
    assert_eq!(again.config, loaded.config, "printed\n{}", loaded.printed);
    assert_eq!(again.printed, loaded.printed, "printed twice");
}

/// The operator is told where to look.
fn check_error(error: &ConfigError, file: Option<&str>) {
    match error {
        ConfigError::NoFile { path, error } => panic!("{}: {error}", path.display()),
        ConfigError::Unreadable { place, problem } => {
            assert!(!problem.is_empty());
            check_place(place, file, None);
        }
        ConfigError::Value { place, key, problem } => {
            assert!(!key.is_empty() && !problem.is_empty());
            check_place(place, file, Some(key));
        }
    }
}

fn check_place(place: &Source, file: Option<&str>, key: Option<&str>) {
    match place {
        Source::File { line, path: _ } => {
            let text = file.expect("only then there is a file");
            let line = line.unwrap_or_else(|| panic!("no line for {key:?} in\n{text}"));
            let lines: Vec<&str> = text.split('\n').collect();
            let blamed = lines[line - 1];
            let name = key.and_then(|key| key.rsplit('.').next()).unwrap_or_default();
            // A table of an array has no name of its own.
            let name = if name.ends_with(']') { "" } else { name };
            let is_escaped = blamed.contains('\\');
            assert!(blamed.contains(name) || is_escaped, "line {line} has no {name}:\n{text}");
        }
        Source::Flag(text) => assert!(text.starts_with("--")),
        Source::Variable(name) => assert!(name.starts_with("MURING_")),
        Source::Default | Source::Merged => panic!("nobody is to blame for {key:?}: {file:?}"),
    }
}
