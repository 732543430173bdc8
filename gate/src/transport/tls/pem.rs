//! Sections of PEM texts, with the lines they begin at, so that a broken file can be mended.

use std::fmt;

use rustls::pki_types::pem::{PemObject, SectionKind};

/// A PEM text and the name of the file it came from.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem {
    pub name: String,
    pub text: Vec<u8>,
}

impl Pem {
    pub fn new(name: impl Into<String>, text: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    /// All sections of a kind that matters here.
    pub(super) fn sections(&self) -> Result<Vec<Section>, MaterialError> {
        let mut iter = <(SectionKind, Vec<u8>)>::pem_slice_iter(&self.text);
        let mut sections = Vec::new();
        while let Some(section) = iter.next() {
            let read = &self.text[..self.text.len() - iter.remainder().len()];
            let line = start_line(read);
            let (kind, der) = section.map_err(|error| self.broken(line, &error))?;
            sections.push(Section { kind, der, line });
        }
        Ok(sections)
    }

    pub(super) fn error(&self, line: Option<usize>, problem: impl Into<String>) -> MaterialError {
        MaterialError { file: self.name.clone(), line, problem: problem.into() }
    }

    /// Whether the text says that its key needs a pass phrase.
    pub(super) fn is_encrypted(&self) -> bool {
        self.text.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED)
    }

    fn broken(&self, line: usize, error: &rustls::pki_types::pem::Error) -> MaterialError {
        use rustls::pki_types::pem::Error;
        if self.is_encrypted() {
            return self.error(Some(line), DECRYPT_IT);
        }
        // Not the error's own text: it may cite a line of a key.
        let problem = match error {
            Error::MissingSectionEnd { .. } => "the section has no end; was the file cut short?",
            Error::IllegalSectionStart { .. } => "this is not how a PEM section begins",
            Error::Base64Decode(_) => "the section is not base64; was the file damaged?",
            _ => "the section cannot be read; was the file damaged?",
        };
        self.error(Some(line), problem)
    }
}

impl fmt::Debug for Pem {
    /// Without the text, which may be a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pem").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What stands between a BEGIN and an END.
pub(super) struct Section {
    pub(super) kind: SectionKind,
    pub(super) der: Vec<u8>,
    pub(super) line: usize,
}

/// What is wrong with a file, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaterialError {
    /// The name that the text was given with.
    pub file: String,
    /// From 1, where one line is to blame.
    pub line: Option<usize>,
    pub problem: String,
}

impl std::error::Error for MaterialError {}

impl fmt::Display for MaterialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.problem),
            None => write!(f, "{}: {}", self.file, self.problem),
        }
    }
}

/// The line of the last BEGIN, or the last line if there is none.
fn start_line(read: &[u8]) -> usize {
    let begin = read.windows(BEGIN.len()).rposition(|window| window == BEGIN);
    let before = begin.map_or(read, |begin| &read[..begin]);
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

/// The remedy for a key that needs a pass phrase.
pub(super) const DECRYPT_IT: &str = "the key is encrypted, and nobody could type its pass phrase: \
     write it without one (openssl pkey -in FILE -out NEW) and keep the file private";

const BEGIN: &[u8] = b"-----BEGIN";
const ENCRYPTED: &[u8] = b"ENCRYPTED";
