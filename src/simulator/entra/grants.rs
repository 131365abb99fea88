//! What Entra ID decides about a request for tokens or for a device code: no HTTP in here.

use std::collections::HashMap;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::super::cloud::Cloud;
use super::super::event::Event;
use super::registration::Proof;
use super::{Refused, jwt};

/// The form of a request; a key given twice counts with its last value.
pub(super) type Form = HashMap<String, String>;

const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// The one scope that lets mail out, as asked for; the old name of the resource is taken too.
const SCOPES: [&str; 2] = ["https://outlook.office.com/SMTP.Send", "https://outlook.office365.com/SMTP.Send"];

/// What an application may ask for: all that it was granted.
const APP_SCOPES: [&str; 2] = ["https://outlook.office365.com/.default", "https://outlook.office.com/.default"];

/// The name of the grant for statistics and events.
pub(super) fn grant_name(form: &Form) -> &str {
    match form.get("grant_type").map(String::as_str) {
        Some(DEVICE_GRANT) => "device_code",
        Some("refresh_token") => "refresh_token",
        Some("authorization_code") => "authorization_code",
        Some("client_credentials") => "client_credentials",
        Some("password") => "password",
        Some(_) => "other",
        None => "none",
    }
}

/// Whose tokens are asked for, as far as that can be known.
pub(super) fn owner(cloud: &Cloud, form: &Form) -> Option<String> {
    let token = ["refresh_token", "device_code", "code"].iter().find_map(|name| form.get(*name))?;
    cloud.ledger().owner(token)
}

/// The answer of the token endpoint. `basic` is the `Authorization` header's value.
pub(super) fn token(cloud: &Cloud, tenant: &str, basic: Option<&str>, form: &Form) -> Result<Value, Refused> {
    check_tenant(cloud, tenant)?;
    let grant = need(form, "grant_type")?;
    let proof = check_client(cloud, tenant, basic, form)?;
    let now = cloud.now();
    if grant == "client_credentials" {
        return application(cloud, proof, form);
    }
    let (mailbox, offline) = match grant {
        DEVICE_GRANT => {
            let code = need(form, "device_code")?;
            let approved = cloud.ledger().ask_device(code, &cloud.options, now, Instant::now())?;
            (approved.mailbox, approved.offline)
        }
        "refresh_token" => {
            let token = need(form, "refresh_token")?;
            check_scope(need(form, "scope")?)?;
            (cloud.ledger().redeem_refresh(token, &cloud.options, now)?, true)
        }
        "authorization_code" => {
            let (code, redirect_uri) = (need(form, "code")?, need(form, "redirect_uri")?);
            let verifier = form.get("code_verifier").map(String::as_str);
            let consent = cloud.ledger().codes.redeem(code, redirect_uri, verifier, now)?;
            (consent.mailbox, consent.offline)
        }
        other => return Err(Refused::row("70003").with("grant", other)),
    };
    let mut ledger = cloud.ledger();
    let life = cloud.options.access_token_life.as_secs();
    let mut answer = json!({
        "token_type": "Bearer",
        "scope": SCOPES[0],
        "expires_in": life,
        "ext_expires_in": life,
        "access_token": ledger.issue_access(&cloud.options, &mailbox, &Map::new(), now),
    });
    if offline {
        let token = ledger.issue_refresh(&mailbox, now);
        if let Some(used) = form.get("refresh_token") {
            ledger.follow(used.trim(), &token);
        }
        answer["refresh_token"] = json!(token);
    }
    drop(ledger);
    cloud.emit(|| Event::TokenIssued { grant: grant_name(form).to_owned(), mailbox });
    Ok(answer)
}

/// An access token of the registration's own (RFC 6749 section 4.4): no refresh token.
fn application(cloud: &Cloud, proof: Proof, form: &Form) -> Result<Value, Refused> {
    if proof == Proof::Public {
        return Err(Refused::row("7000218"));
    }
    let scope = need(form, "scope")?;
    if !APP_SCOPES.iter().any(|own| own.eq_ignore_ascii_case(scope)) {
        return Err(Refused::row("70011").with("scope", scope));
    }
    let life = cloud.options.access_token_life.as_secs();
    let access_token = cloud.ledger().issue_application(&cloud.options, proof, cloud.now());
    cloud.emit(|| Event::TokenIssued {
        grant: grant_name(form).to_owned(),
        mailbox: format!("the application {}", cloud.options.client_id),
    });
    Ok(json!({
        "token_type": "Bearer", "expires_in": life, "ext_expires_in": life, "access_token": access_token,
    }))
}

/// The answer of the device code endpoint (RFC 8628 section 3.2).
pub(super) fn device_code(cloud: &Cloud, tenant: &str, form: &Form) -> Result<Value, Refused> {
    check_tenant(cloud, tenant)?;
    check_client_id(cloud, need(form, "client_id")?)?;
    let scope = need(form, "scope")?;
    check_scope(scope)?;
    let offline = scope.split_whitespace().any(|scope| scope == "offline_access");
    let now = cloud.now();
    let (device_code, user_code) = cloud.ledger().issue_device(&cloud.options, offline, now);
    let page = cloud.device_page();
    cloud.emit(|| Event::CodeIssued { user_code: user_code.clone(), page: page.clone() });
    if let Some(mailbox) = &cloud.options.auto_approve {
        cloud.approve(&user_code, mailbox);
    }
    Ok(json!({
        "user_code": user_code,
        "device_code": device_code,
        "verification_uri": page,
        "expires_in": cloud.options.device_code_life.as_secs(),
        "interval": cloud.options.device_interval.as_secs(),
        "message":
            format!("To sign in, use a web browser to open the page {page} and enter the code {user_code} to authenticate."),
    }))
}

pub(super) fn need<'a>(form: &'a Form, name: &'static str) -> Result<&'a str, Refused> {
    let value = form.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
    value.ok_or_else(|| Refused::row("900144").with("parameter", name))
}

pub(super) fn check_tenant(cloud: &Cloud, tenant: &str) -> Result<(), Refused> {
    let own = &cloud.options.tenant;
    match tenant.to_ascii_lowercase().as_str() {
        tenant if tenant.eq_ignore_ascii_case(own) || tenant == jwt::guid_of(own) => Ok(()),
        "common" | "organizations" => Err(Refused::row("50194")),
        "consumers" => Err(Refused::row("9002332")),
        _ => Err(Refused::row("90002").with("tenant", tenant)),
    }
}

pub(super) fn check_client_id(cloud: &Cloud, id: &str) -> Result<(), Refused> {
    if id.eq_ignore_ascii_case(&cloud.options.client_id) {
        Ok(())
    } else {
        Err(Refused::row("700016").with("client_id", id))
    }
}

/// Client id and what proves it, from the form or from HTTP Basic (RFC 6749 section 2.3.1).
fn check_client(cloud: &Cloud, tenant: &str, basic: Option<&str>, form: &Form) -> Result<Proof, Refused> {
    let (id, secret) = match basic.and_then(credentials) {
        Some((id, secret)) => (id, Some(secret)),
        None => (need(form, "client_id")?.to_owned(), form.get("client_secret").cloned()),
    };
    check_client_id(cloud, &id)?;
    let secret = secret.filter(|secret| !secret.is_empty());
    let audience = format!("{}/{tenant}/oauth2/v2.0/token", cloud.http_base());
    cloud.registration().check(secret.as_deref(), form, &audience, cloud.now())
}

/// `Basic base64(id:secret)`, both parts form-encoded.
fn credentials(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    Some((form_decoded(id)?, form_decoded(secret)?))
}

fn form_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let (high, low) = (char::from(rest.next()?).to_digit(16)?, char::from(rest.next()?).to_digit(16)?);
                u8::try_from(high * 16 + low).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// SMTP.Send must be among what is asked for, and nothing of another resource.
pub(super) fn check_scope(scope: &str) -> Result<(), Refused> {
    let is_send = |scope: &str| SCOPES.iter().any(|send| send.eq_ignore_ascii_case(scope));
    let is_ours = |scope: &str| {
        let lower = scope.to_ascii_lowercase();
        lower.starts_with("https://outlook.office.com/") || lower.starts_with("https://outlook.office365.com/")
    };
    let is_openid = |scope: &str| matches!(scope, "openid" | "profile" | "email" | "offline_access");
    let resources = || scope.split_whitespace().filter(|scope| !is_openid(scope));
    let sends = resources().any(is_send);
    match resources().find(|scope| !is_ours(scope)) {
        Some(_) if sends => Err(Refused::row("28000")),
        Some(other) => Err(Refused::row("70011").with("scope", other)),
        None if sends => Ok(()),
        None => Err(Refused::row("70011").with("scope", scope)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scope_must_let_mail_out() {
        let refused = |scope: &str| check_scope(scope).map_err(|refused| refused.id().to_owned());
        assert_eq!(refused("https://outlook.office.com/SMTP.Send offline_access"), Ok(()));
        assert_eq!(
            refused("openid https://outlook.office.com/smtp.send https://outlook.office.com/IMAP.AccessAsUser.All"),
            Ok(())
        );
        assert_eq!(refused("offline_access"), Err("70011".into()));
        assert_eq!(refused("https://graph.microsoft.com/Mail.Send offline_access"), Err("70011".into()));
        let both = "https://outlook.office.com/SMTP.Send https://graph.microsoft.com/Mail.Send";
        assert_eq!(refused(both), Err("28000".into()));
    }

    #[test]
    fn basic_credentials_are_form_encoded() {
        let header = format!("Basic {}", STANDARD.encode("id%2D1:a+b%7Ec"));
        assert_eq!(credentials(&header), Some(("id-1".to_owned(), "a b~c".to_owned())));
        for wrong in ["Basic", "Basic ???", "Bearer abc", "Basic YTpiJQ=="] {
            assert_eq!(credentials(wrong).map(|(_, secret)| secret), None, "{wrong}");
        }
    }
}
