//! What a token says about its bearer, held against what is asked for.

use serde_json::{Map, Value};
use shards::auth::Rights;

use crate::acl::{self, Subject};
use crate::filters;

use super::{Bearer, Policy, Refusal};

/// The claims of a token whose signature is good.
pub(super) struct Claims<'a>(pub(super) &'a Map<String, Value>);

impl Claims<'_> {
    pub(super) fn check(
        &self,
        policy: &Policy,
        client_id: &str,
        user_name: Option<&str>,
        now_unix_s: u64,
    ) -> Result<Bearer, Refusal> {
        let expires_unix_s = self.check_times(policy, now_unix_s)?;
        self.check_origin(policy)?;
        let user = self.text(&policy.user_claim)?.ok_or_else(|| missing(&policy.user_claim))?;
        if user.is_empty() || user.contains('\0') {
            return Err(Refusal::Malformed(policy.user_claim.clone()));
        }
        if policy.user_name_must_match && user_name != Some(user) {
            return Err(Refusal::OtherUser);
        }
        if let Some(name) = &policy.client_id_claim
            && self.text(name)?.ok_or_else(|| missing(name))? != client_id
        {
            return Err(Refusal::OtherClient);
        }
        let who = Subject { client_id, user: Some(user) };
        let rights = self.rights(policy, &who)?;
        Ok(Bearer { user: user.into(), rights, expires_unix_s })
    }

    /// When the token ends, leeway included.
    fn check_times(&self, policy: &Policy, now_unix_s: u64) -> Result<Option<u64>, Refusal> {
        let with_leeway = now_unix_s.saturating_add(policy.leeway_s);
        let expires = self.time("exp")?.map(|time| time.saturating_add(policy.leeway_s));
        match expires {
            None if policy.needs_expiry => return Err(missing("exp")),
            Some(expires) if now_unix_s >= expires => return Err(Refusal::Expired),
            None | Some(_) => {}
        }
        if self.time("nbf")?.is_some_and(|time| with_leeway < time) {
            return Err(Refusal::TooEarly);
        }
        let issued = self.time("iat")?;
        if policy.checks_issued && issued.is_some_and(|time| with_leeway < time) {
            return Err(Refusal::IssuedLater);
        }
        Ok(expires)
    }

    fn check_origin(&self, policy: &Policy) -> Result<(), Refusal> {
        let audience = policy.audience.as_deref();
        let is_for_us = match (self.0.get("aud"), audience) {
            (Some(value), Some(own)) => has_text(value, own),
            // RFC 7519 section 4.1.3: it is for somebody, and we do not know that we are meant.
            (Some(_), None) | (None, Some(_)) => false,
            (None, None) => true,
        };
        if !is_for_us {
            return Err(Refusal::OtherAudience);
        }
        if let Some(issuer) = &policy.issuer
            && self.text("iss")? != Some(issuer)
        {
            return Err(Refusal::OtherIssuer);
        }
        for (name, want) in &policy.required {
            let value = self.0.get(&**name).ok_or_else(|| missing(name))?;
            let is_it = match value {
                Value::String(_) | Value::Array(_) => has_text(value, want),
                Value::Bool(is_true) => **want == *if *is_true { "true" } else { "false" },
                Value::Number(number) => number.to_string() == **want,
                Value::Null | Value::Object(_) => false,
            };
            if !is_it {
                return Err(Refusal::OtherValue(name.clone()));
            }
        }
        Ok(())
    }

    fn rights(&self, policy: &Policy, who: &Subject<'_>) -> Result<Option<Rights>, Refusal> {
        let Some(names) = &policy.topics else { return Ok(None) };
        let publish = self.filters(&names.publish, who)?;
        Ok(Some(Rights { publish, subscribe: self.filters(&names.subscribe, who)? }))
    }

    /// A claim that is not there permits nothing.
    fn filters(&self, name: &str, who: &Subject<'_>) -> Result<Box<[Box<str>]>, Refusal> {
        let malformed = || Refusal::Malformed(name.into());
        let listed = match self.0.get(name) {
            None => return Ok(Box::default()),
            Some(Value::Array(listed)) => listed.as_slice(),
            Some(single) => std::slice::from_ref(single),
        };
        let filter = |value: &Value| {
            let filter = value.as_str().ok_or_else(malformed)?;
            // Looked at before names are put in: those must not bring wildcards.
            if filters::problem_of(filter).is_some() {
                return Err(malformed());
            }
            acl::filled(filter, who).ok_or(Refusal::WildcardInName)
        };
        listed.iter().map(filter).collect()
    }

    fn text(&self, name: &str) -> Result<Option<&str>, Refusal> {
        let malformed = || Refusal::Malformed(name.into());
        self.0.get(name).map(|value| value.as_str().ok_or_else(malformed)).transpose()
    }

    /// Seconds since 1970. Parts of a second count as a whole one, which is the same at full seconds.
    fn time(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        if let Some(seconds) = value.as_u64() {
            return Ok(Some(seconds));
        }
        let seconds = value.as_f64().ok_or_else(|| Refusal::Malformed(name.into()))?.ceil();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the conversion saturates: before 1970 is 0, and what is beyond is the end of time"
        )]
        Ok(Some(seconds as u64))
    }
}

fn missing(name: &str) -> Refusal {
    Refusal::Missing(name.into())
}

/// Whether a text is it, or a list has it.
fn has_text(value: &Value, want: &str) -> bool {
    match value {
        Value::String(text) => text == want,
        Value::Array(values) => values.iter().any(|value| value.as_str() == Some(want)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    }
}
