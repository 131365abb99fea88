//! What an access token says about itself. Decoded for display and for telling a wrong person early; never verified, never
//! trusted: only the far side can do that. A token that cannot be decoded is used as it is.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::Value;

/// The longest payload that is looked at, in octets of base64. Real ones are about 2 KB.
const MAX_PAYLOAD: usize = 64 * 1024;
/// The most characters of a name that are kept.
const MAX_CLAIM: usize = 256;
/// The most characters of a list that are kept: a permission must not be missed because others come first.
const MAX_LIST: usize = 16 * 1024;

/// The claims that are worth showing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// Who signed in (tokens of Exchange are of version 1 and have this).
    pub upn: Option<String>,
    /// Who signed in (tokens of version 2, other providers).
    pub preferred_username: Option<String>,
    /// Until when it says that it is good.
    pub exp: Option<Timestamp>,
    /// For whom it is meant; several are joined by spaces.
    pub aud: Option<String>,
    /// What the person granted, as one text.
    pub scp: Option<String>,
    /// What an administrator granted the application, joined by spaces. Absent or empty where Exchange alone grants it (App RBAC).
    pub roles: Option<String>,
    /// The id of the tenant that gave the token.
    pub tid: Option<String>,
    /// The id of the person, or of the application in its tenant; unlike a name it never changes.
    pub oid: Option<String>,
    /// The client id: `appid` in tokens of version 1, `azp` in those of version 2.
    pub appid: Option<String>,
    /// `user` or `app`.
    pub idtyp: Option<String>,
    /// Who gave the token.
    pub iss: Option<String>,
}

impl Claims {
    /// Decodes the middle part of a JWT (RFC 7519). `None` for whatever is no JWT.
    pub fn decode(token: &str) -> Option<Self> {
        let mut parts = token.split('.');
        let (_header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || payload.len() > MAX_PAYLOAD {
            return None;
        }
        let json = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
        let Ok(Value::Object(claims)) = serde_json::from_slice(&json) else { return None };
        let text = |name: &str| claims.get(name).and_then(|value| joined(value, MAX_CLAIM));
        let list = |name: &str| claims.get(name).and_then(|value| joined(value, MAX_LIST));
        Some(Self {
            upn: text("upn"),
            preferred_username: text("preferred_username"),
            exp: claims.get("exp").and_then(Value::as_i64).and_then(|exp| Timestamp::from_second(exp).ok()),
            aud: list("aud"),
            scp: list("scp"),
            roles: list("roles"),
            tid: text("tid"),
            oid: text("oid"),
            appid: text("appid").or_else(|| text("azp")),
            idtyp: text("idtyp"),
            iss: text("iss"),
        })
    }

    /// Who signed in, if the token names anybody.
    pub fn person(&self) -> Option<&str> {
        self.upn.as_deref().or(self.preferred_username.as_deref())
    }
}

fn joined(value: &Value, max: usize) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        _ => return None,
    };
    let kept: String = text.chars().filter(|c| !c.is_control()).take(max).collect();
    (!kept.is_empty()).then_some(kept)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(payload: &str) -> String {
        format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn a_token_of_exchange_names_its_person() {
        let claims = Claims::decode(&token(
            r#"{"aud":"https://outlook.office.com","scp":"SMTP.Send","upn":"lms@contoso.com","exp":1800000000}"#,
        ))
        .unwrap();
        assert_eq!(claims.person(), Some("lms@contoso.com"));
        assert_eq!(claims.exp, Timestamp::from_second(1_800_000_000).ok());
        assert_eq!(claims.scp.as_deref(), Some("SMTP.Send"));
        let other = Claims::decode(&token(r#"{"aud":["a","b"],"preferred_username":"x@y.z"}"#)).unwrap();
        assert_eq!((other.person(), other.aud.as_deref()), (Some("x@y.z"), Some("a b")));
    }

    #[test]
    fn a_token_of_an_application_names_tenant_application_and_roles() {
        let first = r#"{"appid":"c","azp":"d","idtyp":"app","iss":"https://sts.windows.net/t/","oid":"o","roles":["A","SMTP.SendAsApp"],"tid":"t"}"#;
        let claims = Claims::decode(&token(first)).unwrap();
        assert_eq!((claims.appid.as_deref(), claims.idtyp.as_deref()), (Some("c"), Some("app")));
        assert_eq!((claims.tid.as_deref(), claims.oid.as_deref()), (Some("t"), Some("o")));
        assert_eq!(
            (claims.roles.as_deref(), claims.iss.as_deref()),
            (Some("A SMTP.SendAsApp"), Some("https://sts.windows.net/t/"))
        );
        let second = Claims::decode(&token(r#"{"azp":"d","roles":[]}"#)).unwrap();
        assert_eq!((second.appid.as_deref(), second.roles), (Some("d"), None));
        let many = vec!["\"Another.Permission\""; 100].join(",");
        let many = Claims::decode(&token(&format!(r#"{{"roles":[{many},"SMTP.SendAsApp"]}}"#))).unwrap();
        assert!(many.roles.unwrap().ends_with("SMTP.SendAsApp"), "the last of many is not lost");
    }

    #[test]
    fn what_is_no_jwt_is_left_alone() {
        for text in ["", "opaque", "a.b", "a.b.c.d", "e30.!!!.x", &token("[]"), &token("{"), "EwB...=", "e30.e30"] {
            assert_eq!(Claims::decode(text), None, "{text:?}");
        }
        let odd = Claims::decode(&token(r#"{"exp":9223372036854775807,"upn":7,"aud":{}}"#)).unwrap();
        assert_eq!(odd, Claims::default());
        assert_eq!(Claims::decode(&token(&format!(r#"{{"upn":"{}"}}"#, "x".repeat(MAX_PAYLOAD)))), None);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in ".{0,200}", payload in ".{0,200}") {
            let _ = Claims::decode(&text);
            let _ = Claims::decode(&token(&payload));
        }
    }
}
