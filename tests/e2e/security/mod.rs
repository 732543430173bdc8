//! Listeners and security from outside: every listener with every way to log in, files that change while
//! clients are connected, storms of strangers, the example configurations.

mod authority;
mod clients;
mod examples;
mod hook;
mod listeners;
mod posture;
mod reload;
mod scram;
mod site;
mod storm;
mod tokens;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Writes a file that nobody else may read.
fn write_secret(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).expect("a scratch file");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("our own file");
}
