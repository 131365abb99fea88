//! What an access token says that does not fit its account, named before Exchange answers a bare `535 5.7.3`. Values only.
//!
//! A token is never trusted, and a finding never stops a token from being used: only Exchange decides. What is found is logged once,
//! shown with a hold whose reply says nothing, and refuses a *new* sign-in where it is certain that mail could not leave with it.

use super::claims::Claims;
use super::errors::Advice;
use crate::config::{Account, Grant, Provider, is_guid};

/// Exchange Online by its addresses - the public cloud's, those of the US government, 21Vianet's - and by its application id, which is
/// the same everywhere.
const EXCHANGE: [&str; 7] = [
    "outlook.office.com",
    "outlook.office365.com",
    "00000002-0000-0ff1-ce00-000000000000",
    "outlook.office365.us",
    "outlook-dod.office365.us",
    "webmail.apps.mil",
    "partner.outlook.cn",
];
/// Microsoft Graph likewise, and its predecessor: the usual mistake.
const GRAPH: [&str; 7] = [
    "graph.microsoft.com",
    "00000003-0000-0000-c000-000000000000",
    "graph.microsoft.us",
    "dod-graph.microsoft.us",
    "microsoftgraph.chinacloudapi.cn",
    "graph.windows.net",
    "00000002-0000-0000-c000-000000000000",
];
/// The tenant of all personal accounts (<https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference>).
const PERSONAL: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

/// Something in a token that does not fit its account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub flaw: Flaw,
    /// What is wrong, and what the administrator does about it.
    pub advice: Advice,
}

/// What does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flaw {
    /// The token is for another service.
    Audience,
    /// It does not allow to send.
    Permission,
    /// Another person signed in.
    Person,
    /// Another tenant gave it.
    Tenant,
    /// It was given to another application.
    Client,
}

impl Flaw {
    /// Whether Exchange refuses such a token for certain, as far as anything is certain.
    pub fn prevents_sending(self) -> bool {
        // A broker may well stand in for the application that is configured.
        self != Self::Client
    }

    /// Its name, for what programs read.
    pub fn name(self) -> &'static str {
        match self {
            Self::Audience => "audience",
            Self::Permission => "permission",
            Self::Person => "person",
            Self::Tenant => "tenant",
            Self::Client => "client",
        }
    }
}

/// Who acts with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Actor {
    Person,
    Application,
}

/// Whatever does not fit, the most certain first. What a token does not say is not missed, but for the permission.
pub fn inspect(claims: &Claims, account: &Account) -> Vec<Finding> {
    let actor = if matches!(account.grant, Grant::Delegated) { Actor::Person } else { Actor::Application };
    inspect_for(actor, claims, account)
}

fn inspect_for(actor: Actor, claims: &Claims, account: &Account) -> Vec<Finding> {
    let person = person(actor, claims, account);
    if account.provider != Provider::Microsoft {
        // Other providers say it in other ways; only a name can be compared.
        return person.into_iter().collect();
    }
    let found = [
        audience(claims, account),
        permission(actor, claims, account),
        person,
        tenant(claims, account),
        client(claims, account),
    ];
    found.into_iter().flatten().collect()
}

fn finding(flaw: Flaw, sentence: String, command: String) -> Finding {
    Finding { flaw, advice: Advice { sentence, command } }
}

/// What is typed once the cause is mended: a new sign-in brings another token, an application gets one by itself.
fn again(actor: Actor, account: &Account) -> String {
    match actor {
        Actor::Person => format!("xoauth2-relay login {}", account.mailbox),
        Actor::Application => format!("xoauth2-relay account release {}", account.mailbox),
    }
}

fn audience(claims: &Claims, account: &Account) -> Option<Finding> {
    let named = claims.aud.as_deref()?;
    let hosts: Vec<String> = named.split_whitespace().map(host).collect();
    // Whoever sets scopes knows best for which service they are.
    let asked: Vec<String> =
        account.endpoints.scopes.iter().filter(|scope| scope.contains("://")).map(|s| host(s)).collect();
    let is_graph = |host: &String| GRAPH.contains(&host.as_str());
    if hosts.iter().any(|host| EXCHANGE.contains(&host.as_str()) || (asked.contains(host) && !is_graph(host))) {
        return None;
    }
    let service = if hosts.iter().any(is_graph) {
        "Microsoft Graph".to_owned()
    } else {
        format!("another service ({})", shortened(named))
    };
    let sentence = format!(
        "The access token is for {service}, and Exchange takes only its own: remove scopes from the configuration, or let them begin \
         with https://outlook.office.com/"
    );
    Some(finding(Flaw::Audience, sentence, format!("xoauth2-relay login {}", account.mailbox)))
}

/// `https://Outlook.office.com/SMTP.Send` → `outlook.office.com`; what is no address stays as it is.
fn host(text: &str) -> String {
    let behind = text.split_once("://").map_or(text, |(_, behind)| behind);
    behind.split('/').next().unwrap_or_default().to_ascii_lowercase()
}

fn permission(actor: Actor, claims: &Claims, account: &Account) -> Option<Finding> {
    let has = |list: &str, wanted: &str| list.split_whitespace().any(|one| one.eq_ignore_ascii_case(wanted));
    let api = format!("Entra admin center > App registrations > {} > API permissions", account.client_id);
    let sentence = match (actor, claims.scp.as_deref(), claims.roles.as_deref()) {
        (Actor::Person, Some(scp), _) if has(scp, "SMTP.Send") => return None,
        // A token that says nothing of itself is no token of Exchange's in the form we know.
        (Actor::Person, None, None) if claims.aud.is_none() => return None,
        (Actor::Person, None, _) if claims.idtyp.as_deref() == Some("app") => format!(
            "The access token is an application's, and {} needs a person's sign-in: sign in, or set grant = \"application\"",
            account.login
        ),
        (Actor::Person, scp, _) => {
            let only = scp.map(|scp| format!(" (only {})", shortened(scp))).unwrap_or_default();
            format!(
                "The access token does not allow to send mail: it lacks SMTP.Send{only}: add \"Office 365 Exchange Online\" > SMTP.Send \
                 in {api}"
            )
        }
        (Actor::Application, _, Some(roles)) if has(roles, "SMTP.SendAsApp") => return None,
        // No roles at all is what App RBAC looks like: Exchange itself knows what the application may do.
        (Actor::Application, _, None) => return None,
        (Actor::Application, _, Some(roles)) => format!(
            "The access token does not allow to send mail: it lacks SMTP.SendAsApp (only {}): add \"Office 365 Exchange Online\" > \
             SMTP.SendAsApp in {api} and grant admin consent there",
            shortened(roles)
        ),
    };
    Some(finding(Flaw::Permission, sentence, again(actor, account)))
}

fn shortened(list: &str) -> String {
    let kept: String = list.chars().take(100).collect();
    if kept.len() < list.len() { format!("{kept}…") } else { kept }
}

fn person(actor: Actor, claims: &Claims, account: &Account) -> Option<Finding> {
    let person = claims.person().filter(|_| actor == Actor::Person)?;
    if person.eq_ignore_ascii_case(account.login.as_str()) {
        return None;
    }
    let sentence = format!(
        "{person} signed in, but this account needs {}: sign in as the right person in a private browser window, or set login = \
         \"{person}\" in the configuration if that person may send for the mailbox",
        account.login
    );
    Some(finding(Flaw::Person, sentence, again(actor, account)))
}

/// Only a tenant that is configured by its id can be compared.
fn tenant(claims: &Claims, account: &Account) -> Option<Finding> {
    let tid = claims.tid.as_deref()?;
    let wanted = Some(account.tenant.as_str()).filter(|tenant| is_guid(tenant))?;
    if tid.eq_ignore_ascii_case(wanted) {
        return None;
    }
    let which =
        if tid.eq_ignore_ascii_case(PERSONAL) { "is a personal account's" } else { "comes from another tenant" };
    let sentence = format!(
        "The access token {which} ({tid}), and the configuration names {wanted}: correct tenant (Entra admin center > Overview), or \
         sign in with an account of that tenant"
    );
    Some(finding(Flaw::Tenant, sentence, format!("xoauth2-relay login {}", account.mailbox)))
}

fn client(claims: &Claims, account: &Account) -> Option<Finding> {
    let appid = claims.appid.as_deref().filter(|appid| is_guid(appid) && is_guid(&account.client_id))?;
    if appid.eq_ignore_ascii_case(&account.client_id) {
        return None;
    }
    let sentence = format!(
        "The access token was given to the application {appid}, and the configuration names {}: correct client_id, or sign in again",
        account.client_id
    );
    Some(finding(Flaw::Client, sentence, format!("xoauth2-relay login {}", account.mailbox)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::signin::scripted::account;

    const CLIENT: &str = "11111111-1111-1111-1111-111111111111";
    const TENANT: &str = "22222222-2222-2222-2222-222222222222";

    fn relay() -> Account {
        let mut account = account("lms@contoso.com", "https://login.microsoftonline.com/x/oauth2/v2.0/token", None);
        account.client_id = CLIENT.to_owned();
        account.tenant = TENANT.to_owned();
        account
    }

    /// A token of the right person, for Exchange, that may send.
    fn right() -> Claims {
        Claims {
            upn: Some("LMS@contoso.com".to_owned()),
            aud: Some("https://outlook.office.com".to_owned()),
            scp: Some("IMAP.AccessAsUser.All smtp.send".to_owned()),
            tid: Some(TENANT.to_owned()),
            appid: Some(CLIENT.to_owned()),
            oid: Some("33333333-3333-3333-3333-333333333333".to_owned()),
            idtyp: Some("user".to_owned()),
            ..Claims::default()
        }
    }

    fn flaws(claims: &Claims) -> Vec<Flaw> {
        inspect(claims, &relay()).iter().map(|finding| finding.flaw).collect()
    }

    #[test]
    fn nothing_is_found_in_a_right_token_or_in_one_that_says_nothing() {
        assert_eq!(flaws(&right()), []);
        assert_eq!(flaws(&Claims::default()), []);
        assert_eq!(flaws(&Claims { upn: Some("lms@contoso.com".to_owned()), ..Claims::default() }), []);
    }

    #[test]
    fn exchange_is_right_in_every_cloud_and_nothing_else_is() {
        for aud in [
            "https://outlook.office365.com",
            "https://outlook.office365.com/",
            "HTTPS://Outlook.Office.com/",
            "00000002-0000-0ff1-ce00-000000000000",
            "https://outlook.office365.us",
            "https://outlook-dod.office365.us",
            "https://webmail.apps.mil/",
            "https://partner.outlook.cn",
            "https://graph.microsoft.com https://outlook.office.com",
        ] {
            assert_eq!(flaws(&Claims { aud: Some(aud.to_owned()), ..right() }), [], "{aud}");
        }
        for (aud, said) in [
            ("https://graph.microsoft.com", "Microsoft Graph"),
            ("00000003-0000-0000-c000-000000000000", "Microsoft Graph"),
            ("https://graph.microsoft.us/", "Microsoft Graph"),
            ("https://microsoftgraph.chinacloudapi.cn", "Microsoft Graph"),
            ("https://management.azure.com", "https://management.azure.com"),
            (CLIENT, CLIENT),
        ] {
            let found = inspect(&Claims { aud: Some(aud.to_owned()), ..right() }, &relay()).remove(0);
            assert_eq!(found.flaw, Flaw::Audience);
            assert!(found.advice.sentence.contains(said), "{}", found.advice);
            assert_eq!(found.advice.command, "xoauth2-relay login lms@contoso.com");
        }
    }

    #[test]
    fn who_sets_scopes_knows_the_service_but_never_graph() {
        let mut account = relay();
        account.endpoints.scopes = vec!["https://mail.future.example/SMTP.Send".to_owned()];
        let claims = |aud: &str| Claims { aud: Some(aud.to_owned()), ..right() };
        assert_eq!(inspect(&claims("https://mail.future.example"), &account), []);
        account.endpoints.scopes = vec!["https://graph.microsoft.com/SMTP.Send".to_owned()];
        assert_eq!(inspect(&claims("https://graph.microsoft.com"), &account)[0].flaw, Flaw::Audience);
    }

    #[test]
    fn a_missing_permission_is_named_and_an_empty_roles_claim_is_legitimate() {
        let read = inspect(&Claims { scp: Some("IMAP.AccessAsUser.All".to_owned()), ..right() }, &relay()).remove(0);
        assert_eq!(read.flaw, Flaw::Permission);
        assert!(read.advice.sentence.contains("lacks SMTP.Send (only IMAP.AccessAsUser.All)"), "{}", read.advice);
        assert!(read.advice.sentence.contains(CLIENT), "{}", read.advice);
        assert_eq!(flaws(&Claims { scp: None, ..right() }), [Flaw::Permission]);
        assert_eq!(flaws(&Claims { scp: Some("SMTP.Sendings".to_owned()), ..right() }), [Flaw::Permission]);
        let app = Claims { scp: None, upn: None, idtyp: Some("app".to_owned()), ..right() };
        assert!(inspect(&app, &relay())[0].advice.sentence.contains("an application's"));

        let of_app = |roles: Option<&str>| {
            let claims = Claims { roles: roles.map(str::to_owned), ..app.clone() };
            inspect_for(Actor::Application, &claims, &relay())
        };
        assert_eq!(of_app(Some("Mail.Send SMTP.SendAsApp")), []);
        assert_eq!(of_app(None), [], "App RBAC");
        let lacking = of_app(Some("IMAP.AccessAsApp")).remove(0);
        assert!(lacking.advice.sentence.contains("lacks SMTP.SendAsApp"), "{}", lacking.advice);
        assert_eq!(lacking.advice.command, "xoauth2-relay account release lms@contoso.com", "nobody signs in");
    }

    #[test]
    fn another_person_tenant_or_application_is_named() {
        let other = Claims { upn: Some("admin@contoso.com".to_owned()), ..right() };
        assert!(inspect(&other, &relay())[0].advice.sentence.starts_with("admin@contoso.com signed in, but"));
        let second = Claims { upn: None, preferred_username: Some("admin@contoso.com".to_owned()), ..right() };
        assert_eq!(flaws(&second), [Flaw::Person]);
        assert_eq!(inspect_for(Actor::Application, &other, &relay()), []);
        assert_eq!(flaws(&Claims { tid: Some(CLIENT.to_owned()), ..right() }), [Flaw::Tenant]);
        let personal = inspect(&Claims { tid: Some(PERSONAL.to_owned()), ..right() }, &relay()).remove(0);
        assert!(personal.advice.sentence.contains("a personal account's"), "{}", personal.advice);
        assert_eq!(flaws(&Claims { appid: Some(TENANT.to_owned()), ..right() }), [Flaw::Client]);
        assert!(Flaw::Tenant.prevents_sending() && !Flaw::Client.prevents_sending());

        let mut by_name = relay();
        by_name.tenant = "contoso.onmicrosoft.com".to_owned();
        assert_eq!(
            inspect(&Claims { tid: Some(CLIENT.to_owned()), ..right() }, &by_name),
            [],
            "a name cannot be compared"
        );
        let mut shared = relay();
        shared.login = crate::message::Address::parse("admin@contoso.com").unwrap();
        assert_eq!(inspect(&other, &shared), [], "login says who signs in");
    }

    #[test]
    fn of_other_providers_only_the_name_is_compared() {
        let mut custom = relay();
        custom.provider = Provider::Custom;
        let claims = Claims { aud: Some("anything".to_owned()), scp: None, tid: Some(CLIENT.to_owned()), ..right() };
        assert_eq!(inspect(&claims, &custom), []);
        let named = Claims { preferred_username: Some("someone".to_owned()), ..Claims::default() };
        assert_eq!(inspect(&named, &custom)[0].flaw, Flaw::Person);
    }

    proptest! {
        #[test]
        fn no_token_makes_it_panic(aud in ".{0,80}", scp in ".{0,200}", tid in ".{0,40}", upn in ".{0,40}") {
            let claims = Claims { aud: Some(aud), scp: Some(scp.clone()), roles: Some(scp), tid: Some(tid), upn: Some(upn), ..right() };
            inspect(&claims, &relay());
            inspect_for(Actor::Application, &claims, &relay());
        }
    }
}
