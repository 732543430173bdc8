//! A file whose content changes as a whole or not at all, whatever happens meanwhile.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

/// Bits that say who may do what.
const MODE: u32 = 0o7777;
const OWNER_ONLY: u32 = 0o600;

/// Puts `text` into the file, with the owner and mode that it had, or readable by its owner alone if there
/// was none. False if the owner could not be kept; then nobody else may read it.
///
/// A symbolic link stays one.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<bool> {
    let target = match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        target => target?,
    };
    let beside = Beside::new(&target)?;
    let is_kept = match fs::metadata(&target) {
        Ok(old) => beside.take_after(&old)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(error),
    };
    beside.become_it(text, &target)?;
    Ok(is_kept)
}

/// A file in the same folder, gone if it has not become the other.
struct Beside {
    file: File,
    path: Option<PathBuf>,
}

impl Beside {
    fn new(target: &Path) -> io::Result<Self> {
        let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let mut own = std::ffi::OsString::from(".");
        own.push(name);
        own.push(format!(".{}", std::process::id()));
        let path = target.with_file_name(own);
        let file = OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(&path)?;
        Ok(Self { file, path: Some(path) })
    }

    fn take_after(&self, old: &fs::Metadata) -> io::Result<bool> {
        let own = self.file.metadata()?;
        let is_same = (own.uid(), own.gid()) == (old.uid(), old.gid());
        if !is_same && fchown(&self.file, Some(old.uid()), Some(old.gid())).is_err() {
            // The mode was meant for another group.
            return Ok(false);
        }
        self.file.set_permissions(Permissions::from_mode(old.mode() & MODE))?;
        Ok(true)
    }

    fn become_it(mut self, text: &str, target: &Path) -> io::Result<()> {
        self.file.write_all(text.as_bytes())?;
        self.file.sync_all()?;
        let Some(path) = self.path.as_ref() else { return Ok(()) };
        fs::rename(path, target)?;
        self.path = None;
        // The new name survives a crash as well.
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // The error that led here is the one to tell.
            drop(fs::remove_file(path));
        }
    }
}
