//! What Entra ID decides about a sign-in in a browser (RFC 6749 section 4.1.1): whether its request is good, and where the browser goes
//! next. No HTTP in here.
//!
//! As with the real one, whoever names a wrong tenant, application or redirect address gets a page and no redirect: nothing is sent to an
//! address that nobody registered. Everything else is told to the application.

use reqwest::Url;

use super::super::cloud::Cloud;
use super::codes::Consent;
use super::grants::{self, Form};
use super::{Refused, jwt};

/// A request that may be shown to a person.
#[derive(Debug)]
pub(super) struct Request<'a> {
    redirect: Url,
    redirect_uri: &'a str,
    state: Option<&'a str>,
    challenge: Option<&'a str>,
    /// The fields of the form, to be carried from page to page.
    pub(super) form: &'a Form,
    /// Who the application thinks will sign in.
    pub(super) login_hint: Option<&'a str>,
    /// Whether a refresh token is asked for.
    pub(super) offline: bool,
}

/// Why a request is not shown to a person.
#[derive(Debug)]
pub(super) enum NotShown {
    /// Nothing may be sent to the address it names: a page says why.
    Page(Refused),
    /// The application is told.
    Redirect(Refused, Url),
}

/// The fields of a request that pages carry along.
pub(super) const FIELDS: [&str; 9] = [
    "client_id",
    "redirect_uri",
    "response_type",
    "response_mode",
    "scope",
    "state",
    "code_challenge",
    "code_challenge_method",
    "login_hint",
];

impl<'a> Request<'a> {
    /// Reads and checks a request.
    pub(super) fn read(cloud: &Cloud, tenant: &str, form: &'a Form) -> Result<Self, NotShown> {
        let (redirect_uri, redirect) = destination(cloud, tenant, form).map_err(NotShown::Page)?;
        let field = |name: &str| form.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let mut request = Self {
            redirect,
            redirect_uri,
            state: field("state"),
            challenge: field("code_challenge"),
            form,
            login_hint: field("login_hint"),
            offline: false,
        };
        match request.check() {
            Ok(scope) => {
                request.offline = scope.split_whitespace().any(|scope| scope == "offline_access");
                Ok(request)
            }
            Err(refused) => {
                let back = request.back_with_error(cloud, &refused);
                Err(NotShown::Redirect(refused, back))
            }
        }
    }

    fn check(&self) -> Result<&'a str, Refused> {
        if grants::need(self.form, "response_type")? != "code" {
            return Err(Refused::row("9002313"));
        }
        // The other modes are for applications that have a web site.
        if self.form.get("response_mode").is_some_and(|mode| mode != "query") {
            return Err(Refused::row("9002313"));
        }
        let scope = grants::need(self.form, "scope")?;
        grants::check_scope(scope)?;
        let method = self.form.get("code_challenge_method").map(String::as_str);
        match (self.challenge, method) {
            (None, None) => Ok(scope),
            (Some(challenge), Some("S256")) if challenge.len() == 43 => Ok(scope),
            _ => Err(Refused::row("9002313")),
        }
    }

    /// The person agreed: where the browser goes, with a code.
    pub(super) fn consented(&self, cloud: &Cloud, mailbox: &str) -> Url {
        let consent = Consent {
            mailbox: mailbox.to_owned(),
            redirect_uri: self.redirect_uri.to_owned(),
            challenge: self.challenge.map(str::to_owned),
            offline: self.offline,
        };
        let code = cloud.ledger().codes.issue(consent, cloud.now());
        let mut back = self.redirect.clone();
        back.query_pairs_mut().append_pair("code", &code);
        self.with_state(&mut back);
        back.query_pairs_mut().append_pair("session_state", &jwt::guid());
        back
    }

    /// The person said no.
    pub(super) fn denied(&self, cloud: &Cloud) -> Url {
        self.back_with_error(cloud, &Refused::row("65004"))
    }

    fn back_with_error(&self, cloud: &Cloud, refused: &Refused) -> Url {
        let (error, _) = refused.summary();
        let mut back = self.redirect.clone();
        back.query_pairs_mut().append_pair("error", &error).append_pair("error_description", &refused.text(cloud));
        self.with_state(&mut back);
        back
    }

    fn with_state(&self, back: &mut Url) {
        if let Some(state) = self.state {
            back.query_pairs_mut().append_pair("state", state);
        }
    }
}

/// Where the answer goes to, if the tenant, the application and the address are known here.
fn destination<'a>(cloud: &Cloud, tenant: &str, form: &'a Form) -> Result<(&'a str, Url), Refused> {
    grants::check_tenant(cloud, tenant)?;
    grants::check_client_id(cloud, grants::need(form, "client_id")?)?;
    let given = form.get("redirect_uri").map(|uri| uri.trim()).filter(|uri| !uri.is_empty());
    let given = given.ok_or_else(|| Refused::row("50011"))?;
    let url = Url::parse(given).map_err(|_| Refused::row("90023"))?;
    let is_registered = cloud.options.redirect_uris.iter().any(|registered| is_same(registered, &url));
    if is_registered { Ok((given, url)) } else { Err(Refused::row("50011")) }
}

/// As Entra ID compares: the port of a loopback address counts for nothing (RFC 8252 section 7.3), everything else has to be equal.
fn is_same(registered: &str, given: &Url) -> bool {
    let Ok(mut registered) = Url::parse(registered) else { return false };
    let mut given = given.clone();
    let is_loopback = matches!(registered.host_str(), Some("localhost" | "127.0.0.1"));
    if is_loopback && registered.scheme() == "http" {
        // Fails only without a host, and there is one.
        let _ = registered.set_port(None);
        let _ = given.set_port(None);
    }
    registered == given
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_port_of_a_loopback_address_is_free() {
        let same = |registered: &str, given: &str| is_same(registered, &Url::parse(given).unwrap());
        assert!(same("http://localhost", "http://localhost:40123/"));
        assert!(same("http://localhost", "http://localhost"));
        assert!(!same("http://localhost", "http://127.0.0.1:40123/"));
        assert!(!same("http://localhost", "https://localhost:40123/"));
        assert!(!same("http://localhost", "http://localhost:40123/elsewhere"));
        assert!(!same("http://localhost", "http://localhost.example/"));
        assert!(same("http://127.0.0.1", "http://127.0.0.1:1/"));
        assert!(!same("https://relay.contoso.com/", "https://relay.contoso.com:444/"));
    }
}
