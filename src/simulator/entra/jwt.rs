//! Access tokens in the shape and size of Microsoft's: three parts of base64url, about 2,500 octets. The signature is noise: nobody but
//! the simulator checks its tokens, and it knows them by heart.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::options::Options;

/// What Exchange demands as audience.
pub(in crate::simulator) const AUDIENCE: &str = "https://outlook.office.com";
/// What it takes: the older name too.
pub(in crate::simulator) const AUDIENCES: [&str; 2] = [AUDIENCE, "https://outlook.office365.com"];
/// The claims are padded to this many octets, so that the whole token is about 2,500.
const PAYLOAD: usize = 1500;

/// The claims of a token for `mailbox`, before [`Options::claims`] and the caller's own are put over them.
pub(super) fn claims(options: &Options, mailbox: &str, now: Timestamp) -> Value {
    let (issued, life) = (now.as_second(), i64::try_from(options.access_token_life.as_secs()).unwrap_or(i64::MAX));
    let tenant = guid_of(&options.tenant);
    json!({
        "aud": AUDIENCE,
        "iss": format!("https://sts.windows.net/{tenant}/"),
        "iat": issued,
        "nbf": issued,
        "exp": issued.saturating_add(life),
        "acct": 0,
        "acr": "1",
        "aio": noise(48),
        "amr": ["pwd", "mfa"],
        "app_displayname": "xoauth2-relay",
        "appid": options.client_id,
        "appidacr": if options.client_secret.is_some() { "1" } else { "0" },
        "idtyp": "user",
        "ipaddr": "203.0.113.10",
        "name": mailbox,
        "oid": guid_of(mailbox),
        "puid": "10032000ABCDEF01",
        "rh": noise(60),
        "scp": "SMTP.Send",
        "sid": guid(),
        "sub": noise(32),
        "tid": tenant,
        "unique_name": mailbox,
        "upn": mailbox,
        "uti": noise(16),
        "ver": "1.0",
    })
}

/// The claims of a token that the registration gets for itself: no person, no `scp`. `strength` is `appidacr`.
pub(super) fn application_claims(options: &Options, strength: &str, now: Timestamp) -> Value {
    let mut claims = claims(options, "", now);
    let principal = guid_of(&format!("service principal of {}", options.client_id));
    if let Some(claims) = claims.as_object_mut() {
        for of_a_person in ["acct", "acr", "amr", "ipaddr", "name", "puid", "scp", "sid", "unique_name", "upn"] {
            claims.remove(of_a_person);
        }
        claims.insert("aud".to_owned(), json!("https://outlook.office365.com"));
        claims.insert("appidacr".to_owned(), json!(strength));
        claims.insert("idtyp".to_owned(), json!("app"));
        claims.insert("oid".to_owned(), json!(principal));
        claims.insert("sub".to_owned(), json!(principal));
        claims.insert("roles".to_owned(), json!(options.app_roles));
    }
    claims
}

/// Makes a token of these claims, padded with group ids to its usual size.
pub(super) fn token(mut claims: Value) -> String {
    let missing = PAYLOAD.saturating_sub(claims.to_string().len());
    let groups: Vec<String> = (0..missing / 39).map(|_| guid()).collect();
    if let Some(claims) = claims.as_object_mut() {
        claims.entry("groups").or_insert_with(|| json!(groups));
    }
    let key = noise(20);
    let header = json!({ "typ": "JWT", "alg": "RS256", "nonce": noise(32), "x5t": key, "kid": key });
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", part(&header.to_string()), part(&claims.to_string()), noise(256))
}

/// A refresh token: long, opaque, and unlike any other.
pub(super) fn opaque(prefix: &str, octets: usize) -> String {
    format!("{prefix}{}", noise(octets))
}

/// Random octets as base64url.
pub(super) fn noise(octets: usize) -> String {
    let mut bytes = vec![0; octets];
    rand::fill(&mut bytes[..]);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A random id, as in `trace_id`.
pub(super) fn guid() -> String {
    as_guid(rand::random())
}

/// The same id for the same text: a tenant's, a person's.
pub(super) fn guid_of(text: &str) -> String {
    // FNV-1a: stable over versions and machines, which is all that is wanted here.
    let hash = text.to_ascii_lowercase().bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    });
    as_guid(hash)
}

fn as_guid(number: u128) -> String {
    let hex = format!("{number:032x}");
    format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_the_shape_and_the_size_of_a_real_one() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let token = token(claims(&Options::default(), "lms@contoso.com", now));
        assert!((2300..2700).contains(&token.len()), "{}", token.len());
        let parts: Vec<&str> = token.split('.').collect();
        assert_eq!(parts.len(), 3);
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
        assert_eq!(claims["aud"], AUDIENCE);
        assert_eq!(claims["upn"], "lms@contoso.com");
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 75 * 60);
    }

    #[test]
    fn ids_look_like_ids() {
        assert_eq!(guid().len(), 36);
        assert_eq!(guid_of("Contoso"), guid_of("contoso"));
        assert_ne!(guid_of("contoso"), guid_of("fabrikam"));
    }
}
