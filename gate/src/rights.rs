//! What a client may do: the file's permissions and those that its token brought, as the core asks for
//! them.
//!
//! Each shard has its own [`AclRules`]; they share the compiled file, which nobody changes. Topics and
//! filters are as the core knows them: with the mount point of the client's listener.

use std::sync::Arc;

use shards::auth::{Authorise, Rights, Subscribing, Who};
use shards::ids::QoS;

use crate::acl::{Acl, Coverage, Subject};
use crate::filters::{self, Relation};

/// Permissions of a file, if there is one, and of tokens, if any client has one.
#[derive(Clone, Debug, Default)]
pub struct AclRules {
    acl: Option<Arc<Acl>>,
    has_tokens: bool,
}

impl AclRules {
    /// `has_tokens`: whether some listener takes tokens that say what their bearers may do.
    #[must_use]
    pub fn new(acl: Option<Arc<Acl>>, has_tokens: bool) -> Self {
        Self { acl, has_tokens }
    }
}

impl Authorise for AclRules {
    fn allows_everything(&self) -> bool {
        self.acl.is_none() && !self.has_tokens
    }

    fn may_publish(&mut self, who: &Who<'_>, topic: &str, _qos: QoS, _retain: bool) -> bool {
        rights_of(who).is_none_or(|rights| any_matches(&rights.publish, topic))
            && self.acl.as_ref().is_none_or(|acl| acl.may_write(&subject(who), topic))
    }

    fn may_subscribe(&mut self, who: &Who<'_>, filter: &str) -> Subscribing {
        let of_token = rights_of(who).map(|rights| covered(&rights.subscribe, filter));
        if of_token == Some(Coverage::None) {
            return Subscribing::Deny;
        }
        let of_file = self.acl.as_ref().map(|acl| acl.coverage(&subject(who), filter));
        match of_token.into_iter().chain(of_file).min() {
            Some(Coverage::None) => Subscribing::Deny,
            Some(Coverage::Partly) => Subscribing::AllowChecked,
            Some(Coverage::Whole) | None => Subscribing::Allow,
        }
    }

    fn may_receive(&mut self, who: &Who<'_>, topic: &str) -> bool {
        rights_of(who).is_none_or(|rights| any_matches(&rights.subscribe, topic))
            && self.acl.as_ref().is_none_or(|acl| acl.may_read(&subject(who), topic))
    }
}

fn subject<'a>(who: &Who<'a>) -> Subject<'a> {
    let user = who.identity.and_then(|identity| identity.user.as_deref());
    Subject { client_id: who.client_id, user }
}

fn rights_of<'a>(who: &Who<'a>) -> Option<&'a Rights> {
    who.identity.and_then(|identity| identity.rights.as_deref())
}

fn any_matches(filters: &[Box<str>], topic: &str) -> bool {
    filters.iter().any(|filter| filters::matches(filter, topic))
}

fn covered(own: &[Box<str>], filter: &str) -> Coverage {
    let filter = filters::without_share(filter);
    match own.iter().map(|own| filters::relation(own, filter)).max() {
        Some(Relation::Contains) => Coverage::Whole,
        Some(Relation::Overlaps) => Coverage::Partly,
        Some(Relation::Apart) | None => Coverage::None,
    }
}

#[cfg(test)]
mod tests {
    use shards::auth::Identity;

    use super::*;

    fn with_rights(publish: &[&str], subscribe: &[&str]) -> Identity {
        let boxed = |texts: &[&str]| texts.iter().map(|&text| text.into()).collect();
        let rights = Rights { publish: boxed(publish), subscribe: boxed(subscribe) };
        Identity { user: Some("ann".into()), rights: Some(Box::new(rights)), listener: 0 }
    }

    fn who(identity: &Identity) -> Who<'_> {
        Who { client_id: "c", identity: Some(identity) }
    }

    #[test]
    fn without_file_and_tokens_everything_is_allowed() {
        assert!(AclRules::default().allows_everything());
        assert!(!AclRules::new(None, true).allows_everything());
        assert!(!AclRules::new(Some(Arc::default()), false).allows_everything());
        let mut rules = AclRules::new(None, true);
        let nobody = Who { client_id: "c", identity: None };
        assert!(rules.may_publish(&nobody, "t", QoS::AtMostOnce, false));
        assert_eq!(rules.may_subscribe(&nobody, "#"), Subscribing::Allow);
        assert!(rules.may_receive(&nobody, "t"));
    }

    #[test]
    fn a_token_limits_what_a_file_permits_and_the_other_way_round() {
        let file = "user ann\ntopic a/#\ntopic b/#\n";
        let acl = Arc::new(Acl::parse("acl", file).unwrap());
        let mut rules = AclRules::new(Some(acl), true);
        let ann = with_rights(&["a/x", "c"], &["a/#", "b/y", "c/#"]);
        let cases = [("a/x", true), ("a/y", false), ("c", false), ("b/y", false)];
        for (topic, want) in cases {
            assert_eq!(
                rules.may_publish(&who(&ann), topic, QoS::AtMostOnce, false),
                want,
                "{topic}"
            );
        }
        for (topic, want) in [("a/x", true), ("b/y", true), ("b/x", false), ("c/x", false)] {
            assert_eq!(rules.may_receive(&who(&ann), topic), want, "{topic}");
        }
        let cases = [
            ("a/+", Subscribing::Allow),
            ("b/y", Subscribing::Allow),
            ("b/+", Subscribing::AllowChecked),
            ("#", Subscribing::AllowChecked),
            ("c/x", Subscribing::Deny),
            ("d/#", Subscribing::Deny),
        ];
        for (filter, want) in cases {
            assert_eq!(rules.may_subscribe(&who(&ann), filter), want, "{filter}");
        }
        let nothing = with_rights(&[], &[]);
        assert!(!rules.may_publish(&who(&nothing), "a/x", QoS::AtMostOnce, false));
        assert_eq!(rules.may_subscribe(&who(&nothing), "a/x"), Subscribing::Deny);
    }

    #[test]
    fn clients_without_a_user_name_have_the_lines_before_the_first_user() {
        let acl = Arc::new(Acl::parse("acl", "topic read open/#\nuser ann\ntopic #\n").unwrap());
        let mut rules = AclRules::new(Some(acl), false);
        let nobody = Who { client_id: "c", identity: None };
        assert_eq!(rules.may_subscribe(&nobody, "open/+"), Subscribing::Allow);
        assert_eq!(rules.may_subscribe(&nobody, "other"), Subscribing::Deny);
        assert!(!rules.may_publish(&nobody, "open/x", QoS::AtMostOnce, false));
    }
}
