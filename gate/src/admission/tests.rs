use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn admission(limits: Limits) -> Admission {
    Admission::new(Rules { listeners: vec![limits], deny_networks: Vec::new() })
}

fn at(millis: u64) -> Time {
    Time::from_secs(1_000) + Duration::from_millis(millis)
}

#[test]
fn without_limits_nobody_is_asked() {
    assert!(!Admission::new(Rules::default()).is_active());
    assert!(!admission(Limits::default()).is_active());
    assert!(admission(Limits { handshakes_max: 1, ..Limits::default() }).is_active());
}

#[test]
fn a_listener_takes_so_many_in_a_second() {
    let mut admission = admission(Limits { connects_per_s: 10, ..Limits::default() });
    let admitted = |admission: &mut Admission, now| {
        (0..50).filter(|_| admission.admit(now, 0, None).is_ok()).count()
    };
    assert_eq!(admitted(&mut admission, at(0)), 10);
    assert_eq!(admitted(&mut admission, at(0)), 0);
    assert_eq!(admission.admit(at(0), 0, None), Err(Refusal::Rate));
    assert_eq!(admitted(&mut admission, at(300)), 3);
    assert_eq!(
        admitted(&mut admission, at(60_000)),
        10,
        "no more than a second's worth is saved up"
    );
}

#[test]
fn a_source_does_not_use_up_what_others_may() {
    let limits = Limits { connects_per_s: 100, connects_per_s_per_source: 2, ..Limits::default() };
    let mut admission = admission(limits);
    let bad = Some(ip("10.0.0.1"));
    for _ in 0..2 {
        admission.admit(at(0), 0, bad).unwrap();
    }
    for _ in 0..1_000 {
        assert_eq!(admission.admit(at(0), 0, bad), Err(Refusal::SourceRate));
    }
    for other in 0..98_u32 {
        let other = IpAddr::V4((0x0A00_0100 + other).into());
        admission.admit(at(0), 0, Some(other)).unwrap();
    }
    assert_eq!(admission.admit(at(0), 0, Some(ip("10.0.0.2"))), Err(Refusal::Rate));
}

#[test]
fn handshakes_count_until_they_end() {
    let limits = Limits { handshakes_max: 3, handshakes_max_per_source: 2, ..Limits::default() };
    let mut admission = admission(limits);
    let (one, two) = (Some(ip("10.0.0.1")), Some(ip("10.0.0.2")));
    admission.admit(at(0), 0, one).unwrap();
    admission.admit(at(0), 0, one).unwrap();
    assert_eq!(admission.admit(at(0), 0, one), Err(Refusal::SourceHandshakes));
    admission.admit(at(0), 0, two).unwrap();
    assert_eq!(admission.admit(at(0), 0, two), Err(Refusal::Handshakes));
    admission.end_handshake(0, one);
    admission.admit(at(0), 0, two).unwrap();
    // By way of a proxy: the listener's count first, the source's when it is known.
    admission.end_handshake(0, one);
    admission.admit(at(0), 0, None).unwrap();
    assert_eq!(admission.announced(at(0), 0, ip("10.0.0.2")), Err(Refusal::SourceHandshakes));
    admission.end_handshake(0, None);
    admission.admit(at(0), 0, None).unwrap();
}

#[test]
fn who_fails_is_refused_for_longer_and_longer() {
    let limits = Limits {
        failures_max: 3,
        penalty: Duration::from_secs(10),
        penalty_max: Duration::from_secs(35),
        ..Limits::default()
    };
    let mut here = admission(limits);
    let mut there = admission(limits);
    let bad = ip("2001:db8:1:2::1");
    assert_eq!(here.fail(at(0), 0, bad), None);
    assert_eq!(here.fail(at(0), 0, bad), None);
    let mut now = at(0);
    for lasts in [10, 20, 35, 35] {
        let penalty = here.fail(now, 0, bad).unwrap();
        there.penalise(now, penalty);
        for admission in [&mut here, &mut there] {
            let refused_until = now + Duration::from_secs(lasts);
            let late = refused_until + Duration::from_millis(1);
            // The same network of 64 bits.
            let neighbour = Some(ip("2001:db8:1:2:ffff::2"));
            assert_eq!(admission.admit(now, 0, neighbour), Err(Refusal::Failures));
            assert_eq!(admission.admit(now, 0, Some(ip("2001:db8:1:3::1"))), Ok(()));
            assert_eq!(admission.admit(late, 0, neighbour), Ok(()), "after {lasts} s");
        }
        now = now + Duration::from_secs(lasts) + Duration::from_millis(1);
    }
    let much_later = now + Duration::from_secs(3_600);
    assert_eq!(here.fail(much_later, 0, bad), None, "it begins anew");
}

#[test]
fn denied_networks_are_refused_in_either_form() {
    let deny_networks = vec!["10.1.0.0/16".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
    let mut admission = Admission::new(Rules { listeners: Vec::new(), deny_networks });
    assert!(admission.is_active());
    for denied in ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8::1"] {
        assert_eq!(admission.admit(at(0), 3, Some(ip(denied))), Err(Refusal::Denied), "{denied}");
    }
    for allowed in ["10.2.0.1", "2001:db9::1"] {
        assert_eq!(admission.admit(at(0), 3, Some(ip(allowed))), Ok(()), "{allowed}");
    }
}

#[test]
fn shares_are_never_nothing() {
    let limits = Limits { connects_per_s: 10, failures_max: 1, ..Limits::default() };
    let share = limits.share(4);
    assert_eq!((share.connects_per_s, share.failures_max, share.handshakes_max), (3, 1, 0));
}
