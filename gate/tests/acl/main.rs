//! Access lists decide as the real Mosquitto does.
//!
//! Nothing is assumed about Mosquitto: each decision is seen from outside. A client may write a topic if
//! what it publishes there reaches a client that may read everything; it may read it if what that client
//! publishes there reaches it. That something does *not* come is shown by an answer behind it on the same
//! connection.
//!
//! Deliberate differences:
//!
//! - Mosquitto grants every SUBSCRIBE and only looks at deliveries; `coverage` is the stricter answer. It
//!   is held against the decisions that were seen: what it calls whole may all be read, what it calls none
//!   not at all.
//! - Bytes that are not UTF-8 and NUL characters in a file are refused here. No topic has them.

mod client;
mod mosquitto;

use std::collections::BTreeSet;

use gate::acl::{Acl, Coverage, Subject};

use self::client::Client;
use self::mosquitto::{Folder, Mosquitto};

/// Reads and writes everything. Its lines are behind those of each list, in a section of its own.
const ROOT: &str = "root";
const ROOT_LINES: &str = "user root\ntopic #\ntopic $SYS/#\ntopic $other/#\n";
const EVERYTHING: [&str; 3] = ["#", "$SYS/#", "$other/#"];

const USERS: [&str; 8] = [ROOT, "ann", "bob", "a b", "x/y", "we+rd", "ha#sh", "$SYS"];

/// Client identifier and user name.
const SUBJECTS: [(&str, Option<&str>); 14] = [
    ("c1", None),
    ("c2", None),
    ("c+", None),
    ("c1", Some("ann")),
    ("d/1", Some("ann")),
    ("#", Some("ann")),
    ("c1", Some("bob")),
    ("bob", Some("bob")),
    ("c1", Some("a b")),
    ("c1", Some("x/y")),
    ("c1", Some("we+rd")),
    ("c1", Some("ha#sh")),
    ("c1", Some("$SYS")),
    ("$other", Some("ann")),
];

const TOPICS: [&str; 45] = [
    "a",
    "/",
    "/a",
    "a/",
    "a/b",
    "a/b/c",
    "a//c",
    "a/b/c/d",
    "b",
    "b/c",
    "b/b/c",
    "a b",
    "read",
    "deny",
    "c1",
    "c2",
    "ann",
    "bob",
    "x/y",
    "d/1",
    "dev/c1",
    "dev/c2",
    "dev/c1/ann",
    "dev/c1/bob",
    "dev/d/1",
    "dev/d/1/ann",
    "dev/c1/x/y",
    "dev/c1/we+rd",
    "dev/ann",
    "dev/ann/x",
    "dev/ann/x/y",
    "dev/bob/x",
    "dev/%c",
    "dev/%u",
    "dev/c1/secret",
    "dev/ann-c1",
    "dev/ann-c1/x",
    "home/ann",
    "home/ann/safe",
    "home/ann/safe/x",
    "ä/€",
    "$other/x",
    "$other/c1",
    "$SYS/x",
    "$SYS/broker/connection/c1/state",
];

/// Written by the broker itself, so only whether it may be read is seen.
const OF_BROKER: &str = "$SYS/broker/version";

const LISTS: [&str; 22] = [
    "# nothing\n",
    "topic a/b\ntopic read b\ntopic write a\ntopic readwrite /\n",
    "topic #\nuser ann\ntopic a/#\nuser bob\ntopic read a/+/c\n",
    "topic deny a/b\ntopic #\n",
    "topic #\ntopic deny a/b\n",
    "topic a/#\ntopic deny #\ntopic +/b/#\n",
    "user ann\ntopic read #\nuser bob\ntopic write #\nuser ann\ntopic write a/#\ntopic deny a/b\n",
    "pattern dev/%c\npattern read dev/%c/%u\npattern write dev/%u/#\n",
    "pattern dev/%u-%c/#\npattern %c\npattern %u\npattern %c/#\n",
    "pattern dev/#\npattern deny dev/%c/secret\nuser ann\ntopic deny dev/ann/x\n",
    "user ann\ntopic dev/c1/secret\ntopic read dev/ann\npattern deny dev/c1/secret\npattern deny dev/%u\n",
    "pattern a/#\n",
    "pattern readwrite %u/#\npattern $other/%c\n",
    "topic dev/%c\nuser ann\ntopic dev/%u\n",
    "user a b\ntopic readwrite a b\nuser   x/y  \ntopic  read   a/b\n  topic write b/c\n",
    "topic read\ntopic deny\ntopic write read\n",
    "topic +/+\ntopic $other/+\nuser ann\ntopic +/#\nuser bob\ntopic /#\nuser a b\ntopic +\n",
    "topic $SYS/#\ntopic read $other/#\nuser ann\ntopic #\nuser bob\ntopic $SYS/broker/+\n",
    "topic a/+/#\nuser ann\ntopic a/b/c/#\nuser bob\ntopic +/b/+\nuser we+rd\ntopic a\nuser ha#sh\ntopic b\n",
    "user ann\ntopic home/%u/#\ntopic home/ann/#\ntopic deny home/ann/safe/#\npattern read home/ann/safe/x\n",
    "topic readwrite ä/+\r\n\r\n# Kommentar\r\nuser ann\r\ntopic read ä/€\r\n",
    "pattern deny #\npattern %u\nuser bob\ntopic a\ntopic deny $SYS/#\n",
];

const FILTERS: [&str; 14] = [
    "#",
    "+",
    "+/#",
    "a/#",
    "a/+",
    "a/+/c",
    "dev/#",
    "dev/c1/+",
    "dev/+/x",
    "home/ann/#",
    "$other/#",
    "$share/g/a/#",
    "a/b",
    "dev/c1",
];

/// What one client may do, as was seen.
struct Seen {
    written: BTreeSet<String>,
    read: BTreeSet<String>,
}

/// Topics that a client could publish to: names in which no wildcard stands.
fn topics() -> Vec<&'static str> {
    TOPICS.into_iter().filter(|topic| !topic.contains(['+', '#'])).collect()
}

fn observe(broker: &Mosquitto, root: &mut Client, number: usize) -> Seen {
    let (client_id, user) = SUBJECTS[number];
    let mut client = Client::connect(broker.addr, client_id, user);
    client.subscribe(&EVERYTHING);
    let (by_client, by_root) = (format!("client {number}"), format!("root {number}"));
    client.publish(&topics(), &by_client);
    root.publish(&topics(), &by_root);
    let written = root.received(Some(&by_client));
    let mut read = client.received(Some(&by_root));
    read.extend(client.received(None).take(OF_BROKER));
    Seen { written, read }
}

/// How many decisions were compared.
fn compare(acl: &Acl, who: &Subject<'_>, seen: &Seen, place: &str) -> usize {
    for topic in topics() {
        let written = acl.may_write(who, topic);
        assert_eq!(written, seen.written.contains(topic), "write {topic:?} {who:?}\n{place}");
        // Nobody can write these, so nothing can be seen of who may read them.
        if !topic.starts_with("$SYS") || topic.ends_with("/state") {
            let read = acl.may_read(who, topic);
            assert_eq!(read, seen.read.contains(topic), "read {topic:?} {who:?}\n{place}");
        }
    }
    let of_broker = acl.may_read(who, OF_BROKER);
    assert_eq!(of_broker, seen.read.contains(OF_BROKER), "read {OF_BROKER:?} {who:?}\n{place}");
    for filter in FILTERS {
        let coverage = acl.coverage(who, filter);
        let theirs = topics().into_iter().filter(|topic| matches(filter, topic));
        for topic in theirs {
            let is_read = seen.read.contains(topic);
            let fits = match coverage {
                Coverage::None => !is_read,
                Coverage::Partly => true,
                Coverage::Whole => is_read,
            };
            assert!(fits, "{filter} is {coverage:?}, {topic:?}: {is_read} {who:?}\n{place}");
        }
    }
    2 * topics().len()
}

/// By the core's own, as the access lists have another implementation.
fn matches(filter: &str, topic: &str) -> bool {
    let filter = shards::topic::TopicFilter::parse(filter, 16).expect("a filter of the table");
    filter.matches(topic)
}

#[test]
fn decides_as_mosquitto_does() {
    if !mosquitto::is_present() {
        return;
    }
    let folder = Folder::new("decisions");
    folder.write_passwords(&USERS);
    let (mut count, mut allowed) = (0, 0);
    for list in LISTS {
        let text = format!("{list}{ROOT_LINES}");
        let acl = Acl::parse("acl", &text).unwrap();
        let broker = Mosquitto::start(&folder, &text).expect("Mosquitto reads it too");
        let mut root = Client::connect(broker.addr, ROOT, Some(ROOT));
        root.subscribe(&EVERYTHING);
        for (number, (client_id, user)) in SUBJECTS.into_iter().enumerate() {
            let seen = observe(&broker, &mut root, number);
            allowed += seen.written.len() + seen.read.len();
            count += compare(&acl, &Subject { client_id, user }, &seen, list);
        }
    }
    println!("{count} decisions compared, {allowed} of them to allow");
    assert!(allowed >= 200 && count - allowed >= 200, "{allowed} of {count}");
}

/// Lists that are read, and what of.
const GOOD: [&str; 12] = [
    "",
    "# only a comment",
    "\n  \n\t\n",
    "topic a\r\nuser a\r\n",
    "  topic a\n",
    "topic  read  a\n",
    "topic read\n",
    "topic read a b\n",
    "user a\n#topic bad bad\ntopic write a\tb\n",
    "pattern a/b\n",
    "pattern $SYS/%c/#\n",
    "topic $share/g/a\n",
];

const BAD: [&str; 16] = [
    "topic\n",
    "topic  \n",
    "topic a b\n",
    " # a comment\n",
    "topic\ta\n",
    "\ttopic a\n",
    "user\n",
    "user   \n",
    "topic read a # no comment here\n",
    "topic a/#/b\n",
    "topic a+\n",
    "Topic a\n",
    "topic READ a\n",
    "pattern read %u+/a\n",
    "users a\n",
    "topic a\n\u{feff}topic b\n",
];

#[test]
fn reads_what_mosquitto_reads() {
    if !mosquitto::is_present() {
        return;
    }
    let folder = Folder::new("syntax");
    for (lists, want) in [(&GOOD[..], true), (&BAD[..], false)] {
        for list in lists {
            assert_eq!(Acl::parse("acl", list).is_ok(), want, "{list:?}");
            let theirs = Mosquitto::start(&folder, list);
            assert_eq!(theirs.is_some(), want, "Mosquitto, {list:?}");
        }
    }
}
