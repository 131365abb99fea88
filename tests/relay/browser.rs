//! People who sign in with a real Chromium on the simulator's pages, in front of the program itself.

use xoauth2_relay::clock::Clock;
use xoauth2_relay::simulator::{Mailbox, Options};

use crate::chromium::Chromium;
use crate::person::{Login, Site};
use crate::support::{Client, MAILBOX, PATIENCE, blocking, mailbox, quick, until_held};

const SOMEBODY: &str = "somebody@contoso.com";
/// What the program says when all is well.
const SIGNED_IN: &str = "lms@contoso.com is signed in as lms@contoso.com";
const MAIL: &str = "From: lms@contoso.com\r\nSubject: hello\r\n\r\nhello\r\n";

fn two_people() -> Options {
    Options {
        device_interval: std::time::Duration::from_millis(100),
        mailboxes: vec![Mailbox::new(MAILBOX), Mailbox::new(SOMEBODY)],
        ..quick()
    }
}

/// `login --browser`, up to the page that asks who it is.
async fn asked_who(chromium: &mut Chromium, site: &Site) -> Login {
    let mut login = site.login(&[MAILBOX, "--browser"]);
    chromium.open(&login.address().await);
    chromium.until("Pick an account");
    login
}

/// Says who it is, and what they think of the permissions.
fn decide(chromium: &mut Chromium, person: &str, button: &str) {
    chromium.click(person);
    chromium.until("Permissions requested");
    chromium.click(button);
}

#[tokio::test(flavor = "multi_thread")]
async fn by_device_code_without_a_mouse() {
    let Some(mut chromium) = Chromium::start() else { return };
    let site = Site::with(two_people()).await;
    let mut login = site.login(&[MAILBOX]);
    let (page, code) = login.code().await;
    chromium.open(&page);
    chromium.look("device-code");
    chromium.type_in("WRONG");
    chromium.press("Enter");
    chromium.until("That code didn't work");
    chromium.look("device-code-wrong");
    chromium.type_in(&code.to_lowercase());
    chromium.press("Enter");
    chromium.until(&code);
    chromium.look("device-account");
    chromium.tab_to("Continue");
    chromium.press("Enter");
    chromium.until("You have signed in");
    chromium.look("device-done");
    login.succeeds(SIGNED_IN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_code_is_declined() {
    let Some(mut chromium) = Chromium::start() else { return };
    let site = Site::with(two_people()).await;
    let mut login = site.login(&[MAILBOX]);
    let (page, code) = login.code().await;
    chromium.open(&page);
    chromium.type_in(&code);
    chromium.press("Enter");
    chromium.until(&code);
    chromium.choose(SOMEBODY);
    chromium.click("Cancel");
    chromium.until("You cancelled");
    login.fails(&["declined in the browser. Start again and accept: xoauth2-relay login lms@contoso.com"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_browser_of_this_machine_and_without_a_mouse() {
    let Some(mut chromium) = Chromium::start() else { return };
    let site = Site::with(two_people()).await;
    let login = asked_who(&mut chromium, &site).await;
    chromium.look("pick-account");
    chromium.tab_to(MAILBOX);
    chromium.press("Enter");
    let text = chromium.until("Permissions requested");
    assert!(text.contains("Send emails from your mailbox using SMTP AUTH"), "{text}");
    chromium.look("consent");
    chromium.tab_to("Accept");
    chromium.press("Enter");
    let text = chromium.until("You are signed in");
    assert!(text.contains("The relay can send for lms@contoso.com."), "{text}");
    chromium.look("signed-in");
    login.succeeds(SIGNED_IN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_running_relay_the_mail_that_waited_leaves() {
    let Some(mut chromium) = Chromium::start() else { return };
    let site = Site::with(two_people()).await;
    let relay = site.relay(Clock::system()).await;
    let door = relay.listeners()[0];
    blocking(move || Client::greeted(door).submit(MAILBOX, &["you@example.com"], MAIL)).await;
    until_held(&relay, true).await;
    let login = asked_who(&mut chromium, &site).await;
    chromium.fill("#mailbox", "nobody@contoso.com");
    chromium.click("Next");
    chromium.until("This username may be incorrect");
    chromium.look("pick-account-wrong");
    chromium.fill("#mailbox", MAILBOX);
    chromium.click("Next");
    chromium.until("Permissions requested");
    chromium.click("Accept");
    chromium.until("You are signed in");
    login.succeeds(SIGNED_IN).await;
    tokio::time::timeout(PATIENCE, site.simulator.wait_for_accepted(1)).await.unwrap();
    until_held(&relay, false).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_another_machine_the_address_is_pasted() {
    let Some(mut chromium) = Chromium::elsewhere() else { return };
    let site = Site::with(two_people()).await;
    let mut login = asked_who(&mut chromium, &site).await;
    decide(&mut chromium, MAILBOX, "Accept");
    let address = chromium.until_address("code=");
    assert!(address.starts_with("http://localhost:"), "{address}");
    chromium.until("refused to connect");
    login.paste(&format!("  \"{address}\"  "));
    login.succeeds(SIGNED_IN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn consent_is_denied() {
    let Some(mut chromium) = Chromium::start() else { return };
    let site = Site::with(two_people()).await;
    let login = asked_who(&mut chromium, &site).await;
    decide(&mut chromium, MAILBOX, "Cancel");
    let sentence = "declined in the browser. Start again and accept: xoauth2-relay login lms@contoso.com --browser";
    let text = chromium.until("You are not signed in");
    let words: Vec<&str> = text.split_whitespace().collect();
    assert!(words.join(" ").contains(sentence), "{text}");
    chromium.look("declined");
    login.fails(&[sentence]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_person_signs_in() {
    let Some(mut chromium) = Chromium::start() else { return };
    let site = Site::with(two_people()).await;
    let login = asked_who(&mut chromium, &site).await;
    decide(&mut chromium, SOMEBODY, "Accept");
    let text = chromium.until("You are not signed in");
    let sentence = "somebody@contoso.com signed in, but this account needs lms@contoso.com";
    assert!(text.contains(sentence), "{text}");
    chromium.look("wrong-person");
    login.fails(&[sentence]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tab_is_closed() {
    let Some(mut chromium) = Chromium::start() else { return };
    let site = Site::with(two_people()).await;
    let clock = Clock::manual("2026-11-01T12:00:00Z".parse().unwrap());
    let relay = site.relay(clock.clone()).await;
    let login = asked_who(&mut chromium, &site).await;
    chromium.close_tab();
    clock.advance(std::time::Duration::from_mins(10));
    let sentence = "its tab was closed, or the sign-in there was not finished";
    login.fails(&[sentence, "xoauth2-relay login lms@contoso.com --browser"]).await;
    let error = relay.ops().login_wait(&mailbox()).await.unwrap_err().to_string();
    assert!(error.contains("no sign-in of lms@contoso.com is under way"), "{error}");
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_client_id_ends_on_the_providers_page() {
    let Some(mut chromium) = Chromium::start() else { return };
    let site = Site::edited(two_people(), |config| {
        config.replace("00000000-0000-0000-0000-000000000000", "11111111-1111-1111-1111-111111111111")
    })
    .await;
    let mut login = site.login(&[MAILBOX, "--browser"]);
    chromium.open(&login.address().await);
    let text = chromium.until("AADSTS700016");
    assert!(text.contains("11111111-1111-1111-1111-111111111111"), "{text}");
    chromium.look("wrong-client");
}
