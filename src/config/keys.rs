//! Names of settings: where they stand in a table, and in which line of the file.

use std::fmt;

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

/// The way to a value: `listen`, `limits.packet_bytes_max` or `listener[0].tls.key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Name(String),
    /// A table of an array of tables.
    Index(usize),
}

impl Key {
    /// A key without positions.
    pub(super) fn parse(text: &str) -> Self {
        Self(text.split('.').map(|name| Step::Name(name.to_owned())).collect())
    }

    /// The table at this position of the array that is called `name`.
    pub(super) fn element(name: &str, index: usize) -> Self {
        Self(vec![Step::Name(name.to_owned()), Step::Index(index)])
    }

    /// What stands in the table of this name; `name` may have dots.
    pub(super) fn child(&self, name: &str) -> Self {
        Self([self.0.clone(), Self::parse(name).0].concat())
    }

    pub(super) fn at(mut self, index: usize) -> Self {
        self.0.push(Step::Index(index));
        self
    }

    pub(super) fn find<'a>(&self, table: &'a Table) -> Option<&'a Value> {
        let (first, rest) = self.0.split_first()?;
        let Step::Name(name) = first else { return None };
        rest.iter().try_fold(table.get(name)?, |value, step| match step {
            Step::Name(name) => value.as_table()?.get(name),
            Step::Index(index) => value.as_array()?.get(*index),
        })
    }

    /// A table with nothing but this value in it.
    pub(super) fn table(&self, value: Value) -> Table {
        let wrap = |value, step: &Step| match step {
            Step::Name(name) => Value::Table(Table::from_iter([(name.clone(), value)])),
            Step::Index(_) => Value::Array(vec![value]),
        };
        match self.0.iter().rev().fold(value, wrap) {
            Value::Table(table) => table,
            _ => Table::new(),
        }
    }

    /// Where in the text the key begins.
    pub(super) fn offset(&self, text: &str) -> Option<usize> {
        let document = DeTable::parse(text).ok()?;
        let (first, rest) = self.0.split_first()?;
        let Step::Name(name) = first else { return None };
        let (key, mut value) = document.get_ref().get_key_value(name.as_str())?;
        let mut offset = key.span().start;
        for step in rest {
            (offset, value) = below(value, step)?;
        }
        Some(offset)
    }

    /// All keys of values that are not tables themselves, as deep as they go.
    pub(super) fn leaves(table: &Table) -> Vec<Self> {
        let below = |(name, value): (&String, &Value)| {
            let name = Step::Name(name.clone());
            match value {
                Value::Table(table) => {
                    let leaves = Self::leaves(table).into_iter();
                    leaves.map(|leaf| Self([vec![name.clone()], leaf.0].concat())).collect()
                }
                _ => vec![Self(vec![name])],
            }
        };
        table.iter().flat_map(below).collect()
    }

    /// The environment variable's name without prefix, in small letters.
    pub(super) fn variable(&self) -> String {
        self.to_string().replace('.', "_")
    }
}

fn below<'a>(
    value: &'a Spanned<DeValue<'a>>,
    step: &Step,
) -> Option<(usize, &'a Spanned<DeValue<'a>>)> {
    match step {
        Step::Name(name) => {
            let (key, value) = value.get_ref().as_table()?.get_key_value(name.as_str())?;
            Some((key.span().start, value))
        }
        Step::Index(index) => {
            let value = value.get_ref().as_array()?.get(*index)?;
            Some((value.span().start, value))
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Name(name) if position == 0 => f.write_str(name)?,
                Step::Name(name) => write!(f, ".{name}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}
