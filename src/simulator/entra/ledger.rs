//! What Entra ID has issued: access tokens, refresh tokens and device codes, and what becomes of each. Time is an argument.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::super::options::Options;
use super::Refused;
use super::book::Book;
use super::codes::Codes;
use super::jwt;
use super::registration::Proof;

/// How many of a kind are remembered; what is older counts as never issued.
const ROOM: usize = 10_000;
/// Letters and digits that are not taken for one another.
const CODE_LETTERS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// Everything issued.
#[derive(Debug)]
pub(in crate::simulator) struct Ledger {
    access: Book<Access>,
    refresh: Book<Refresh>,
    devices: Book<Device>,
    /// Of sign-ins in a browser.
    pub(super) codes: Codes,
}

#[derive(Debug)]
struct Access {
    audience: String,
    scopes: String,
    user: String,
    /// `roles`, in a token of the registration's own.
    roles: Option<Vec<String>>,
    expires: Timestamp,
    revoked: bool,
}

/// Whose a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::simulator) enum Bearer<'a> {
    /// The person's who signed in.
    Person(&'a str),
    /// The registration's own: good for every mailbox that it was given access to.
    Application,
}

#[derive(Debug)]
struct Refresh {
    mailbox: String,
    issued: Timestamp,
    last_used: Timestamp,
    spent: bool,
    revoked: bool,
    /// The token it was given for.
    predecessor: Option<String>,
    /// Its successor was used.
    retired: bool,
}

#[derive(Debug)]
struct Device {
    user_code: String,
    decision: Decision,
    expires: Timestamp,
    last_asked: Option<Instant>,
    offline: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Decision {
    Pending,
    Approved(String),
    Denied,
}

/// A device code that was approved: for whom, and whether a refresh token was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Approved {
    pub(super) mailbox: String,
    pub(super) offline: bool,
}

impl Ledger {
    pub(in crate::simulator) fn new() -> Self {
        Self {
            access: Book::with_room(ROOM),
            refresh: Book::with_room(ROOM),
            devices: Book::with_room(ROOM),
            codes: Codes::new(),
        }
    }

    /// Every token and device code that is still remembered.
    pub(in crate::simulator) fn issued(&self) -> Vec<String> {
        self.access.keys().chain(self.refresh.keys()).chain(self.devices.keys()).cloned().collect()
    }

    /// Issues an access token; `over` and [`Options::claims`] are put over its claims.
    pub(in crate::simulator) fn issue_access(
        &mut self,
        options: &Options,
        mailbox: &str,
        over: &Map<String, Value>,
        now: Timestamp,
    ) -> String {
        let mut claims = jwt::claims(options, mailbox, now);
        if let Some(claims) = claims.as_object_mut() {
            claims.extend(options.claims.iter().map(|(name, value)| (name.clone(), value.clone())));
            claims.extend(over.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        self.issue(claims)
    }

    /// Issues an access token of the registration's own; [`Options::claims`] are put over its claims.
    pub(super) fn issue_application(&mut self, options: &Options, proof: Proof, now: Timestamp) -> String {
        let strength = if proof == Proof::Assertion { "2" } else { "1" };
        let mut claims = jwt::application_claims(options, strength, now);
        if let Some(claims) = claims.as_object_mut() {
            claims.extend(options.claims.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        self.issue(claims)
    }

    fn issue(&mut self, claims: Value) -> String {
        let text = |name: &str| claims[name].as_str().unwrap_or_default().to_owned();
        let expires = claims["exp"].as_i64().and_then(|at| Timestamp::from_second(at).ok()).unwrap_or(Timestamp::MAX);
        let roles = claims["roles"].as_array().filter(|_| claims["idtyp"] == "app");
        let roles = roles.map(|roles| roles.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        let (audience, scopes, user) = (text("aud"), text("scp"), text("upn"));
        let entry = Access { audience, scopes, user, roles, expires, revoked: false };
        let token = jwt::token(claims);
        self.access.write(token.clone(), entry);
        token
    }

    /// Who a token belongs to, if Exchange takes it; otherwise what is wrong with it.
    pub(in crate::simulator) fn bearer(&self, token: &str, now: Timestamp) -> Result<Bearer<'_>, String> {
        let access = self.access.entry(token).ok_or("the token was not issued here")?;
        if access.revoked {
            return Err("the token was revoked".to_owned());
        }
        if access.expires <= now {
            return Err(format!("the token expired at {}", access.expires));
        }
        if !jwt::AUDIENCES.contains(&access.audience.trim_end_matches('/')) {
            return Err(format!("the token's audience is {:?}", access.audience));
        }
        if let Some(roles) = &access.roles {
            // Without any, App RBAC has given access instead.
            return if roles.is_empty() || roles.iter().any(|role| role == "SMTP.SendAsApp") {
                Ok(Bearer::Application)
            } else {
                Err(format!("the token's roles are {roles:?}, without SMTP.SendAsApp"))
            };
        }
        if !access.scopes.split(' ').any(|scope| scope == "SMTP.Send") {
            return Err(format!("the token's scp is {:?}, without SMTP.Send", access.scopes));
        }
        Ok(Bearer::Person(&access.user))
    }

    /// Issues a refresh token.
    pub(in crate::simulator) fn issue_refresh(&mut self, mailbox: &str, now: Timestamp) -> String {
        let token = jwt::opaque("1.AX0A", 900);
        let mailbox = mailbox.to_owned();
        let refresh = Refresh {
            mailbox,
            issued: now,
            last_used: now,
            spent: false,
            revoked: false,
            predecessor: None,
            retired: false,
        };
        self.refresh.write(token.clone(), refresh);
        token
    }

    /// Notes that `token` was given for `predecessor`, for [`Options::retire_predecessors`].
    pub(super) fn follow(&mut self, predecessor: &str, token: &str) {
        if let Some(refresh) = self.refresh.entry_mut(token) {
            refresh.predecessor = Some(predecessor.to_owned());
        }
    }

    /// Uses a refresh token: whose it is, or why it is no good.
    pub(super) fn redeem_refresh(&mut self, token: &str, options: &Options, now: Timestamp) -> Result<String, Refused> {
        let refresh = self.refresh.entry_mut(token).ok_or_else(|| Refused::row("70000"))?;
        let issued = refresh.issued.to_string();
        if refresh.revoked {
            return Err(Refused::row("50173").with("issued", issued));
        }
        if refresh.spent && options.single_use_refresh_tokens || refresh.retired && options.retire_predecessors {
            return Err(Refused::row("70000"));
        }
        let idle = Duration::try_from(now.duration_since(refresh.last_used)).unwrap_or_default();
        if idle >= options.refresh_token_life {
            let days = options.refresh_token_life.as_secs() / 86_400;
            return Err(Refused::row("700082").with("issued", issued).with("idle", format!("{days}.00:00:00")));
        }
        refresh.last_used = now;
        refresh.spent = true;
        let (mailbox, predecessor) = (refresh.mailbox.clone(), refresh.predecessor.clone());
        if let Some(before) = predecessor.and_then(|before| self.refresh.entry_mut(&before)) {
            before.retired = true;
        }
        Ok(mailbox)
    }

    /// Whose refresh token, approved device code or authorization code this is.
    pub(super) fn owner(&self, token: &str) -> Option<String> {
        let device = |token| match &self.devices.entry(token)?.decision {
            Decision::Approved(mailbox) => Some(mailbox.clone()),
            Decision::Pending | Decision::Denied => None,
        };
        let refresh = self.refresh.entry(token).map(|refresh| refresh.mailbox.clone());
        refresh.or_else(|| device(token)).or_else(|| self.codes.owner(token))
    }

    /// Ends every refresh token of a mailbox, as a password reset does.
    pub(in crate::simulator) fn revoke_refresh(&mut self, mailbox: &str) {
        let own = self.refresh.entries_mut().filter(|refresh| refresh.mailbox.eq_ignore_ascii_case(mailbox));
        own.for_each(|refresh| refresh.revoked = true);
    }

    /// Ends every access token of a mailbox.
    pub(in crate::simulator) fn revoke_access(&mut self, mailbox: &str) {
        let own = self.access.entries_mut().filter(|access| access.user.eq_ignore_ascii_case(mailbox));
        own.for_each(|access| access.revoked = true);
    }

    /// Hands out a device code and the code a person types in.
    pub(super) fn issue_device(&mut self, options: &Options, offline: bool, now: Timestamp) -> (String, String) {
        let device_code = jwt::opaque("DAQABIQEAAA", 150);
        let letter = || char::from(CODE_LETTERS[rand::random_range(0..CODE_LETTERS.len())]);
        let user_code: String = std::iter::repeat_with(letter).take(9).collect();
        let expires = now.saturating_add(options.device_code_life).unwrap_or(Timestamp::MAX);
        let decision = Decision::Pending;
        let device = Device { user_code: user_code.clone(), decision, expires, last_asked: None, offline };
        self.devices.write(device_code.clone(), device);
        (device_code, user_code)
    }

    /// A client asks whether its code was typed in. `at` is the moment by the machine's steady clock.
    pub(super) fn ask_device(
        &mut self,
        device_code: &str,
        options: &Options,
        now: Timestamp,
        at: Instant,
    ) -> Result<Approved, Refused> {
        let device = self.devices.entry_mut(device_code).ok_or_else(|| Refused::row("bad_verification_code"))?;
        if device.expires <= now {
            return Err(Refused::row("expired_token"));
        }
        let last = device.last_asked.replace(at);
        match device.decision.clone() {
            Decision::Denied => Err(Refused::row("authorization_declined")),
            Decision::Approved(mailbox) => {
                let offline = device.offline;
                self.devices.strike(device_code);
                Ok(Approved { mailbox, offline })
            }
            Decision::Pending if last.is_some_and(|last| at.duration_since(last) < options.device_interval) => {
                Err(Refused::row("slow_down"))
            }
            Decision::Pending => Err(Refused::row("authorization_pending")),
        }
    }

    /// The code as it was handed out, if a person may still decide about it.
    pub(super) fn pending(&self, typed: &str, now: Timestamp) -> Option<String> {
        let wanted = normal(typed);
        let mut devices = self.devices.entries();
        let device = devices.find(|device| device.user_code == wanted)?;
        (device.decision == Decision::Pending && device.expires > now).then(|| device.user_code.clone())
    }

    /// A person agreed as `mailbox`, or (`None`) said no. False if there is no such code to decide about.
    pub(in crate::simulator) fn decide(&mut self, typed: &str, mailbox: Option<&str>, now: Timestamp) -> bool {
        let Some(user_code) = self.pending(typed, now) else { return false };
        let decision = mailbox.map_or(Decision::Denied, |mailbox| Decision::Approved(mailbox.to_owned()));
        let device = self.devices.entries_mut().find(|device| device.user_code == user_code);
        device.map(|device| device.decision = decision).is_some()
    }
}

/// As people type: lower case, dashes, blanks.
fn normal(typed: &str) -> String {
    typed.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn days(n: u64) -> Duration {
        Duration::from_secs(n * 86_400)
    }

    #[test]
    fn a_refresh_token_dies_of_lying_unused_not_of_age() {
        let (mut ledger, options) = (Ledger::new(), Options::default());
        let token = ledger.issue_refresh("lms@contoso.com", start());
        for day in [89, 178, 267] {
            ledger.redeem_refresh(&token, &options, start() + days(day)).unwrap();
        }
        let refused = ledger.redeem_refresh(&token, &options, start() + days(357)).unwrap_err();
        assert_eq!(refused.id(), "700082");
    }

    #[test]
    fn a_single_use_refresh_token_works_once() {
        let options = Options { single_use_refresh_tokens: true, ..Options::default() };
        let mut ledger = Ledger::new();
        let token = ledger.issue_refresh("lms@contoso.com", start());
        assert!(ledger.redeem_refresh(&token, &options, start()).is_ok());
        assert_eq!(ledger.redeem_refresh(&token, &options, start()).unwrap_err().id(), "70000");
        assert!(ledger.redeem_refresh(&token, &Options::default(), start()).is_ok(), "Microsoft's own work on");
    }

    #[test]
    fn a_revoked_sign_in_is_said_to_be() {
        let mut ledger = Ledger::new();
        let (one, other) = (ledger.issue_refresh("a@b", start()), ledger.issue_refresh("c@d", start()));
        ledger.revoke_refresh("A@b");
        assert_eq!(ledger.redeem_refresh(&one, &Options::default(), start()).unwrap_err().id(), "50173");
        assert!(ledger.redeem_refresh(&other, &Options::default(), start()).is_ok());
    }

    #[test]
    fn an_access_token_is_known_until_it_expires() {
        let (mut ledger, options) = (Ledger::new(), Options::default());
        let token = ledger.issue_access(&options, "lms@contoso.com", &Map::new(), start());
        assert_eq!(ledger.bearer(&token, start()), Ok(Bearer::Person("lms@contoso.com")));
        assert!(ledger.bearer(&token, start() + options.access_token_life).unwrap_err().contains("expired"));
        assert!(ledger.bearer("ey.made.up", start()).unwrap_err().contains("not issued here"));
        ledger.revoke_access("lms@contoso.com");
        assert!(ledger.bearer(&token, start()).unwrap_err().contains("revoked"));
    }

    #[test]
    fn an_applications_token_names_nobody_and_its_roles_may_be_empty() {
        for (roles, is_good) in [(&["SMTP.SendAsApp"][..], true), (&[], true), (&["Mail.Send"], false)] {
            let app_roles = roles.iter().map(|&role| role.to_owned()).collect();
            let (mut ledger, options) = (Ledger::new(), Options { app_roles, ..Options::default() });
            let token = ledger.issue_application(&options, Proof::Assertion, start());
            assert_eq!(ledger.bearer(&token, start()).ok(), is_good.then_some(Bearer::Application), "{roles:?}");
        }
    }

    #[test]
    fn a_token_for_something_else_is_no_good_for_smtp() {
        let (mut ledger, options) = (Ledger::new(), Options::default());
        for (name, value, reason) in
            [("aud", "https://graph.microsoft.com", "audience"), ("scp", "Mail.Send", "SMTP.Send")]
        {
            let over = Map::from_iter([(name.to_owned(), Value::from(value))]);
            let token = ledger.issue_access(&options, "lms@contoso.com", &over, start());
            assert!(ledger.bearer(&token, start()).unwrap_err().contains(reason));
        }
    }

    #[test]
    fn a_device_code_is_asked_after_at_leisure() {
        let (mut ledger, options) = (Ledger::new(), Options::default());
        let (device, user) = ledger.issue_device(&options, true, start());
        let at = Instant::now();
        let ask = |ledger: &mut Ledger, seconds| {
            let at = at + Duration::from_secs(seconds);
            ledger.ask_device(&device, &options, start(), at).map_err(|refused| refused.id().to_owned())
        };
        assert_eq!(ask(&mut ledger, 0), Err("authorization_pending".to_owned()));
        assert_eq!(ask(&mut ledger, 4), Err("slow_down".to_owned()));
        assert_eq!(ask(&mut ledger, 9), Err("authorization_pending".to_owned()));
        assert!(ledger.decide(&user.to_lowercase(), Some("lms@contoso.com"), start()));
        assert!(!ledger.decide(&user, None, start()), "decided once");
        assert_eq!(ask(&mut ledger, 10), Ok(Approved { mailbox: "lms@contoso.com".to_owned(), offline: true }));
        assert_eq!(ask(&mut ledger, 20), Err("bad_verification_code".to_owned()), "used up");
    }

    #[test]
    fn a_device_code_expires_and_can_be_denied() {
        let (mut ledger, options) = (Ledger::new(), Options::default());
        let (device, user) = ledger.issue_device(&options, true, start());
        assert!(ledger.decide(&user, None, start()));
        let refused = ledger.ask_device(&device, &options, start(), Instant::now()).unwrap_err();
        assert_eq!(refused.id(), "authorization_declined");
        let (device, user) = ledger.issue_device(&options, true, start());
        let late = start() + options.device_code_life;
        assert!(!ledger.decide(&user, None, late));
        assert_eq!(ledger.ask_device(&device, &options, late, Instant::now()).unwrap_err().id(), "expired_token");
    }
}
