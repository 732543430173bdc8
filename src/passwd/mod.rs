//! `muring passwd`: edits a password file, as `mosquitto_passwd` does.
//!
//! The text is `gate`'s part; here are the file, the terminal and chance. The file is replaced as a whole,
//! so that a broker that reads it meanwhile sees the old or the new one. Two edits at the same moment are
//! not kept apart: one of them is lost.

mod replace;

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use gate::passwd::{self, Hash, ParseError, Passwords, SALT_BYTES, Unfit};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::cli::Passwd;

/// Longest password that a CONNECT can carry.
const PASSWORD_BYTES_MAX: usize = 65_535;

/// What was done, and what the operator should know beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    pub what: String,
    pub notes: Vec<String>,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum PasswdError {
    #[error("cannot read {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("{} does not exist; --create makes it", .0.display())]
    Missing(PathBuf),
    #[error("{} exists; without --create it is edited", .0.display())]
    Exists(PathBuf),
    #[error("cannot write {}: {error}", path.display())]
    Write { path: PathBuf, error: io::Error },
    #[error("the user name {0}")]
    User(&'static str),
    #[error("{} has no user {user:?}", path.display())]
    NoUser { path: PathBuf, user: String },
    #[error("cannot ask for the password: {0}; --stdin reads it from standard input")]
    Ask(io::Error),
    #[error("cannot read the password from standard input: {0}")]
    Stdin(io::Error),
    #[error("the passwords differ")]
    Differ,
    #[error("the password is empty")]
    Empty,
    #[error("the password is longer than {PASSWORD_BYTES_MAX} bytes")]
    TooLong,
    #[error("the password {0}; without --scram there is no such limit")]
    Unfit(#[from] Unfit),
    #[error("the kernel has no random bytes")]
    NoChance,
    #[error(transparent)]
    Line(#[from] ParseError),
}

/// Does what the flags say.
///
/// # Errors
/// Then the file is as it was.
pub fn run(flags: &Passwd) -> Result<Done, PasswdError> {
    let path = &flags.file;
    let Some(user) = flags.user.as_deref() else {
        return upgrade(flags);
    };
    if flags.delete {
        let text = passwd::delete(&read(path)?, user)
            .ok_or_else(|| PasswdError::NoUser { path: path.clone(), user: user.to_owned() })?;
        return write(path, &text, format!("{user}: deleted"));
    }
    passwd::check_user(user).map_err(PasswdError::User)?;
    if flags.scram && gate::scram::prepare(user).as_deref() != Ok(user) {
        return Err(PasswdError::User("is not one that SCRAM can compare"));
    }
    let text = if flags.create { nothing_at(path)? } else { read(path)? };
    let hash = Form::of(flags).hash(&password(flags, user)?, salt()?)?;
    write(path, &passwd::set(&text, user, &hash), format!("{user}: password set"))
}

/// How new entries are hashed.
#[derive(Clone, Copy, Debug)]
enum Form {
    Argon2id,
    Pbkdf2,
    Scram,
}

impl Form {
    fn of(flags: &Passwd) -> Self {
        match (flags.scram, flags.pbkdf2) {
            (true, _) => Self::Scram,
            (false, true) => Self::Pbkdf2,
            (false, false) => Self::Argon2id,
        }
    }

    fn hash(self, password: &[u8], salt: [u8; SALT_BYTES]) -> Result<Hash, Unfit> {
        match self {
            Self::Argon2id => Ok(Hash::argon2id(password, salt)),
            Self::Pbkdf2 => Ok(Hash::pbkdf2(password, salt)),
            Self::Scram => Hash::new_scram(password, salt),
        }
    }
}

fn upgrade(flags: &Passwd) -> Result<Done, PasswdError> {
    let path = &flags.file;
    let form = Form::of(flags);
    let hash_of = |password: &[u8]| form.hash(password, salt()?).map_err(PasswdError::Unfit);
    let (text, count) = passwd::upgrade(&path.display().to_string(), &read(path)?, hash_of)?;
    write(path, &text, format!("passwords hashed: {count}"))
}

fn read(path: &Path) -> Result<String, PasswdError> {
    std::fs::read_to_string(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => PasswdError::Missing(path.to_owned()),
        _ => PasswdError::Read { path: path.to_owned(), error },
    })
}

/// The text of a file that is not there yet.
fn nothing_at(path: &Path) -> Result<String, PasswdError> {
    match path.symlink_metadata() {
        Ok(_) => Err(PasswdError::Exists(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(PasswdError::Read { path: path.to_owned(), error }),
    }
}

fn write(path: &Path, text: &str, what: String) -> Result<Done, PasswdError> {
    let kept = replace::replace(path, text)
        .map_err(|error| PasswdError::Write { path: path.to_owned(), error })?;
    let mut notes = Vec::new();
    if !kept {
        let path = path.display();
        notes.push(format!("{path}: has another owner than before, who alone may read it"));
    }
    if let Err(error) = Passwords::parse(&path.display().to_string(), text) {
        notes.push(format!("a broker will refuse this file: {error}"));
    }
    Ok(Done { what, notes })
}

fn password(flags: &Passwd, user: &str) -> Result<Vec<u8>, PasswdError> {
    let password = if flags.stdin { piped()? } else { asked(user)?.into_bytes() };
    if password.is_empty() {
        return Err(PasswdError::Empty);
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(PasswdError::TooLong);
    }
    Ok(password)
}

fn asked(user: &str) -> Result<String, PasswdError> {
    let ask = |prompt: String| rpassword::prompt_password(prompt).map_err(PasswdError::Ask);
    let password = ask(format!("Password of {user}: "))?;
    if ask("The same again: ".to_owned())? == password {
        Ok(password)
    } else {
        Err(PasswdError::Differ)
    }
}

fn piped() -> Result<Vec<u8>, PasswdError> {
    let mut password = Vec::new();
    // Room for a line end, and one byte more to see that it is too long.
    let most = u64::try_from(PASSWORD_BYTES_MAX).map_or(u64::MAX, |bytes| bytes.saturating_add(3));
    io::stdin().take(most).read_to_end(&mut password).map_err(PasswdError::Stdin)?;
    if password.pop_if(|last| *last == b'\n').is_some() {
        password.pop_if(|last| *last == b'\r');
    }
    Ok(password)
}

fn salt() -> Result<[u8; SALT_BYTES], PasswdError> {
    let mut salt = [0; SALT_BYTES];
    SystemRandom::new().fill(&mut salt).map_err(|_| PasswdError::NoChance)?;
    Ok(salt)
}
