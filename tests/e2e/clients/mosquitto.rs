//! `mosquitto_pub` and `mosquitto_sub`, as an operator uses them from a shell.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::broker::Broker;
use crate::harness::on_shards;
use crate::harness::tools::{Tool, bounded, succeed};

on_shards!(
    every_qos_to_every_qos,
    retained_messages,
    wills,
    persistent_sessions,
    shared_subscriptions,
    properties,
    response_topic,
);

const VERSIONS: [&str; 3] = ["mqttv31", "mqttv311", "mqttv5"];

fn client(program: &str, broker: &Broker, version: &str, args: &[&str]) -> Command {
    // Line by line, so that what the client says is read when it happens.
    let mut command = bounded("stdbuf");
    command.args(["-oL", program, "-h", "127.0.0.1", "-p", &broker.addr.port().to_string()]);
    command.args(["-V", version]).args(args);
    command
}

#[track_caller]
fn publish(broker: &Broker, version: &str, args: &[&str]) {
    succeed(client("mosquitto_pub", broker, version, args));
}

/// A `mosquitto_sub` that has its SUBACK.
struct Subscriber {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Subscriber {
    fn start(broker: &Broker, version: &str, args: &[&str]) -> Self {
        let mut command = client("mosquitto_sub", broker, version, args);
        command.arg("-d").stdout(Stdio::piped());
        let mut child = command.spawn().expect("mosquitto_sub is there");
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut subscriber = Self { child, lines: BufReader::new(stdout).lines() };
        while !subscriber.line().starts_with("Subscribed ") {}
        subscriber
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("a line before the end").expect("text")
    }

    /// The next line that is a message and not talk of the client about packets.
    fn message(&mut self) -> String {
        loop {
            let line = self.line();
            if !line.starts_with("Client ") && !line.starts_with("Subscribed ") {
                return line;
            }
        }
    }

    /// Ends the client with a DISCONNECT and reads what it still had to say.
    fn end(mut self) {
        self.terminate();
        self.lines.by_ref().for_each(drop);
    }

    /// `timeout` hands the signal on to the client. SIGKILL would end `timeout` alone.
    fn terminate(&self) {
        // Not waited for before `drop`, so the number is still this child's.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.terminate();
        // A scenario that fails shall end with its own message.
        let _ = self.child.wait();
    }
}

fn every_qos_to_every_qos(broker: &Broker) {
    if !Tool::MosquittoClients.is_present() {
        return;
    }
    for version in VERSIONS {
        for wanted in ["0", "1", "2"] {
            let topic = format!("qos/{version}/{wanted}");
            let args = ["-t", &topic, "-q", wanted, "-F", "%q %r %t %p"];
            let mut subscriber = Subscriber::start(broker, version, &args);
            for sent in ["0", "1", "2"] {
                publish(broker, version, &["-t", &topic, "-q", sent, "-m", sent]);
                let want = format!("{} 0 {topic} {sent}", wanted.min(sent));
                assert_eq!(subscriber.message(), want);
            }
            subscriber.end();
        }
    }
}

fn retained_messages(broker: &Broker) {
    if !Tool::MosquittoClients.is_present() {
        return;
    }
    for version in VERSIONS {
        let topic = format!("retained/{version}");
        for text in ["one", "two"] {
            publish(broker, version, &["-t", &topic, "-q", "1", "-r", "-m", text]);
            let args = ["-t", &topic, "-q", "1", "-F", "%r %p"];
            let mut late = Subscriber::start(broker, version, &args);
            assert_eq!(late.message(), format!("1 {text}"));
            late.end();
        }
        publish(broker, version, &["-t", &topic, "-q", "1", "-r", "-n"]);
        let mut none =
            Subscriber::start(broker, version, &["-t", &topic, "-q", "1", "-F", "%r %p"]);
        publish(broker, version, &["-t", &topic, "-q", "1", "-m", "fence"]);
        assert_eq!(none.message(), "0 fence");
        none.end();
    }
}

fn wills(broker: &Broker) {
    if !Tool::MosquittoClients.is_present() {
        return;
    }
    let mut watcher = Subscriber::start(broker, "mqttv311", &["-t", "will/+", "-F", "%t %p"]);
    for version in VERSIONS {
        let will = |topic: &str| {
            let will = ["--will-topic", topic, "--will-payload", "gone", "-t", "nothing"];
            Subscriber::start(broker, version, &will)
        };
        will("will/clean").end();
        if version == "mqttv5" {
            // There it says goodbye with 0x04, disconnect with will message.
            assert_eq!(watcher.message(), "will/clean gone");
        }
        publish(broker, version, &["-t", "will/fence", "-q", "1", "-m", "fence"]);
        assert_eq!(watcher.message(), "will/fence fence");
        // The unclean end is a take-over, as SIGKILL does not pass through `timeout`.
        let args = ["-i", version, "--will-topic", "will/taken", "--will-payload", "gone"];
        let taken = Subscriber::start(broker, version, &[&args[..], &["-t", "nothing"]].concat());
        publish(broker, version, &["-i", version, "-t", "nothing", "-m", "x"]);
        assert_eq!(watcher.message(), "will/taken gone");
        drop(taken);
    }
    watcher.end();
}

fn persistent_sessions(broker: &Broker) {
    if !Tool::MosquittoClients.is_present() {
        return;
    }
    for version in VERSIONS {
        let id = format!("persistent-{version}");
        let topic = format!("persistent/{version}");
        let mut args = vec!["-i", &id, "-c", "-q", "2", "-t", &topic, "-F", "%q %p"];
        if version == "mqttv5" {
            args.extend(["-x", "3600"]);
        }
        Subscriber::start(broker, version, &args).end();
        for (qos, text) in [("1", "a"), ("2", "b"), ("1", "c")] {
            publish(broker, version, &["-t", &topic, "-q", qos, "-m", text]);
        }
        let count = [&args[..], &["-C", "3"]].concat();
        let output = succeed(client("mosquitto_sub", broker, version, &count));
        let text = String::from_utf8(output.stdout).expect("text");
        let mut got: Vec<&str> = text.lines().collect();
        // A QoS 2 message is told of at PUBREL: only the QoS 1 ones keep their order.
        got.sort_unstable();
        assert_eq!(got, ["1 a", "1 c", "2 b"]);
    }
}

fn shared_subscriptions(broker: &Broker) {
    if !Tool::MosquittoClients.is_present() {
        return;
    }
    let args = ["-t", "$share/g/shared", "-t", "fence", "-q", "1", "-F", "%p"];
    let mut members: Vec<Subscriber> =
        (0..4).map(|_| Subscriber::start(broker, "mqttv5", &args)).collect();
    for number in 0..24 {
        publish(broker, "mqttv5", &["-t", "shared", "-q", "1", "-m", &number.to_string()]);
    }
    publish(broker, "mqttv5", &["-t", "fence", "-q", "1", "-m", "fence"]);
    let mut got: Vec<u32> = Vec::new();
    for member in &mut members {
        // Every publisher is another connection, so only what came is asked, not when: the fence of
        // a later connection may overtake nothing that was acknowledged before it was sent.
        loop {
            let line = member.message();
            if line == "fence" {
                break;
            }
            got.push(line.parse().expect("a number"));
        }
    }
    got.sort_unstable();
    assert_eq!(got, (0..24).collect::<Vec<_>>());
    for member in members {
        member.end();
    }
}

fn properties(broker: &Broker) {
    if !Tool::MosquittoClients.is_present() {
        return;
    }
    let args = ["-t", "props", "-q", "1", "-F", "%C|%R|%D|%P|%p"];
    let mut subscriber = Subscriber::start(broker, "mqttv5", &args);
    let mut args = vec!["-t", "props", "-q", "1", "-m", "text"];
    let properties = [
        ["-D", "PUBLISH", "content-type", "text/plain"],
        ["-D", "PUBLISH", "response-topic", "answers"],
        ["-D", "PUBLISH", "correlation-data", "42"],
    ];
    args.extend(properties.iter().flatten());
    args.extend(["-D", "PUBLISH", "user-property", "z", "1"]);
    args.extend(["-D", "PUBLISH", "user-property", "a", "2"]);
    publish(broker, "mqttv5", &args);
    assert_eq!(subscriber.message(), "text/plain|answers|42|z:1 a:2|text");
    subscriber.end();
}

/// `mosquitto_rr`: request and response over the broker.
fn response_topic(broker: &Broker) {
    if !Tool::MosquittoClients.is_present() {
        return;
    }
    let args = ["-t", "request", "-q", "1", "-F", "%R %p"];
    let mut service = Subscriber::start(broker, "mqttv5", &args);
    let args = ["-t", "request", "-e", "response/1", "-q", "1", "-m", "question"];
    let mut command = client("mosquitto_rr", broker, "mqttv5", &args);
    let asking = command.stdout(Stdio::piped()).spawn().expect("mosquitto_rr is there");
    assert_eq!(service.message(), "response/1 question");
    publish(broker, "mqttv5", &["-t", "response/1", "-q", "1", "-m", "answer"]);
    let output = asking.wait_with_output().expect("the child is ours");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "answer\n");
    service.end();
}
