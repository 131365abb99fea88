//! Which program is it, and through which mailbox does its mail leave? Pure: the configuration and the dialogue decide.

use std::net::IpAddr;
use std::sync::Arc;

use crate::config::{Account, App, Config, Tenant};
use crate::message::{Address, Lane, Permitted, SenderPolicy};

/// The app of a program at `peer` that calls itself `user` in AUTH, and need not prove it.
///
/// The networks decide: among the apps that may come from there, the one that is named, else the one with the longest network (the
/// first of several), else `default`. But whoever comes from the network of an app with rules keeps them: from there, a name leads
/// only to an app whose network is at least as long. So a copy of a program that still uses the original's user name, or a program
/// that makes one up, stays what its address says it is.
pub fn app_for<'a>(config: &'a Config, peer: IpAddr, user: Option<&str>) -> &'a Arc<App> {
    let (mut by_network, mut named) = (None, None);
    for app in &config.apps {
        let Some(nearness) = app.nearness(peer) else { continue };
        if by_network.is_none_or(|(nearest, _)| nearest < nearness) {
            by_network = Some((nearness, app));
        }
        if user.is_some_and(|user| app.is_named(user)) {
            named = Some((nearness, app));
        }
    }
    match (by_network, named) {
        (Some((nearest, by_network)), Some((nearness, _))) if by_network.binds() && nearness < nearest => by_network,
        (_, Some((_, app))) | (Some((_, app)), None) => app,
        (None, None) => &config.default_app,
    }
}

/// The app whose rules hold for a message that came from the app of this name. Mail of an app that is no longer described is the
/// default one's, so that its rules still hold; `None` for the relay's own mail, which no app has a say in.
pub fn app_named<'a>(config: &'a Config, name: &str) -> Option<&'a Arc<App>> {
    if App::is_own(name) {
        return None;
    }
    let named = config.apps.iter().find(|app| app.name.eq_ignore_ascii_case(name));
    Some(named.unwrap_or(&config.default_app))
}

/// The app as which a program at `peer` may log in under this user name, once its password has been found right.
///
/// # Errors
/// It may not, whatever the password.
pub fn app_to_log_in<'a>(config: &'a Config, peer: IpAddr, user: &str) -> Result<&'a Arc<App>, NoLogin<'a>> {
    let app = config.apps.iter().find(|app| app.is_named(user)).ok_or(NoLogin::Unknown)?;
    if app.password.is_none() {
        return Err(NoLogin::NoPassword(app));
    }
    if app.nearness(peer).is_none() {
        return Err(NoLogin::OtherNetwork(app));
    }
    Ok(app)
}

/// Why nobody can log in so. For the log: the program is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoLogin<'a> {
    /// No app has this name.
    #[error("no [[app]] has this name")]
    Unknown,
    /// The app has none to check.
    #[error("the app has no password: add one to its [[app]]")]
    NoPassword(&'a Arc<App>),
    /// The program runs where the app does not.
    #[error("the app may not send from this address: add it to allow of its [[app]]")]
    OtherNetwork(&'a Arc<App>),
}

/// The account that carries a message: the app's, else the AUTH user name that is a mailbox, else MAIL FROM or From that is one, else
/// one of them that an account may send as, else the first account. `None` only if there is no account at all.
pub fn account_for<'a>(
    config: &'a Config,
    app: &App,
    user: Option<&str>,
    mail_from: Option<&Address>,
    from_header: Option<&Address>,
) -> Option<&'a Arc<Account>> {
    if let Some(account) = app.accounts.first().or(app.account.as_ref()).and_then(|mailbox| config.account(mailbox)) {
        return Some(account);
    }
    let senders = || mail_from.into_iter().chain(from_header);
    let user = user.and_then(|user| Address::parse(user).ok());
    user.and_then(|user| config.account(&user))
        .or_else(|| senders().find_map(|sender| config.account(sender)))
        .or_else(|| senders().find_map(|sender| config.accounts.iter().find(|a| a.send_as.contains(sender))))
        .or_else(|| config.accounts.first())
}

/// The accounts that may carry mail of this app which waits in this queue: those of its `accounts` if the queue's is one of them, else the
/// queue's alone. Where the queue's account is no longer configured, the app's `accounts` take its mail over; an app without them has named
/// nobody else, so its mail waits.
pub fn carriers<'a>(config: &'a Config, app: &str, queue: &Address) -> Vec<&'a Arc<Account>> {
    let own = config.account(queue);
    let mut apps = config.apps.iter().chain([&config.default_app]);
    let list = apps.find(|known| known.name == app).map_or(&[][..], |app| &app.accounts);
    if !list.is_empty() && (own.is_none() || list.contains(queue)) {
        return list.iter().filter_map(|mailbox| config.account(mailbox)).collect();
    }
    own.into_iter().collect()
}

/// The account that carries urgent mail of this app and queue while the accounts that should are held. Of an app with `sender = "refuse"`
/// only one that may send as everything the queue's account may: what was taken at the door would be held otherwise.
pub fn fallback<'a>(config: &'a Config, app: &str, queue: &Address) -> Option<&'a Arc<Account>> {
    let own = config.account(queue)?;
    let fallback = own.fallback.as_ref().and_then(|mailbox| config.account(mailbox))?;
    let is_strict = app_named(config, app).is_some_and(|app| app.sender == SenderPolicy::Refuse);
    let permitted = Permitted { mailbox: &fallback.mailbox, send_as: &fallback.send_as };
    let may_all = || own.send_as.iter().chain([&own.mailbox]).all(|sender| permitted.allows(sender));
    (!is_strict || may_all()).then_some(fallback)
}

/// Whether a tenant's budget counts a message of this app to these recipients, which waits in this queue: some account that may come to carry it
/// belongs to a tenant with a budget, and somebody of them is outside that organisation.
pub fn is_outside<'a>(
    config: &Config,
    app: &str,
    queue: &Address,
    mut recipients: impl Iterator<Item = &'a Address>,
) -> bool {
    if config.tenants.is_empty() {
        return false;
    }
    let carriers = carriers(config, app, queue).into_iter().chain(fallback(config, app, queue));
    let tenants: Vec<&Tenant> = carriers.filter_map(|carrier| config.tenant(&carrier.tenant)).collect();
    let is_outside = |recipient: &Address| tenants.iter().any(|tenant| tenant.is_outside(recipient));
    match diverted(config, app) {
        Some(address) => recipients.next().is_some() && is_outside(address),
        None => recipients.any(is_outside),
    }
}

fn diverted<'a>(config: &'a Config, app: &str) -> Option<&'a Address> {
    app_named(config, app)?.divert_to.as_ref()
}

/// How many of these recipients a budget of the carrier's tenant counts. What is diverted goes to one, whoever they are.
pub fn outside<'a>(
    config: &Config,
    app: &str,
    carrier: &Account,
    recipients: impl Iterator<Item = &'a Address>,
) -> usize {
    let Some(tenant) = config.tenant(&carrier.tenant) else { return 0 };
    match diverted(config, app) {
        Some(address) => recipients.take(1).filter(|_| tenant.is_outside(address)).count(),
        None => recipients.filter(|recipient| tenant.is_outside(recipient)).count(),
    }
}

/// Whether this account may carry mail of this app and lane which waits in this queue, as far as the configuration goes.
pub fn may_carry(config: &Config, app: &str, lane: Lane, queue: &Address, carrier: &Address) -> bool {
    let is_carrier = |account: &Arc<Account>| account.mailbox == *carrier;
    carriers(config, app, queue).into_iter().any(is_carrier)
        || lane == Lane::Urgent && fallback(config, app, queue).is_some_and(is_carrier)
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::config::{Listener, testing};

    /// A configuration with these accounts, each a mailbox and what it may send as.
    pub(crate) fn config(accounts: &[(&str, &[&str])]) -> Config {
        let accounts = accounts.iter().map(|(mailbox, send_as)| {
            let send_as = send_as.iter().map(|address| Address::parse(address).unwrap()).collect();
            Account { send_as, ..testing::account(mailbox, mailbox) }
        });
        testing::config(accounts.collect())
    }

    /// A configuration with one account and this text in front of it.
    pub(crate) fn config_with(text: &str) -> Config {
        testing::config_with(text)
    }

    /// A listener that takes mail from this machine, with small limits.
    pub(crate) fn listener() -> Listener {
        Listener {
            max_message_size: 1_000_000,
            max_recipients: 3,
            max_connections: 50,
            max_connections_per_address: 20,
            ..testing::listener()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_dialogue_picks_the_account() {
        let config = testing::config(&[
            ("first@contoso.com", &[]),
            ("lms@contoso.com", &["noreply@contoso.com"]),
            ("erp@contoso.com", &["noreply@contoso.com", "invoices@contoso.com"]),
        ]);
        let address = |text: &str| (!text.is_empty()).then(|| Address::parse(text).unwrap());
        for (user, mail_from, from, account) in [
            ("", "", "", "first@contoso.com"),
            ("moodle", "x@y.example", "", "first@contoso.com"),
            ("LMS@contoso.com", "erp@contoso.com", "erp@contoso.com", "lms@contoso.com"),
            ("", "erp@contoso.com", "lms@contoso.com", "erp@contoso.com"),
            ("", "x@y.example", "lms@contoso.com", "lms@contoso.com"),
            ("", "invoices@contoso.com", "", "erp@contoso.com"),
            ("", "invoices@contoso.com", "lms@contoso.com", "lms@contoso.com"),
            ("", "x@y.example", "NoReply@contoso.com", "lms@contoso.com"),
        ] {
            let user = (!user.is_empty()).then_some(user);
            let found =
                account_for(&config, &config.default_app, user, address(mail_from).as_ref(), address(from).as_ref());
            assert_eq!(found.map(|a| a.mailbox.as_str()), Some(account), "{user:?} {mail_from} {from}");
        }
        let empty = testing::config(&[]);
        assert_eq!(account_for(&empty, &empty.default_app, None, None, None), None);
    }

    #[test]
    fn the_account_of_an_app_comes_before_what_the_dialogue_says() {
        let config = testing::config(&[("first@contoso.com", &[]), ("lms@contoso.com", &[])]);
        let lms = Address::parse("lms@contoso.com").unwrap();
        let first = Address::parse("first@contoso.com").unwrap();
        let app = App { account: Some(lms.clone()), ..App::clone(&config.default_app) };
        let found = account_for(&config, &app, Some("first@contoso.com"), Some(&first), Some(&first));
        assert_eq!(found.map(|account| &account.mailbox), Some(&lms));
    }

    #[test]
    fn who_may_carry_what_waits_where() {
        let accounts = ["a@contoso.com", "b@contoso.com", "c@contoso.com"].map(|mailbox| (mailbox, &[][..]));
        let mut config = testing::config(&accounts);
        let address = |text: &str| Address::parse(text).unwrap();
        let accounts = vec![address("b@contoso.com"), address("A@contoso.com")];
        config.apps = vec![Arc::new(App { name: "moodle".to_owned(), accounts, ..App::default() })];
        let first = account_for(&config, &config.apps[0], Some("c@contoso.com"), None, None).unwrap();
        assert_eq!(first.mailbox.as_str(), "b@contoso.com", "the first of the list, whatever the dialogue says");
        for (app, queue, expected) in [
            ("moodle", "b@contoso.com", "b@contoso.com a@contoso.com"),
            ("moodle", "a@contoso.com", "b@contoso.com a@contoso.com"),
            ("moodle", "c@contoso.com", "c@contoso.com"),
            ("moodle", "gone@contoso.com", "b@contoso.com a@contoso.com"),
            ("erp", "b@contoso.com", "b@contoso.com"),
            ("erp", "gone@contoso.com", ""),
        ] {
            let found: Vec<_> = carriers(&config, app, &address(queue)).iter().map(|a| a.mailbox.as_str()).collect();
            assert_eq!(found.join(" "), expected, "{app} in {queue}");
        }
        let mut with_fallback = Account::clone(&config.accounts[2]);
        with_fallback.fallback = Some(address("a@contoso.com"));
        config.accounts[2] = Arc::new(with_fallback);
        let may_carry = |lane, carrier| may_carry(&config, "erp", lane, &address("c@contoso.com"), &address(carrier));
        assert!(may_carry(Lane::Bulk, "c@contoso.com") && may_carry(Lane::Urgent, "a@contoso.com"));
        assert!(!may_carry(Lane::Normal, "a@contoso.com") && !may_carry(Lane::Urgent, "b@contoso.com"));

        let strict = |name: &str| App { name: name.to_owned(), sender: SenderPolicy::Refuse, ..App::default() };
        config.apps.push(Arc::new(strict("strict")));
        let of_strict = |config: &Config| fallback(config, "strict", &address("c@contoso.com")).is_some();
        assert!(!of_strict(&config), "it may not send as the mailbox that it stands in for");
        let may = Account { send_as: vec![address("c@contoso.com")], ..Account::clone(&config.accounts[0]) };
        config.accounts[0] = Arc::new(may);
        assert!(of_strict(&config));
    }

    #[test]
    fn a_budget_counts_who_is_outside_the_organisation_of_whoever_may_carry_the_mail() {
        let mut config = crate::config::testing::of_tenant("contoso.onmicrosoft.com", &["lms@contoso.com"], 5_000);
        let address = |text: &str| Address::parse(text).unwrap();
        for mailbox in ["other@fabrikam.com", "backup@contoso.com"] {
            let fallback = Some(address("lms@contoso.com")).filter(|_| mailbox.starts_with("backup"));
            let account = Account { fallback, ..crate::config::testing::account(mailbox, mailbox) };
            config.accounts.push(Arc::new(account));
        }
        let accounts = vec![address("other@fabrikam.com"), address("lms@contoso.com")];
        let diverted = |name: &str, to| Arc::new(App { name: name.to_owned(), divert_to: to, ..App::default() });
        config.apps = vec![
            Arc::new(App { name: "moodle".to_owned(), accounts, ..App::default() }),
            diverted("staging", Some(address("dev@contoso.com"))),
            diverted("away", Some(address("dev@example.com"))),
        ];
        for (app, queue, recipients, is_counted) in [
            ("default", "lms@contoso.com", &["a@contoso.com", "b@example.com"][..], true),
            ("default", "lms@contoso.com", &["a@contoso.com", "a@contoso.onmicrosoft.com"], false),
            ("default", "other@fabrikam.com", &["b@example.com"], false),
            ("moodle", "other@fabrikam.com", &["b@example.com"], true),
            ("default", "backup@contoso.com", &["b@example.com"], true),
            ("staging", "lms@contoso.com", &["b@example.com"], false),
            ("away", "lms@contoso.com", &["a@contoso.com", "b@contoso.com"], true),
            ("default", "gone@contoso.com", &["b@example.com"], false),
        ] {
            let recipients: Vec<Address> = recipients.iter().map(|text| address(text)).collect();
            let found = is_outside(&config, app, &address(queue), recipients.iter());
            assert_eq!(found, is_counted, "{app} {queue} {recipients:?}");
        }
        let both = [address("a@contoso.com"), address("b@contoso.com")];
        assert_eq!(outside(&config, "away", &config.accounts[0], both.iter()), 1, "one mail to one person");
        assert_eq!(outside(&config, "away", &config.accounts[0], [].iter()), 0);
        config.tenants.clear();
        assert!(!is_outside(&config, "away", &address("lms@contoso.com"), both.iter()));
    }

    fn name<'a>(config: &'a Config, peer: &str, user: &str) -> &'a str {
        &app_for(config, peer.parse().unwrap(), (!user.is_empty()).then_some(user)).name
    }

    #[test]
    fn without_app_tables_every_program_is_the_default_one() {
        assert_eq!(name(&testing::config(&[]), "10.0.0.1", "moodle"), "default");
    }

    #[test]
    fn the_networks_decide_and_the_name_picks_among_those_that_match() {
        let config = testing::config_with(
            "[[app]]\nname = 'moodle'\nallow = ['10.1.2.3', 'fd00::/8']\n\
             [[app]]\nname = 'mahara'\nallow = ['10.1.2.3']\n\
             [[app]]\nname = 'printers'\nallow = ['10.0.0.0/8']\n\
             [[app]]\nname = 'erp'\nallow = ['192.168.1.1']\n\
             [[app]]\nname = 'default'\naccount = 'lms@contoso.com'\n",
        );
        for (peer, user, app) in [
            ("10.1.2.3", "", "moodle"),
            ("10.1.2.3", "anyone", "moodle"),
            ("10.1.2.3", "Mahara", "mahara"),
            ("10.1.2.3", "mahara@contoso.com", "mahara"),
            ("10.1.2.3", "printers", "printers"),
            ("10.1.2.3", "erp", "moodle"),
            ("10.1.2.3", "default", "moodle"),
            ("10.9.9.9", "", "printers"),
            ("10.9.9.9", "moodle", "printers"),
            ("fd00::1", "", "moodle"),
            ("192.168.1.1", "", "erp"),
            ("192.168.1.2", "erp", "default"),
            ("::1", "", "default"),
        ] {
            assert_eq!(name(&config, peer, user), app, "{peer} {user}");
        }
        assert!(config.default_app.account.is_some());
    }

    #[test]
    fn a_name_does_not_lead_away_from_rules() {
        let config = testing::config_with(
            "[[app]]\nname = 'moodle'\n\
             [[app]]\nname = 'staging'\nallow = ['10.1.2.4']\nsenders = ['*@staging.contoso.com']\n\
             [[app]]\nname = 'backup'\nallow = ['10.1.2.4']\n\
             [[app]]\nname = 'all'\nallow = ['10.0.0.0/8']\n",
        );
        for (peer, user, app) in [
            ("10.1.2.5", "moodle", "moodle"),
            ("10.1.2.4", "", "staging"),
            // A clone of production keeps its user name, and nothing else of it.
            ("10.1.2.4", "moodle", "staging"),
            ("10.1.2.4", "moodle@contoso.com", "staging"),
            ("10.1.2.4", "all", "staging"),
            // Its network is just as long: the administrator wants both there.
            ("10.1.2.4", "backup", "backup"),
            ("127.0.0.1", "", "moodle"),
        ] {
            assert_eq!(name(&config, peer, user), app, "{peer} {user}");
        }
    }

    #[test]
    fn whom_a_login_is_refused_to_whatever_its_password() {
        let config = testing::config_with(
            "[[app]]\nname = 'moodle'\nallow = ['10.1.2.3']\npassword = 'long enough to be good'\n[[app]]\nname = 'erp'\n",
        );
        let login = |peer: &str, user| match app_to_log_in(&config, peer.parse().unwrap(), user) {
            Ok(app) => format!("in as {}", app.name),
            Err(NoLogin::Unknown) => "unknown".to_owned(),
            Err(NoLogin::NoPassword(app)) => format!("{} has no password", app.name),
            Err(NoLogin::OtherNetwork(app)) => format!("{} is elsewhere", app.name),
        };
        for (peer, user, said) in [
            ("10.1.2.3", "moodle", "in as moodle"),
            ("10.1.2.3", "MOODLE@x", "in as moodle"),
            ("10.1.2.4", "moodle", "moodle is elsewhere"),
            ("10.1.2.3", "erp", "erp has no password"),
            ("10.1.2.3", "default", "unknown"),
            ("10.1.2.3", "", "unknown"),
        ] {
            assert_eq!(login(peer, user), said, "{peer} {user}");
        }
    }

    /// Apps by their networks (prefix lengths of 10.0.0.0) and whether they have rules.
    fn any_config() -> impl Strategy<Value = Config> {
        let app = (proptest::collection::vec(8u8..=32, 0..3), any::<bool>());
        proptest::collection::vec(app, 0..5).prop_map(|apps| {
            let apps = apps.into_iter().enumerate().map(|(n, (lengths, binds))| {
                let allow = lengths.iter().map(|length| format!("10.0.0.0/{length}").parse().unwrap()).collect();
                let senders = if binds { testing::config_with(RULES).default_app.senders.clone() } else { Vec::new() };
                Arc::new(App { name: format!("app{n}"), allow, senders, ..App::default() })
            });
            let apps = apps.collect();
            Config { apps, ..testing::config(&[]) }
        })
    }

    const RULES: &str = "[[app]]\nname = 'default'\nsenders = ['*@contoso.com']\n";

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn an_app_is_only_reached_from_its_networks_and_never_by_leaving_rules(
            config in any_config(), bits in 0u32..24, n in 0usize..6
        ) {
            let peer = IpAddr::from((0x0a00_0000_u32 | (1 << bits) >> 1).to_be_bytes());
            let by_network = app_for(&config, peer, None);
            let named = app_for(&config, peer, Some(&format!("APP{n}@anything")));
            for app in [by_network, named] {
                prop_assert!(app.nearness(peer).is_some());
            }
            for other in config.apps.iter().filter(|app| app.nearness(peer).is_some()) {
                prop_assert!(other.nearness(peer) <= by_network.nearness(peer), "no app that matches is nearer");
            }
            prop_assert!(named == by_network || named.is_named(&format!("app{n}")), "a name leads to itself or nowhere");
            if by_network.binds() {
                prop_assert!(named.nearness(peer) >= by_network.nearness(peer));
            }
        }
    }
}
