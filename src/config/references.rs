//! Values that stand elsewhere: in files, or in the environment. Secrets come in no other way, so that
//! what is printed of the configuration holds none.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::keys::Key;
use super::layers::Layers;
use super::{ConfigError, Source};

/// Bits of a file's mode that let others than its owner read it.
const OTHERS_MAY_READ: u32 = 0o044;

/// Where a secret is. It is read when it is needed and held nowhere here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    File(PathBuf),
    /// An environment variable.
    Variable(String),
}

impl Secret {
    /// The secret itself, without the line end that editors put behind it.
    ///
    /// # Errors
    /// If the file cannot be read or the variable is not there.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = match self {
            Self::File(path) => fs::read(path)?,
            Self::Variable(name) => {
                let missing = || io::Error::new(io::ErrorKind::NotFound, "no such variable");
                std::env::var(name).map_err(|_| missing())?.into_bytes()
            }
        };
        for end in *b"\n\r" {
            if bytes.last() == Some(&end) {
                bytes.pop();
            }
        }
        Ok(bytes)
    }

    /// The reference, which says nothing secret; also for messages.
    #[must_use]
    pub fn reference(&self) -> String {
        match self {
            Self::File(path) => format!("file:{}", path.display()),
            Self::Variable(name) => format!("env:{name}"),
        }
    }
}

/// Reads references, and blames the key they stand under.
#[derive(Clone, Copy, Debug)]
pub(super) struct References<'a> {
    pub(super) layers: &'a Layers,
}

impl References<'_> {
    /// A path as it counts: one in the file is relative to the file's folder. The text is replaced by it.
    pub(super) fn path(&self, key: &Key, text: &mut String) -> Result<PathBuf, ConfigError> {
        let wrong = |problem: String| self.layers.wrong(key, problem);
        if text.is_empty() || text.contains('\0') {
            return Err(wrong("not the path of a file".to_owned()));
        }
        let from = match self.layers.source_of(key) {
            Source::File { path, line: _ } => path.parent().map(Path::to_owned),
            Source::Default | Source::Variable(_) | Source::Flag(_) | Source::Merged => None,
        };
        let path = from.unwrap_or_default().join(&*text);
        let path = std::path::absolute(&path).map_err(|error| wrong(error.to_string()))?;
        *text = path.display().to_string();
        Ok(path)
    }

    /// Like [`Self::path`], for a key that need not be there.
    pub(super) fn optional_path(
        &self,
        key: &Key,
        text: &mut Option<String>,
    ) -> Result<Option<PathBuf>, ConfigError> {
        text.as_mut().map(|text| self.path(key, text)).transpose()
    }

    /// A reference to a secret.
    pub(super) fn secret(&self, key: &Key, text: &mut String) -> Result<Secret, ConfigError> {
        if let Some(path) = text.strip_prefix("file:") {
            let mut path = path.to_owned();
            let found = self.path(key, &mut path)?;
            *text = format!("file:{path}");
            return Ok(Secret::File(found));
        }
        let Some(name) = text.strip_prefix("env:") else {
            let problem = "give file:PATH or env:NAME, where the secret is; the secret itself may not \
                stand here";
            return Err(self.layers.wrong(key, problem.to_owned()));
        };
        if !self.layers.has_variable(name) {
            let problem = format!("there is no environment variable {name:?}");
            return Err(self.layers.wrong(key, problem));
        }
        Ok(Secret::Variable(name.to_owned()))
    }

    /// A secret that is usually a file: its plain path will do as well.
    pub(super) fn secret_file(&self, key: &Key, text: &mut String) -> Result<Secret, ConfigError> {
        if text.starts_with("file:") || text.starts_with("env:") {
            self.secret(key, text)
        } else {
            self.path(key, text).map(Secret::File)
        }
    }
}

/// What is wrong with how a file that should be secret is kept. A file that is not there is for who
/// reads it to complain about.
pub(super) fn exposed(path: &Path) -> Option<String> {
    let mode = fs::metadata(path).ok()?.permissions().mode();
    let path = path.display();
    (mode & OTHERS_MAY_READ != 0).then(|| {
        format!(
            "{path} can be read by others than its owner (mode {:03o}); chmod 600 {path}",
            mode & 0o777
        )
    })
}
