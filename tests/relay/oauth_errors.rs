//! Every refusal that is known of Entra ID, served to a whole relay: what it holds, what it says, and that the sign-in outlives it.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use xoauth2_relay::alert::look;
use xoauth2_relay::ops::AccountStatus;
use xoauth2_relay::simulator::{Options, oauth_errors};

use crate::support::{MAILBOX, PATIENCE, Rig, mailbox, quick};

const MAIL: &str = "From: lms@contoso.com\r\nTo: you@example.com\r\nSubject: hello\r\n\r\nhello\r\n";

/// A row of `oauth_errors.txt`.
struct Expected {
    id: &'static str,
    code: Option<u32>,
    class: &'static str,
    then: &'static str,
    at_login: bool,
    words: &'static str,
}

impl Expected {
    fn passes(&self) -> bool {
        matches!(self.class, "again" | "wait")
    }

    fn command(&self) -> String {
        match self.then {
            "login" => format!("xoauth2-relay login {MAILBOX}"),
            "release" => format!("xoauth2-relay account release {MAILBOX}"),
            _ => "xoauth2-relay status".to_owned(),
        }
    }
}

fn expected() -> Vec<Expected> {
    let lines = include_str!("oauth_errors.txt").lines().filter(|line| !line.starts_with('#'));
    let rows = lines.map(|line| {
        let cells: Vec<&'static str> = line.split(" | ").collect();
        let [id, code, class, then, login, words] = cells[..] else { panic!("{line}") };
        Expected { id, code: code.parse().ok(), class, then, at_login: login == "login", words }
    });
    rows.collect()
}

/// Sentences begin with a capital.
fn says(text: &str, words: &str) -> bool {
    text.to_lowercase().contains(&words.to_lowercase())
}

async fn account(rig: &Rig) -> AccountStatus {
    rig.relay.ops().status().await.unwrap().accounts.remove(0)
}

/// Waits until the account looks like this.
async fn until(rig: &Rig, what: &str, is_so: impl Fn(&AccountStatus) -> bool) -> AccountStatus {
    let since = Instant::now();
    loop {
        let account = account(rig).await;
        if is_so(&account) {
            return account;
        }
        assert!(since.elapsed() < PATIENCE, "{what} never came true of {account:#?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Tries the stored sign-in while the endpoint refuses it in this way, and hands in a mail.
async fn meet(rig: &Rig, row: &Expected, accepted: &mut usize) {
    let id = row.id;
    rig.simulator.fault(format!("token={id}").parse().unwrap());
    let released = rig.relay.ops().account_release(&mailbox()).await.unwrap();
    assert!(released.sign_in_problem.is_some(), "{id}");
    *accepted += 1;
    if row.passes() {
        let account = until(rig, id, |account| account.trouble.is_some()).await;
        assert!(account.hold.is_none(), "{id}: {:?}", account.hold);
        // Mail goes on with the access token at hand.
        rig.submit(MAILBOX, &["you@example.com"], MAIL).await;
        rig.until_accepted(*accepted).await;
    } else {
        let hold = until(rig, id, |account| account.hold.is_some()).await.hold.unwrap();
        assert_eq!(hold.cause, row.class, "{id}");
        assert_eq!(hold.codes, Vec::from_iter(row.code), "{id}");
        assert!(says(&hold.text, row.words), "{id}: {}", hold.text);
        assert!(!hold.text.contains(['{', '\n']), "{id}: {}", hold.text);
        assert_eq!(hold.remedy, row.command(), "{id}");
        let error = hold.error.unwrap();
        let prefix = row.code.map(|code| format!("AADSTS{code}: ")).unwrap_or_default();
        assert!(error.starts_with(&prefix), "{id}: word for word: {error}");
        told(rig, row, &error).await;
        rig.submit(MAILBOX, &["you@example.com"], MAIL).await;
        rig.until_queue(id, |queue| queue.len() == 1 && queue[0].state == "held" && queue[0].tries == 0).await;
    }
}

/// What the alert says that is raised for it, at once.
async fn told(rig: &Rig, row: &Expected, error: &str) {
    let id = row.id;
    let status = rig.relay.ops().status().await.unwrap();
    let looked = look(&status, &[], true, Timestamp::now());
    let [alert] = looked.troubles.as_slice() else { panic!("{id}: {:?}", looked.troubles) };
    assert!(says(&alert.text, row.words), "{id}: {}", alert.text);
    assert_eq!((alert.todo.clone(), &alert.codes), (row.command(), &Vec::from_iter(row.code)), "{id}");
    assert_eq!((alert.error.as_deref(), alert.settles_after), (Some(error), Duration::ZERO), "{id}");
}

/// Nobody signs in: what is stored has to work once the endpoint is well again. No request is under way when this ends, so that the next
/// fault strikes the next one.
async fn recover(rig: &Rig, id: &str, accepted: usize) {
    rig.simulator.clear_faults();
    let released = rig.relay.ops().account_release(&mailbox()).await.unwrap();
    assert_eq!(released.sign_in_problem, None, "{id}: the stored sign-in is still good");
    until(rig, id, |account| account.hold.is_none() && account.trouble.is_none()).await;
    rig.until_accepted(accepted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_known_refusal_holds_or_passes_as_it_should_and_the_sign_in_outlives_it() {
    let rig = Rig::start().await;
    let mut accepted = 0;
    recover(&rig, "the start", accepted).await;
    for row in &expected() {
        meet(&rig, row, &mut accepted).await;
        recover(&rig, row.id, accepted).await;
    }
    let rig = rig.restart().await;
    rig.submit(MAILBOX, &["you@example.com"], MAIL).await;
    assert_eq!(rig.until_accepted(accepted + 1).await.len(), accepted + 1, "every mail once");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_are_in_no_table_go_by_their_error_and_are_said_to_be_unknown() {
    let rig = Rig::start().await;
    // The row's number is known to no table of the relay's; its error is what decides.
    let unknown: Vec<_> = oauth_errors().iter().filter(|row| row.id.starts_with("unknown-")).collect();
    assert_eq!(unknown.len(), 4);
    let mut accepted = 0;
    recover(&rig, "the start", accepted).await;
    for row in unknown {
        let id = row.id.as_str();
        rig.simulator.fault(format!("token={id}").parse().unwrap());
        rig.relay.ops().account_release(&mailbox()).await.unwrap();
        let account = until(&rig, id, |account| account.hold.is_some() || account.trouble.is_some()).await;
        let cause = account.hold.as_ref().map(|hold| hold.cause.as_str());
        match row.error.as_deref().unwrap() {
            "invalid_grant" => assert_eq!(cause, Some("sign_in")),
            "invalid_client" | "invalid_request" => assert_eq!(cause, Some("registration"), "{id}"),
            _ => assert_eq!(cause, None, "{id}"),
        }
        if let Some(hold) = account.hold {
            assert_eq!(hold.codes, [row.aadsts]);
            assert!(hold.text.contains(&format!("AADSTS{} is unknown to this version", row.aadsts)), "{}", hold.text);
            assert!(hold.text.contains(&row.description), "in Microsoft's own words: {}", hold.text);
        } else {
            accepted += 1;
            rig.submit(MAILBOX, &["you@example.com"], MAIL).await;
        }
        recover(&rig, id, accepted).await;
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_while_a_person_signs_in_is_said_and_leaves_the_stored_sign_in_alone() {
    let interval = Duration::from_millis(20);
    let rig = Rig::with(Options { device_interval: interval, ..quick() }, "").await;
    recover(&rig, "the start", 0).await;
    for row in expected().iter().filter(|row| row.at_login) {
        let id = row.id;
        let ops = rig.relay.ops();
        let asked = || rig.simulator.statistics().token_requests.get("device_code").copied().unwrap_or(0);
        let before = asked();
        rig.simulator.fault(format!("token={id}").parse().unwrap());
        let prompt = ops.login_begin(&mailbox()).await.unwrap();
        if row.passes() {
            let since = Instant::now();
            while asked() == before {
                assert!(since.elapsed() < PATIENCE, "{id}: nobody asks");
                tokio::time::sleep(interval).await;
            }
            // Who was told to wait does so, for minutes. The others go on asking, and the person is signed in after all.
            if row.class == "again" {
                rig.simulator.clear_faults();
                assert!(rig.simulator.approve(&prompt.user_code, MAILBOX), "{id}");
                ops.login_wait(&mailbox()).await.unwrap();
                assert_eq!(ops.account_release(&mailbox()).await.unwrap().sign_in_problem, None, "{id}");
            }
        } else {
            let error = ops.login_wait(&mailbox()).await.unwrap_err().to_string();
            // These four have a sentence of the login's own.
            let words = match id {
                "authorization_declined" | "access_denied" | "65004" => "declined in the browser",
                "expired_token" | "bad_verification_code" | "70019" => "was not used in time",
                "any-invalid_grant" => "is of no use",
                _ => row.words,
            };
            assert!(says(&error, words), "{id}: {error}");
            assert!(error.contains(&format!("xoauth2-relay login {MAILBOX}")), "{id}: {error}");
        }
        rig.simulator.clear_faults();
    }
    rig.submit(MAILBOX, &["you@example.com"], MAIL).await;
    rig.until_accepted(1).await;
    assert_eq!(rig.relay.ops().account_release(&mailbox()).await.unwrap().sign_in_problem, None);
    rig.stop().await;
}

/// The facts lie beside a checkout of the project's authors; elsewhere there is nothing to compare.
#[test]
fn the_rows_are_those_of_the_facts() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/microsoft/oauth_errors.json");
    let Ok(facts) = std::fs::read_to_string(file) else { return };
    let facts: Vec<serde_json::Value> = serde_json::from_str(&facts).unwrap();
    let rows = expected();
    let ids: BTreeSet<&str> = rows.iter().map(|row| row.id).collect();
    assert_eq!(ids, facts.iter().map(|fact| fact["id"].as_str().unwrap()).collect());
    for fact in &facts {
        let row = rows.iter().find(|row| row.id == fact["id"]).unwrap();
        assert_eq!(row.code.map(u64::from), fact["aadsts"].as_u64(), "{}", row.id);
        let class = match (fact["class"].as_str().unwrap(), row.id) {
            // A person cancels only while signing in; a refresh that is denied access is denied it by a policy.
            (_, "access_denied") | ("fix_config", _) => "registration",
            ("reauthorize", _) => "sign_in",
            ("transient", _) => "again",
            (other, _) => other,
        };
        assert_eq!(row.class, class, "{}", row.id);
        let flows = fact["flow"].as_array().unwrap();
        assert_eq!(row.at_login, flows.iter().any(|flow| flow == "device_code"), "{}", row.id);
    }
}
