//! Where values come from: file, environment, flags, from weak to strong.
//!
//! Each layer is a TOML table that was checked against [`Document`] by itself, so that a wrong type or
//! an unknown key is blamed on the layer (and line) it stands in.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use toml::{Table, Value};

use super::document::{Document, TEXTS_WITHOUT_DEFAULT};
use super::keys::Key;
use super::{ConfigError, Source};
use crate::cli::Cli;

const PREFIX: &str = "MURING_";

/// The environment variable that names the file.
const FILE_VARIABLE: &str = "MURING_CONFIG";

#[derive(Debug)]
struct Layer {
    source: Source,
    table: Table,
}

/// All layers, weak to strong.
#[derive(Debug, Default)]
pub(super) struct Layers {
    layers: Vec<Layer>,
    file: Option<(PathBuf, String)>,
    /// Variables with our prefix that mean nothing to us.
    pub(super) unknown_variables: Vec<String>,
    /// Names of all variables; secrets may be in them.
    variables: BTreeSet<String>,
}

impl Layers {
    pub(super) fn gather(
        cli: &Cli,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut layers = Self::default();
        let mut variables = Vec::new();
        for (name, text) in environment {
            if name.starts_with(PREFIX) {
                variables.push((name.clone(), text));
            }
            layers.variables.insert(name);
        }
        variables.sort();
        let named = variables.iter().find(|(name, _)| name == FILE_VARIABLE);
        let file = cli.config.clone().or_else(|| named.map(|(_, path)| path.into()));
        if let Some(path) = file {
            layers.read_file(&path)?;
        }
        let defaults = defaults()?;
        for (name, text) in variables {
            layers.add_variable(&defaults, &name, &text)?;
        }
        layers.add_flags(&defaults, cli)?;
        Ok(layers)
    }

    /// All layers laid over each other.
    pub(super) fn merge(&self) -> Result<Document, ConfigError> {
        let mut merged = Table::new();
        for layer in &self.layers {
            lay_over(&mut merged, &layer.table);
        }
        Document::deserialize(merged).map_err(|error| ConfigError::Unreadable {
            place: Source::Merged,
            problem: plain(&error),
        })
    }

    /// Where the value of `key` stands that counts.
    pub(super) fn source_of(&self, key: &Key) -> Source {
        let strongest = self.layers.iter().rev().find(|layer| key.find(&layer.table).is_some());
        match strongest.map(|layer| &layer.source) {
            Some(Source::File { path, line: _ }) => {
                Source::File { path: path.clone(), line: self.line_of(key) }
            }
            Some(source) => source.clone(),
            None => Source::Default,
        }
    }

    /// Whether there is an environment variable of this name.
    pub(super) fn has_variable(&self, name: &str) -> bool {
        self.variables.contains(name)
    }

    /// Whether somebody wrote this key.
    pub(super) fn is_given(&self, key: &Key) -> bool {
        self.layers.iter().any(|layer| key.find(&layer.table).is_some())
    }

    /// The mistake under this key.
    pub(super) fn wrong(&self, key: &Key, problem: String) -> ConfigError {
        ConfigError::Value { place: self.source_of(key), key: key.to_string(), problem }
    }

    fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::NoFile { path: path.to_owned(), error })?;
        let in_line = |error: &toml::de::Error| Source::File {
            path: path.to_owned(),
            line: error.span().map(|span| line_at(&text, span.start)),
        };
        let unreadable = |error: toml::de::Error| ConfigError::Unreadable {
            place: in_line(&error),
            problem: plain(&error),
        };
        // The table alone would not say in which line a wrong key stands.
        toml::from_str::<Document>(&text).map_err(unreadable)?;
        let table = toml::from_str(&text).map_err(unreadable)?;
        let source = Source::File { path: path.to_owned(), line: None };
        self.layers.push(Layer { source, table });
        self.file = Some((path.to_owned(), text));
        Ok(())
    }

    fn add_variable(
        &mut self,
        defaults: &Table,
        name: &str,
        text: &str,
    ) -> Result<(), ConfigError> {
        if name == FILE_VARIABLE {
            return Ok(());
        }
        let lower = name.trim_start_matches(PREFIX).to_lowercase();
        if is_of_listener(&lower) {
            let problem = "listeners with settings of their own ([[listener]]) can only stand in \
                the file; MURING_LISTEN takes plain addresses";
            let place = Source::Variable(name.to_owned());
            return Err(ConfigError::Unreadable { place, problem: problem.to_owned() });
        }
        let mut keys = Key::leaves(defaults);
        keys.extend(TEXTS_WITHOUT_DEFAULT.map(Key::parse));
        keys.push(Key::parse("shards"));
        let known = keys.into_iter().find(|key| key.variable() == lower);
        match known {
            Some(key) => self.add(defaults, Source::Variable(name.to_owned()), &key, text),
            // Container platforms put variables of their own here for a service called muring.
            None => {
                self.unknown_variables.push(name.to_owned());
                Ok(())
            }
        }
    }

    fn add_flags(&mut self, defaults: &Table, cli: &Cli) -> Result<(), ConfigError> {
        for setting in &cli.set {
            let Some((key, text)) = setting.split_once('=') else {
                let source = Source::Flag(format!("--set {setting}"));
                let problem = "not of the form KEY=VALUE".to_owned();
                return Err(ConfigError::Unreadable { place: source, problem });
            };
            let key = Key::parse(key.trim());
            // Without the value, which could be a secret.
            let source = Source::Flag(format!("--set {key}"));
            if key == Key::parse("listener") {
                let problem = "listeners with settings of their own ([[listener]]) can only stand \
                    in the file; --listen takes plain addresses"
                    .to_owned();
                return Err(ConfigError::Unreadable { place: source, problem });
            }
            if !is_known(defaults, &key) {
                let problem = format!("no setting is called {key}; see --print-config");
                return Err(ConfigError::Unreadable { place: source, problem });
            }
            self.add(defaults, source, &key, text.trim())?;
        }
        if !cli.listen.is_empty() {
            let list = cli.listen.iter().cloned().map(Value::String).collect();
            let key = Key::parse("listen");
            self.push(Source::Flag("--listen".to_owned()), &key, Value::Array(list))?;
        }
        if let Some(shards) = cli.shards {
            let key = Key::parse("shards");
            self.push(Source::Flag("--shards".to_owned()), &key, Value::Integer(shards))?;
        }
        let texts = [
            ("cores", &cli.cores),
            ("idle", &cli.idle),
            ("log", &cli.log),
            ("log_level", &cli.log_level),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                let source = Source::Flag(format!("--{}", name.replace('_', "-")));
                self.add(defaults, source, &Key::parse(name), text)?;
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        defaults: &Table,
        source: Source,
        key: &Key,
        text: &str,
    ) -> Result<(), ConfigError> {
        match parse_value(defaults, key, text) {
            Ok(value) => self.push(source, key, value),
            Err(problem) => Err(ConfigError::Unreadable { place: source, problem }),
        }
    }

    fn push(&mut self, source: Source, key: &Key, value: Value) -> Result<(), ConfigError> {
        let table = key.table(value);
        if let Err(error) = Document::deserialize(table.clone()) {
            let problem = format!("{key}: {}", plain(&error));
            return Err(ConfigError::Unreadable { place: source, problem });
        }
        self.layers.push(Layer { source, table });
        Ok(())
    }

    fn line_of(&self, key: &Key) -> Option<usize> {
        let (_, text) = self.file.as_ref()?;
        key.offset(text).map(|offset| line_at(text, offset))
    }
}

/// The defaults as a table: which keys there are, and of which type.
fn defaults() -> Result<Table, ConfigError> {
    Table::try_from(Document::default()).map_err(|error| ConfigError::Unreadable {
        place: Source::Default,
        problem: error.to_string(),
    })
}

/// The reader's message in an operator's words.
fn plain(error: &toml::de::Error) -> String {
    error.message().replace("i64", "an integer")
}

fn is_known(defaults: &Table, key: &Key) -> bool {
    let texts = || TEXTS_WITHOUT_DEFAULT.into_iter().map(Key::parse);
    *key == Key::parse("shards")
        || texts().any(|text| text == *key)
        || key.find(defaults).is_some_and(|value| !value.is_table())
}

/// True for the name of a variable that means a `[[listener]]`. Not for what a container platform says
/// about a service called muring-listener.
fn is_of_listener(variable: &str) -> bool {
    let Some(rest) = variable.strip_prefix("listener") else { return false };
    rest.is_empty()
        || rest.strip_prefix('_').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Reads text as the type that the key has.
fn parse_value(defaults: &Table, key: &Key, text: &str) -> Result<Value, String> {
    let integer = || text.parse().map(Value::Integer).map_err(|_| format!("{text:?} is no number"));
    if *key == Key::parse("shards") {
        return integer();
    }
    if *key == Key::parse("idle") {
        return Ok(integer().unwrap_or_else(|_| Value::String(text.to_owned())));
    }
    match key.find(defaults) {
        Some(Value::Integer(_)) => integer(),
        Some(Value::Boolean(_)) => {
            text.parse().map(Value::Boolean).map_err(|_| format!("{text:?} is not true or false"))
        }
        Some(Value::Array(_)) => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            Ok(Value::Array(parts.map(|part| Value::String(part.to_owned())).collect()))
        }
        _ => Ok(Value::String(text.to_owned())),
    }
}

fn lay_over(under: &mut Table, over: &Table) {
    for (name, value) in over {
        match (under.get_mut(name), value) {
            (Some(Value::Table(under)), Value::Table(over)) => lay_over(under, over),
            _ => {
                under.insert(name.clone(), value.clone());
            }
        }
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or_default();
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}
