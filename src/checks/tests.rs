use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::*;
use crate::reactor::Order;

const PATIENCE: Duration = Duration::from_secs(20);
const SHARD: ShardId = ShardId(0);

fn conn(index: u32) -> ConnId {
    ConnId { index, generation: 0 }
}

fn credentials(conn: ConnId) -> Credentials<'static> {
    Credentials {
        conn,
        client_id: "c",
        user_name: None,
        password: None,
        peer: "192.0.2.1:1".parse().unwrap(),
        listener: 0,
        identity: None,
        method: None,
        data: None,
    }
}

fn with_password<'a>(conn: ConnId, user: &'a str, password: &'a str) -> Credentials<'a> {
    let password = Some(password.as_bytes());
    Credentials { user_name: Some(user), password, ..credentials(conn) }
}

struct Bench {
    checker: Checker,
    orders: Receiver<Order>,
}

impl Bench {
    fn new(methods: &[Method], rules: AuthRules) -> Self {
        let stations = Arc::new(Stations::new(1).unwrap());
        let orders = stations.take_orders(SHARD).unwrap();
        let helpers = Helpers::start(1, 4, &stations).unwrap();
        let rules = AuthRules { listeners: vec![methods.into()], ..rules };
        Self { checker: Checker::new(SHARD, Arc::new(rules), helpers), orders }
    }

    /// The answer, now or later.
    fn ask(&mut self, credentials: &Credentials<'_>) -> Verdict {
        match self.checker.check(credentials) {
            Verdict::Later => match self.orders.recv_timeout(PATIENCE).unwrap() {
                Order::Verdict { conn, verdict, is_void } => {
                    assert_eq!(conn, credentials.conn);
                    assert!(!is_void.load(Ordering::Relaxed));
                    verdict
                }
                other => panic!("{other:?} instead of a verdict"),
            },
            verdict => verdict,
        }
    }
}

fn user(name: &str) -> Verdict {
    Verdict::Allow(Grant { user: Some(name.into()), ..Grant::default() })
}

fn passwords() -> AuthRules {
    let hash = gate::passwd::Hash::pbkdf2(b"secret", [7; gate::passwd::SALT_BYTES]);
    let file = gate::passwd::set("", "bob", &hash);
    let passwords = Some(Passwords::parse("passwords", &file).unwrap());
    AuthRules { passwords, ..AuthRules::default() }
}

#[test]
fn the_first_method_that_applies_decides() {
    let methods = [Method::X509, Method::Password, Method::Anonymous];
    let mut bench = Bench::new(&methods, passwords());
    let by_certificate =
        Credentials { identity: Some("alice"), ..with_password(conn(0), "bob", "wrong") };
    assert_eq!(bench.ask(&by_certificate), user("alice"));
    assert_eq!(bench.ask(&with_password(conn(1), "bob", "secret")), user("bob"));
    for (name, password) in [("bob", "wrong"), ("eve", "secret")] {
        let refused = Verdict::Deny(ReasonCode::BadUserNameOrPassword);
        assert_eq!(bench.ask(&with_password(conn(2), name, password)), refused, "{name}");
    }
    // Not checked, so not believed.
    let only_name = Credentials { user_name: Some("bob"), ..credentials(conn(3)) };
    assert_eq!(bench.ask(&only_name), Verdict::allow());
}

#[test]
fn who_is_left_over_is_refused() {
    let mut bench = Bench::new(&[Method::Password], passwords());
    assert_eq!(bench.ask(&credentials(conn(0))), Verdict::Deny(ReasonCode::NotAuthorized));
    let enhanced = Credentials { method: Some(scram::METHOD), ..credentials(conn(1)) };
    let not_offered = Verdict::Deny(ReasonCode::BadAuthenticationMethod);
    assert_eq!(bench.ask(&enhanced), not_offered);
    let elsewhere = Credentials { listener: 9, ..with_password(conn(2), "bob", "secret") };
    assert_eq!(bench.ask(&elsewhere), Verdict::Deny(ReasonCode::BadUserNameOrPassword));
}

#[test]
fn denied_and_flapping_clients_are_refused_whatever_they_know() {
    let flapping = FlappingLimits { connects_max: 2, window: PATIENCE, penalty: PATIENCE };
    let deny_client_ids = BTreeSet::from(["bad".into()]);
    let rules = AuthRules { deny_client_ids, flapping, ..AuthRules::default() };
    let mut bench = Bench::new(&[Method::Anonymous], rules);
    let bad = Credentials { client_id: "bad", ..credentials(conn(0)) };
    assert_eq!(bench.ask(&bad), Verdict::Deny(ReasonCode::Banned));
    assert_eq!(bench.ask(&credentials(conn(1))), Verdict::allow());
    assert_eq!(bench.ask(&credentials(conn(2))), Verdict::allow());
    let too_often = Verdict::Deny(ReasonCode::ConnectionRateExceeded);
    assert_eq!(bench.ask(&credentials(conn(3))), too_often);
}

#[test]
fn a_full_queue_is_an_answer_and_void_checks_are_not_done() {
    let mut bench = Bench::new(&[Method::Password], passwords());
    let (go, wait) = channel::<()>();
    let (started, is_started) = channel();
    let blocked = Job {
        shard: SHARD,
        conn: conn(99),
        is_void: Arc::default(),
        work: Box::new(move || {
            let _ = started.send(());
            let _ = wait.recv();
            Verdict::allow()
        }),
    };
    assert!(bench.checker.helpers.local.offer(blocked));
    is_started.recv_timeout(PATIENCE).unwrap();
    for index in 0..4 {
        let verdict = bench.checker.check(&with_password(conn(index), "bob", "secret"));
        assert_eq!(verdict, Verdict::Later);
    }
    let verdict = bench.checker.check(&with_password(conn(4), "bob", "secret"));
    assert_eq!(verdict, Verdict::Deny(ReasonCode::QuotaExceeded));
    for index in 0..3 {
        bench.checker.forget(conn(index));
    }
    drop(go);
    let answered = [(); 2].map(|()| match bench.orders.recv_timeout(PATIENCE).unwrap() {
        Order::Verdict { conn, .. } => conn.index,
        other => panic!("{other:?} instead of a verdict"),
    });
    assert_eq!(answered, [99, 3]);
}

#[test]
fn checks_leave_nothing_behind() {
    let mut bench = Bench::new(&[Method::Jwt, Method::Password], passwords());
    bench.checker.pending_max = 8;
    for index in 0..12 {
        let _ = bench.ask(&with_password(conn(index), "bob", "wrong"));
    }
    assert_eq!(bench.checker.pending.len(), 4, "the first eight were looked for");
}

#[test]
fn what_cannot_have_let_a_client_in_does_not_keep_it() {
    let bench = Bench::new(&[Method::Password], passwords());
    let identity =
        |user: Option<&str>| Identity { user: user.map(Into::into), ..Identity::default() };
    assert!(bench.checker.is_valid("c", &identity(Some("bob"))));
    assert!(!bench.checker.is_valid("c", &identity(Some("eve"))));
    assert!(!bench.checker.is_valid("c", &identity(None)));
    let bench = Bench::new(&[Method::X509, Method::Password], passwords());
    assert!(bench.checker.is_valid("c", &identity(Some("eve"))), "by certificate, perhaps");
    let mut without = AuthRules::default();
    without.follow(&passwords());
    let bench = Bench::new(&[Method::X509, Method::Password], without);
    assert!(!bench.checker.is_valid("c", &identity(Some("bob"))), "removed from the file");
    assert!(bench.checker.is_valid("c", &identity(Some("eve"))));
}

#[test]
fn tokens_are_known_by_their_form() {
    assert!(is_token(b"eyJhbGciOiJIUzI1NiJ9.e30.c2ln"));
    for other in ["", "eyJ", "secret.with.dots", "eyJ.a.b.c"] {
        assert!(!is_token(other.as_bytes()), "{other}");
    }
}
