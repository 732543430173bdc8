//! Settings of a broker that is started, written behind its name: `muring{idle=spin}`.
//!
//! So a comparison can have one broker several times, each time set in another way, in one
//! interleaved run.

use std::process::Command;

use crate::error::Error;

/// Between two settings: the comma is the one between two brokers.
const SEPARATOR: char = '+';

/// What muring is told beyond the comparison's own configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings(Vec<(String, String)>);

impl Settings {
    /// Splits `muring{idle=spin+sys.interval_s=1}` into its name and its settings; `None` if the text
    /// has no braces.
    ///
    /// # Errors
    /// If what is inside the braces is no list of settings.
    pub(crate) fn split(text: &str) -> Result<Option<(&str, Self)>, Error> {
        let Some((name, rest)) = text.split_once('{') else { return Ok(None) };
        let wrong = || {
            Error::Usage(format!(
                "{text}: NAME{{KEY=VALUE{SEPARATOR}...}} is wanted, for example muring{{idle=spin}}"
            ))
        };
        let inside = rest.strip_suffix('}').ok_or_else(wrong)?;
        let pairs = inside.split(SEPARATOR).map(|pair| match pair.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(wrong()),
        });
        Ok(Some((name, Self(pairs.collect::<Result<_, _>>()?))))
    }

    /// Adds them to the flags of muring; a key in capitals is an environment variable.
    pub(crate) fn apply(&self, command: &mut Command) {
        for (key, value) in &self.0 {
            if key.chars().any(|letter| letter.is_ascii_lowercase()) {
                command.arg("--set").arg(format!("{key}={value}"));
            } else {
                command.env(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_become_flags_and_capitals_the_environment() {
        let (name, settings) =
            Settings::split("muring{idle=spin+limits.linger_ms=1+MIMALLOC_ALLOW_THP=1}")
                .unwrap()
                .unwrap();
        assert_eq!(name, "muring");
        let mut command = Command::new("muring");
        settings.apply(&mut command);
        let flags: Vec<_> = command.get_args().map(|flag| flag.to_str().unwrap()).collect();
        assert_eq!(flags, ["--set", "idle=spin", "--set", "limits.linger_ms=1"]);
        let variables: Vec<_> = command.get_envs().collect();
        assert_eq!(variables, [("MIMALLOC_ALLOW_THP".as_ref(), Some("1".as_ref()))]);
    }

    #[test]
    fn what_is_no_list_of_settings_is_refused() {
        assert_eq!(Settings::split("muring").unwrap(), None);
        for text in ["muring{", "muring{}", "muring{idle}", "muring{idle=spin+}", "muring{=1}"] {
            let why = Settings::split(text).unwrap_err().to_string();
            assert!(why.contains(text), "{why}");
        }
    }
}
