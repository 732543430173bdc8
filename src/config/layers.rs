//! Where values come from: file, environment, flags, from weak to strong.
//!
//! Each layer is a TOML table that was checked against [`Document`] by itself, so that a wrong type or
//! an unknown key is blamed on the layer (and line) it stands in.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use toml::{Table, Value};

use super::document::{Document, KEYS_WITHOUT_DEFAULT};
use super::{ConfigError, Source};
use crate::cli::Cli;

const PREFIX: &str = "MURING_";

/// The environment variable that names the file.
const FILE_VARIABLE: &str = "MURING_CONFIG";

/// A key of the file: `listen`, or `limits.packet_bytes_max`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    section: Option<String>,
    name: String,
}

impl Key {
    pub(super) fn parse(text: &str) -> Self {
        match text.split_once('.') {
            Some((section, name)) => {
                Self { section: Some(section.to_owned()), name: name.to_owned() }
            }
            None => Self { section: None, name: text.to_owned() },
        }
    }

    fn find<'a>(&self, table: &'a Table) -> Option<&'a Value> {
        match &self.section {
            Some(section) => table.get(section)?.as_table()?.get(&self.name),
            None => table.get(&self.name),
        }
    }

    fn table(&self, value: Value) -> Table {
        let mut table = Table::new();
        table.insert(self.name.clone(), value);
        match &self.section {
            Some(section) => Table::from_iter([(section.clone(), Value::Table(table))]),
            None => table,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.section {
            Some(section) => write!(f, "{section}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

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
}

impl Layers {
    pub(super) fn gather(
        cli: &Cli,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut variables: Vec<_> =
            environment.filter(|(name, _)| name.starts_with(PREFIX)).collect();
        variables.sort();
        let mut layers = Self::default();
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
        let top = Key { section: None, name: lower.clone() };
        let nested = lower.split_once('_').map(|(section, name)| Key {
            section: Some(section.to_owned()),
            name: name.to_owned(),
        });
        let known = [Some(top), nested];
        let known = known.into_iter().flatten().find(|key| is_known(defaults, key));
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
            let source = Source::Flag(format!("--set {setting}"));
            let Some((key, text)) = setting.split_once('=') else {
                let problem = "not of the form KEY=VALUE".to_owned();
                return Err(ConfigError::Unreadable { place: source, problem });
            };
            let key = Key::parse(key.trim());
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
        let document = toml::de::DeTable::parse(text).ok()?;
        let mut table = document.get_ref();
        if let Some(section) = &key.section {
            table = table.get(section.as_str())?.get_ref().as_table()?;
        }
        let (name, _) = table.get_key_value(key.name.as_str())?;
        Some(line_at(text, name.span().start))
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
    let without = key.section.is_none() && KEYS_WITHOUT_DEFAULT.contains(&key.name.as_str());
    without || key.find(defaults).is_some_and(|value| !value.is_table())
}

/// Reads text as the type that the key has.
fn parse_value(defaults: &Table, key: &Key, text: &str) -> Result<Value, String> {
    let integer = || text.parse().map(Value::Integer).map_err(|_| format!("{text:?} is no number"));
    if key.section.is_none() {
        match key.name.as_str() {
            "shards" => return integer(),
            "idle" => return Ok(integer().unwrap_or_else(|_| Value::String(text.to_owned()))),
            "listen" => {
                let parts = text.split(',').map(|part| Value::String(part.trim().to_owned()));
                return Ok(Value::Array(parts.collect()));
            }
            _ => {}
        }
    }
    match key.find(defaults) {
        Some(Value::Integer(_)) => integer(),
        Some(Value::Boolean(_)) => {
            text.parse().map(Value::Boolean).map_err(|_| format!("{text:?} is not true or false"))
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
