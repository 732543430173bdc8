//! `muring passwd`, alone and taking turns with Mosquitto's tool on the same file.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use gate::passwd::Passwords;

use crate::harness::tools::{Tool, bounded, succeed};

/// A folder of one test, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("passwd-{}-{name}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        // Of a process that had this number before.
        drop(fs::remove_dir_all(&path));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, text: &str) {
        fs::write(self.path("users"), text).unwrap();
    }

    fn read(&self) -> String {
        fs::read_to_string(self.path("users")).unwrap()
    }

    /// What a broker would make of it.
    fn passwords(&self) -> Passwords {
        Passwords::parse("users", &self.read()).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<String> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// `muring passwd` in this folder, `password` on its standard input.
    fn run(&self, args: &[&str], password: &[u8]) -> Output {
        // In a session of its own it has no terminal to ask at.
        let mut command = bounded("setsid");
        command.arg("--wait").arg(env!("CARGO_BIN_EXE_muring")).arg("passwd").args(args);
        command.current_dir(&self.0).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // It need not read it, and may have ended.
        let _ = child.stdin.take().unwrap().write_all(password);
        child.wait_with_output().unwrap()
    }

    #[track_caller]
    fn done(&self, args: &[&str], password: &[u8]) -> String {
        let output = self.run(args, password);
        let said = String::from_utf8(output.stdout).unwrap();
        let warned = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{args:?}: {said}{warned}");
        format!("{said}{warned}")
    }

    /// Fails, says why and leaves everything as it was.
    #[track_caller]
    fn refused(&self, args: &[&str], password: &[u8], status: i32, why: &str) {
        let before = (self.names(), fs::read(self.path("users")).ok());
        let output = self.run(args, password);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(status), "{args:?}: {said}");
        assert!(said.contains(why), "{args:?}: {said:?} does not say {why:?}");
        assert_eq!((self.names(), fs::read(self.path("users")).ok()), before, "{args:?}");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left is small, and below target/.
        drop(fs::remove_dir_all(&self.0));
    }
}

#[test]
fn passwords_are_set_changed_and_deleted() {
    let folder = Folder::new("life");
    folder.done(&["--create", "--stdin", "users", "anna"], b"first\n");
    folder.done(&["--stdin", "users", "bert"], b"line\r\n\0\xFF\r\n");
    folder.done(&["--stdin", "--scram", "users", "carl"], b"pencil");
    folder.done(&["--stdin", "--pbkdf2", "users", "dora"], b" blanks ");
    assert!(folder.passwords().verify("anna", b"first"));
    let text = folder.read();
    assert!(text.contains("anna:$argon2id$v=19$") && text.contains("dora:$7$"), "{text}");
    folder.done(&["--stdin", "users", "anna"], b"second");
    let passwords = folder.passwords();
    assert!(passwords.verify("anna", b"second") && !passwords.verify("anna", b"first"));
    // One line end is left out, and nothing else.
    assert!(passwords.verify("bert", b"line\r\n\0\xFF"));
    assert!(passwords.scram("carl").is_some() && passwords.verify("carl", b"pencil"));
    assert!(passwords.verify("dora", b" blanks "));
    folder.done(&["-D", "users", "anna"], b"");
    assert!(!folder.passwords().contains("anna"));
    assert!(folder.passwords().contains("bert"));
    assert_eq!(folder.names(), ["users"]);
}

#[test]
fn plain_passwords_are_upgraded() {
    let folder = Folder::new("upgrade");
    folder.write("# our users\nanna:plain\n bert : pa:ss \n");
    folder.refused(&["-U", "users", "anna"], b"", 2, "cannot be used with");
    // Setting one password works, and says that the others are none yet.
    let said = folder.done(&["--stdin", "--scram", "users", "carl"], b"pencil");
    assert!(said.contains("users, line 2: not a hash"), "{said}");
    assert!(folder.done(&["-U", "users"], b"").contains("hashed: 2"));
    let passwords = folder.passwords();
    for (user, password) in [("anna", "plain"), ("bert", "pa:ss"), ("carl", "pencil")] {
        assert!(passwords.verify(user, password.as_bytes()), "{user}");
    }
    let text = folder.read();
    assert!(text.starts_with("# our users\nanna:$argon2id$"), "{text}");
    assert!(folder.done(&["-U", "users"], b"").contains("hashed: 0"));
    assert_eq!(folder.read(), text);
    folder.write("anna:plain\n\nbert:$6$broken\n");
    folder.refused(&["-U", "users"], b"", 1, "users, line 3");
}

#[test]
fn owner_mode_and_links_stay() {
    let folder = Folder::new("mode");
    let mode = || fs::metadata(folder.path("users")).unwrap().permissions().mode() & 0o7777;
    folder.done(&["-c", "--stdin", "--scram", "users", "anna"], b"pencil");
    assert_eq!(mode(), 0o600);
    fs::set_permissions(folder.path("users"), Permissions::from_mode(0o640)).unwrap();
    symlink("users", folder.path("link")).unwrap();
    folder.done(&["--stdin", "--scram", "link", "bert"], b"pencil");
    assert_eq!(mode(), 0o640);
    assert!(fs::symlink_metadata(folder.path("link")).unwrap().is_symlink());
    assert!(folder.passwords().contains("anna") && folder.passwords().contains("bert"));
    assert_eq!(folder.names(), ["link", "users"]);
}

#[test]
fn mistakes_change_nothing() {
    let folder = Folder::new("mistakes");
    folder.refused(&["--stdin", "users", "anna"], b"x", 1, "--create makes it");
    folder.refused(&["-U", "users"], b"", 1, "does not exist");
    folder.refused(&["-c", "--stdin", "none/users", "anna"], b"x", 1, "none/users");
    folder.write("anna:plain\n");
    folder.refused(&["-c", "--stdin", "users", "anna"], b"x", 1, "users exists");
    folder.refused(&["-D", "users", "bert"], b"", 1, "no user \"bert\"");
    folder.refused(&["--stdin", "users", "a:b"], b"x", 1, "':'");
    folder.refused(&["--stdin", "users", " a"], b"x", 1, "blanks");
    folder.refused(&["--stdin", "users", ""], b"x", 1, "is empty");
    folder.refused(&["--stdin", "--scram", "users", "a\u{ad}b"], b"x", 1, "SCRAM can compare");
    folder.refused(&["--stdin", "--scram", "users", "anna"], b"a\tb", 1, "without --scram");
    folder.refused(&["--stdin", "users", "anna"], b"\n", 1, "password is empty");
    folder.refused(&["--stdin", "users", "anna"], &[b'x'; 65_538], 1, "longer than 65535");
    folder.refused(&["users", "anna"], b"x\nx\n", 1, "--stdin reads it");
    folder.refused(&["users"], b"", 2, "USER");
    folder.refused(&["--scram", "--pbkdf2", "users", "anna"], b"", 2, "cannot be used with");
    fs::write(folder.path("users"), b"anna:\xFF\n").unwrap();
    folder.refused(&["--stdin", "users", "anna"], b"x", 1, "cannot read users");
}

#[track_caller]
fn mosquitto_passwd(folder: &Folder, args: &[&str]) {
    let mut command = bounded("mosquitto_passwd");
    command.args(args).current_dir(&folder.0);
    succeed(command);
}

#[test]
fn files_of_mosquitto_passwd() {
    if !Tool::Mosquitto.is_present() {
        return;
    }
    let folder = Folder::new("tool");
    mosquitto_passwd(&folder, &["-c", "-b", "users", "anna", "first"]);
    mosquitto_passwd(&folder, &["-b", "-H", "sha512", "users", "bert", "pässwörd: $"]);
    mosquitto_passwd(&folder, &["-b", "users", "carl", "gone"]);
    mosquitto_passwd(&folder, &["-b", "users", "carl", ""]);
    mosquitto_passwd(&folder, &["-b", "users", "dora", "x"]);
    mosquitto_passwd(&folder, &["-D", "users", "dora"]);
    let check = || {
        let passwords = folder.passwords();
        for (user, password) in [("anna", "first"), ("bert", "pässwörd: $"), ("carl", "")] {
            assert!(passwords.verify(user, password.as_bytes()), "{user}");
            assert!(!passwords.verify(user, b"wrong"), "{user}");
        }
        assert!(!passwords.contains("dora"));
        passwords
    };
    check();
    // Each takes what the other wrote.
    folder.done(&["--stdin", "--pbkdf2", "users", "emil"], b"ours");
    folder.done(&["-U", "users"], b"");
    mosquitto_passwd(&folder, &["-b", "users", "fred", "theirs"]);
    let passwords = check();
    assert!(passwords.verify("emil", b"ours") && passwords.verify("fred", b"theirs"));
    folder.write("anna:first\nbert:two words\n");
    mosquitto_passwd(&folder, &["-U", "users"]);
    assert!(folder.passwords().verify("anna", b"first"));
    assert!(folder.passwords().verify("bert", b"two words"));
}

/// A Mosquitto at a socket in the folder.
struct Mosquitto(Child);

impl Mosquitto {
    fn start(folder: &Folder) -> Self {
        // Started as root it would become a user who may not read the file.
        let text = "listener 0 socket\nallow_anonymous false\nuser root\npassword_file users\n\
                    persistence false\nlog_dest stderr\n";
        fs::write(folder.path("conf"), text).unwrap();
        let mut command = bounded("mosquitto");
        command.args(["-c", "conf"]).current_dir(&folder.0).stderr(Stdio::piped());
        let mut broker = Self(command.spawn().unwrap());
        let mut log = BufReader::new(broker.0.stderr.take().unwrap());
        let mut said = String::new();
        while !said.ends_with(" running\n") {
            assert!(log.read_line(&mut said).unwrap() > 0, "{said}");
        }
        // It goes on writing.
        std::thread::spawn(move || log.read_to_string(&mut said));
        broker
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // `timeout` hands SIGTERM on; it has ended already if the test's bound was met.
        let pid = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

#[test]
fn a_mosquitto_takes_what_is_written_for_it() {
    if !Tool::Mosquitto.is_present() || !Tool::MosquittoClients.is_present() {
        return;
    }
    let folder = Folder::new("theirs");
    folder.done(&["-c", "--stdin", "--pbkdf2", "users", "anna"], b"first");
    folder.done(&["--stdin", "--pbkdf2", "users", "ä b"], "pässwörd: $".as_bytes());
    let _broker = Mosquitto::start(&folder);
    let login = |user: &str, password: &str| {
        let mut command = bounded("mosquitto_pub");
        command.args(["--unix", "socket", "-t", "t", "-n", "-u", user, "-P", password]);
        command.current_dir(&folder.0).stderr(Stdio::null()).status().unwrap().code()
    };
    assert_eq!(login("anna", "first"), Some(0));
    assert_eq!(login("ä b", "pässwörd: $"), Some(0));
    assert_eq!(login("anna", "pässwörd: $"), Some(5));
}

/// A command of its own, so that what a test started it with is not taken for a flag of the broker.
#[test]
fn the_broker_has_its_flags_and_passwd_its_own() {
    let muring = |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_muring")).args(args).output();
    for args in [&["--shards", "1", "passwd", "f", "u"][..], &["passwd", "--shards", "1"]] {
        assert_eq!(muring(args).unwrap().status.code(), Some(2), "{args:?}");
    }
    let help = String::from_utf8(muring(&["--help"]).unwrap().stdout).unwrap();
    assert!(help.contains("passwd") && help.contains("--shards"), "{help}");
    let help = String::from_utf8(muring(&["passwd", "--help"]).unwrap().stdout).unwrap();
    assert!(help.contains("--upgrade") && !help.contains("--shards"), "{help}");
}
