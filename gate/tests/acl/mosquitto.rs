//! The real Mosquitto with an access list, on the loopback interface, for as long as the value lives.

use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

/// Whether it is installed. In CI (`CI=true`) it must be.
pub(crate) fn is_present() -> bool {
    let runs = |program: &str, argument: &str| {
        let mut command = Command::new(program);
        command.arg(argument).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok()
    };
    if runs("mosquitto", "-h") && runs("mosquitto_passwd", "-h") {
        return true;
    }
    let line = "not run: mosquitto missing: install with: apt-get install mosquitto";
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{line}");
    // Not `eprintln!`: the output of a test that passes is not shown, and this must be.
    let _ = writeln!(std::io::stderr(), "{line}");
    false
}

/// A folder for one test, emptied first and removed at the end.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let name = format!("acl-{}-{name}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("cargo's scratch directory is writable");
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).expect("cargo's scratch directory is writable");
        path.to_str().expect("paths of the build are UTF-8").to_owned()
    }

    /// A password file as Mosquitto's own tool writes it; each password is the user's name.
    pub(crate) fn write_passwords(&self, users: &[&str]) {
        let path = self.write("passwords", "");
        for user in users {
            let status = Command::new("mosquitto_passwd").args(["-b", &path, user, user]).status();
            assert!(status.expect("mosquitto_passwd is there").success(), "password of {user:?}");
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left behind is small and in the build's own folder.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running broker. Killed by its own process, so never another one.
#[derive(Debug)]
pub(crate) struct Mosquitto {
    pub(crate) addr: SocketAddr,
    child: Child,
    _log: BufReader<ChildStderr>,
}

impl Mosquitto {
    /// `None` if it refuses the access list.
    pub(crate) fn start(folder: &Folder, acl: &str) -> Option<Self> {
        let path = folder.write("acl", acl);
        let port = free_port();
        let mut text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n\
             acl_file {path}\nlog_dest stderr\nuser root\n"
        );
        let passwords = folder.0.join("passwords");
        if passwords.exists() {
            text.push_str(&format!("password_file {}\n", passwords.display()));
        }
        let config = folder.write("conf", &text);
        let mut command = Command::new("mosquitto");
        command.args(["-c", &config]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("mosquitto is there");
        let mut log = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let mut said = String::new();
        while !said.contains(" running") {
            if log.read_line(&mut said).expect("a log in UTF-8") == 0 {
                // Not waited for yet, so the number is still this child's.
                child.wait().expect("the child is ours");
                assert!(said.contains("Error opening acl file"), "not because of the list: {said}");
                return None;
            }
        }
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        Some(Self { addr, child, _log: log })
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // A test that fails shall end with its own message.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// mosquitto cannot choose a port itself; somebody may take this one in between.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}
