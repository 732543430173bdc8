//! Files that an operator writes: how a mistake in one is told.

/// What is wrong with a file, and where. A file with a mistake is refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}, line {line}: {problem}")]
pub struct ParseError {
    pub file: Box<str>,
    /// Counted from 1.
    pub line: usize,
    pub problem: String,
}
