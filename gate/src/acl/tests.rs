use super::*;

fn acl(text: &str) -> Acl {
    Acl::parse("acl", text).unwrap()
}

fn named<'a>(client_id: &'a str, user: &'a str) -> Subject<'a> {
    Subject { client_id, user: Some(user) }
}

const NOBODY: Subject<'_> = Subject { client_id: "c", user: None };

#[test]
fn what_no_line_permits_is_denied() {
    for text in ["", "# nothing\n", "user b\n"] {
        let acl = acl(text);
        for who in [NOBODY, named("c", "a"), named("c", "b")] {
            assert!(!acl.may_read(&who, "t"));
            assert!(!acl.may_write(&who, "t"));
            assert_eq!(acl.coverage(&who, "#"), Coverage::None);
        }
    }
}

#[test]
fn topics_belong_to_the_user_before_them() {
    let acl = acl("topic x\nuser a\ntopic read y\nuser b\nuser a\ntopic write z\n");
    assert!(acl.may_read(&NOBODY, "x") && acl.may_write(&NOBODY, "x"));
    let a = named("c", "a");
    assert!(!acl.may_read(&a, "x"));
    assert!(acl.may_read(&a, "y") && !acl.may_write(&a, "y"));
    assert!(!acl.may_read(&a, "z") && acl.may_write(&a, "z"));
    assert!(!acl.may_read(&named("c", "b"), "y"));
}

#[test]
fn a_users_lines_come_before_patterns_and_denials_before_the_rest() {
    let acl =
        acl("user a\ntopic s/#\ntopic deny s/t\npattern deny s/u\npattern deny p/x\npattern p/#\n");
    let a = named("c", "a");
    assert!(!acl.may_read(&a, "s/t"));
    assert!(acl.may_read(&a, "s/u"));
    assert!(acl.may_read(&a, "p/y") && !acl.may_read(&a, "p/x"));
    assert!(acl.may_write(&NOBODY, "p/y") && !acl.may_write(&NOBODY, "s/v"));
}

#[test]
fn variables_stand_for_names() {
    let acl = acl("pattern read in/%c-%u/+/#\npattern write %c/out\npattern read %u\n");
    let who = named("dev/1", "ann");
    assert!(acl.may_read(&who, "in/dev/1-ann/x"));
    assert!(acl.may_read(&who, "in/dev/1-ann/x/y/z"));
    assert!(!acl.may_read(&who, "in/dev/1-ann"));
    assert!(!acl.may_read(&who, "in/dev/1-anna/x"));
    assert!(acl.may_write(&who, "dev/1/out") && !acl.may_write(&who, "dev/2/out"));
    assert!(acl.may_read(&who, "ann"));
    // %u is nobody's name here, and not an empty one.
    assert!(acl.may_write(&NOBODY, "c/out") && !acl.may_read(&NOBODY, "in/c-/x"));
    for wild in [named("+", "ann"), named("#", "ann"), named("c", "a+")] {
        assert!(!acl.may_write(&wild, "x/out"));
        assert!(!acl.may_write(&wild, "+/out"));
        assert_eq!(acl.coverage(&wild, "#"), Coverage::None);
    }
}

#[test]
fn topics_of_the_broker_are_apart() {
    let acl = acl("topic #\ntopic $SYS/#\ntopic $share/#\n");
    assert!(acl.may_read(&NOBODY, "$SYS/x") && !acl.may_write(&NOBODY, "$SYS/x"));
    assert!(acl.may_write(&NOBODY, "$SYS/broker/connection/b/state"));
    assert!(!acl.may_read(&NOBODY, "$other"));
    assert!(!acl.may_read(&NOBODY, "$share/g/t") && !acl.may_write(&NOBODY, "$share/g/t"));
    assert_eq!(acl.coverage(&NOBODY, "$SYS/#"), Coverage::Whole);
    assert_eq!(acl.coverage(&NOBODY, "$share/g/t"), Coverage::Whole);
    assert_eq!(acl.coverage(&NOBODY, "$share/g/$share/#"), Coverage::None);
}

#[test]
fn coverage_is_whole_only_if_nothing_is_missing() {
    let file = "user a\ntopic read s/+/t/#\ntopic read m\ntopic write w/#\ntopic deny s/x/t/u\n\
                topic deny d/#\ntopic read d/e\n\
                pattern read p/%c/#\npattern deny p/%c/no\npattern read q/#\n";
    let acl = acl(file);
    let who = named("c", "a");
    let cases = [
        ("s/y/t/#", Coverage::Whole),
        ("s/y/t", Coverage::Whole),
        ("s/+/t/v", Coverage::Whole),
        ("s/+/t/+", Coverage::Partly),
        ("s/#", Coverage::Partly),
        ("#", Coverage::Partly),
        ("+", Coverage::Partly),
        ("m", Coverage::Whole),
        ("m/#", Coverage::Partly),
        ("m/+", Coverage::None),
        ("w/#", Coverage::None),
        ("d/#", Coverage::None),
        ("d/e", Coverage::None),
        ("q/+", Coverage::Whole),
        ("p/c/yes/#", Coverage::Whole),
        ("p/c/#", Coverage::Partly),
        ("p/c/no", Coverage::None),
        ("p/+/yes", Coverage::Partly),
        ("p/d/#", Coverage::None),
        ("$SYS/#", Coverage::None),
        ("$share/g/q/#", Coverage::Whole),
        ("$share/g/w/#", Coverage::None),
    ];
    for (filter, want) in cases {
        assert_eq!(acl.coverage(&who, filter), want, "{filter}");
    }
}

/// Whatever coverage says of a filter holds for each topic that the filter matches.
#[test]
fn coverage_agrees_with_decisions() {
    let levels = ["a", "b", "c", "$s"];
    let names = || levels.iter().map(|&a| a.to_owned());
    let topics: Vec<String> = names()
        .chain(names().flat_map(|a| levels.iter().map(move |b| format!("{a}/{b}"))))
        .collect();
    let wild = ["a", "+", "#", "$s", "%c", "c/#", "+/#"];
    let filters: Vec<String> = wild
        .iter()
        .map(|&a| a.to_owned())
        .chain(["a", "+", "$s", "%c"].iter().flat_map(|a| wild.map(|b| format!("{a}/{b}"))))
        .collect();
    let accesses = ["topic read", "topic deny", "pattern read", "pattern deny"];
    let asked: Vec<&String> = filters.iter().filter(|filter| !filter.contains('%')).collect();
    for (index, first) in filters.iter().enumerate() {
        for (other, second) in filters.iter().enumerate() {
            let number = index * filters.len() + other;
            let text = format!(
                "{} {first}\n{} {second}\npattern read b/+\n",
                accesses[number % 4],
                accesses[number / 4 % 4]
            );
            let acl = acl(&text);
            for filter in &asked {
                let coverage = acl.coverage(&NOBODY, filter);
                let theirs = topics.iter().filter(|topic| filters::matches(filter, topic));
                for topic in theirs {
                    let want = acl.may_read(&NOBODY, topic);
                    let place = format!("{text}{filter}: {coverage:?}, but {topic}: {want}");
                    assert!(coverage != Coverage::Whole || want, "{place}");
                    assert!(coverage != Coverage::None || !want, "{place}");
                }
            }
        }
    }
}

#[test]
fn says_which_line_is_wrong() {
    let cases = [
        ("topic\n", 1, "topic without a topic filter"),
        ("\n# c\nuser  \n", 3, "user without a name"),
        ("topic a b\n", 1, "\"a\" is none of read, write, readwrite, deny"),
        ("topic a\ntopic read a/#/b", 2, "'#' is not the last level of a topic filter: \"a/#/b\""),
        (" # c\n", 1, "\"#\" is none of user, topic, pattern"),
    ];
    for (text, line, problem) in cases {
        let error = Acl::parse("some.acl", text).unwrap_err();
        assert_eq!((error.line, error.problem.as_str()), (line, problem), "{text}");
        assert_eq!(error.to_string(), format!("some.acl, line {line}: {problem}"));
    }
}

#[test]
fn reads_a_file_as_generously_as_mosquitto() {
    let acl = acl("  user   a b\t \r\n topic  read  x y \ntopic deny\ntopic write a\tb\n");
    let who = named("c", "a b");
    assert!(acl.may_read(&who, "x y") && !acl.may_write(&who, "x y"));
    assert!(acl.may_read(&who, "deny") && acl.may_write(&who, "deny"));
    assert!(acl.may_write(&who, "a\tb"));
}
