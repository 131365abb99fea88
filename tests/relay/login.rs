//! What goes wrong when people sign in, and the sentence that they read, from the program itself. The browser is plain HTTP here: `browser.rs`
//! has a real one.

use std::collections::HashMap;
use std::time::Duration;

use reqwest::{Client, Url, redirect};
use xoauth2_relay::clock::Clock;
use xoauth2_relay::simulator::{Mailbox, Options};

use crate::person::Site;
use crate::support::{MAILBOX, mailbox, quick, sign_in};

const SOMEBODY: &str = "somebody@contoso.com";

fn two_people() -> Options {
    Options {
        device_interval: Duration::from_millis(50),
        mailboxes: vec![Mailbox::new(MAILBOX), Mailbox::new(SOMEBODY)],
        ..quick()
    }
}

fn http() -> Client {
    Client::builder().no_proxy().redirect(redirect::Policy::none()).build().unwrap()
}

/// Status and text of a page.
pub async fn get(address: &str) -> (u16, String) {
    let response = http().get(address).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// Signs in on the provider's page: the address to which the browser is sent.
pub async fn decide(address: &str, person: &str, action: &str) -> String {
    let mut form: HashMap<String, String> = Url::parse(address).unwrap().query_pairs().into_owned().collect();
    form.extend([("mailbox", person), ("action", action)].map(|(name, value)| (name.to_owned(), value.to_owned())));
    let page = address.split('?').next().unwrap();
    let response = http().post(page).form(&form).send().await.unwrap();
    assert_eq!(response.status(), 303, "{address}");
    response.headers()["location"].to_str().unwrap().to_owned()
}

/// The port at which the program waits.
fn port(address: &str) -> u16 {
    let url = Url::parse(address).unwrap();
    let back = url.query_pairs().find(|(name, _)| name == "redirect_uri").unwrap().1.into_owned();
    Url::parse(&back).unwrap().port().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_tenant() {
    let site =
        Site::edited(two_people(), |config| config.replace("/contoso.onmicrosoft.com/", "/fabrikam.example/")).await;
    site.login(&[MAILBOX]).fails(&["AADSTS90002", "There is no such tenant"]).await;
    let mut login = site.login(&[MAILBOX, "--browser"]);
    let (status, page) = get(&login.address().await).await;
    assert_eq!(status, 400);
    assert!(page.contains("AADSTS90002: Tenant"), "{page}");
    login.paste(&page);
    login.until("Not signed in yet: There is no such tenant as").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_client_id() {
    let wrong = |config: String| config.replace("00000000-0000", "11111111-0000");
    let site = Site::edited(two_people(), wrong).await;
    site.login(&[MAILBOX]).fails(&["AADSTS700016", "copy client_id and tenant"]).await;
    let mut login = site.login(&[MAILBOX, "--browser"]);
    let (status, page) = get(&login.address().await).await;
    assert_eq!(status, 400);
    assert!(page.contains("AADSTS700016: Application with identifier"), "{page}");
    login.paste(&page);
    login.until("Not signed in yet: The tenant contoso.onmicrosoft.com knows no application").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_without_the_redirect_address() {
    let options = Options { redirect_uris: vec!["https://relay.contoso.com/".to_owned()], ..two_people() };
    let site = Site::with(options).await;
    let mut login = site.login(&[MAILBOX, "--browser"]);
    let (status, page) = get(&login.address().await).await;
    assert_eq!(status, 400);
    assert!(page.contains("AADSTS50011"), "{page}");
    login.paste(&page);
    login.until("does not know the address http://localhost: add it in the Entra portal under Authentication").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_device_code() {
    let site = Site::with(Options { device_code_life: Duration::from_secs(1), ..two_people() }).await;
    site.login(&[MAILBOX])
        .fails(&["the code was not used in time. Start again: xoauth2-relay login lms@contoso.com"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn denied_by_device_code_and_in_the_browser() {
    let site = Site::with(two_people()).await;
    let mut login = site.login(&[MAILBOX]);
    assert!(site.simulator.deny(&login.code().await.1));
    login.fails(&["declined in the browser. Start again and accept: xoauth2-relay login lms@contoso.com\n"]).await;

    let mut login = site.login(&[MAILBOX, "--browser"]);
    let end = decide(&login.address().await, MAILBOX, "cancel").await;
    assert!(end.contains("error=access_denied") && end.contains("AADSTS65004"), "{end}");
    let (status, page) = get(&end).await;
    assert_eq!(status, 400);
    assert!(page.contains("You are not signed in") && page.contains("declined in the browser"), "{page}");
    login.fails(&["Start again and accept: xoauth2-relay login lms@contoso.com --browser"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_state_is_refused_and_the_right_one_still_taken() {
    let site = Site::with(two_people()).await;
    let mut login = site.login(&[MAILBOX, "--browser"]);
    let address = login.address().await;
    let port = port(&address);
    let (status, page) = get(&format!("http://localhost:{port}/?code=stolen&state=forged")).await;
    assert_eq!(status, 400);
    assert!(page.contains("This is another sign-in") && page.contains("goes on waiting"), "{page}");
    login.until("A browser came back, but that address belongs to another sign-in").await;
    let (_, page) = get(&format!("http://localhost:{port}/?code=stolen")).await;
    assert!(page.contains("cannot be told from a forged one"), "{page}");
    assert_eq!(get(&format!("http://localhost:{port}/favicon.ico")).await.0, 404);
    assert_eq!(get(&format!("http://localhost:{port}/")).await.0, 404);
    for (pasted, why) in [
        ("https://www.example.com/", "Not signed in yet: that is not the address at which the browser ended"),
        (address.as_str(), "Not signed in yet: that is the address to open"),
        ("?code=stolen&state=forged", "Not signed in yet: that address belongs to another sign-in"),
        ("http://localhost:1/?code=stolen", "Not signed in yet: that address has no state= in it"),
    ] {
        login.paste(pasted);
        login.until(why).await;
    }
    assert_eq!(site.simulator.statistics().token_requests.len(), 0, "no code was tried");
    let end = decide(&address, MAILBOX, "accept").await;
    login.paste("");
    login.paste(&format!(" '{}' ", &end[end.find('?').unwrap()..]));
    let (code, said) = login.ended().await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("lms@contoso.com is signed in as lms@contoso.com"), "{said}");
    let secret = Url::parse(&end).unwrap().query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned();
    assert!(!said.contains(&secret) && !said.contains("stolen"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_forged_addresses_end_it() {
    let site = Site::with(two_people()).await;
    let mut login = site.login(&[MAILBOX, "--browser"]);
    login.address().await;
    for _ in 0..20 {
        login.paste("?code=stolen&state=forged");
    }
    login.fails(&["too many addresses came that do not belong to this sign-in"]).await;
    assert_eq!(site.simulator.statistics().token_requests.len(), 0, "no code was tried");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_person_changes_nothing() {
    let site = Site::with(two_people()).await;
    let relay = site.relay(Clock::system()).await;
    sign_in(&site.simulator, &relay, MAILBOX).await;
    let sentence = "somebody@contoso.com signed in, but this account needs lms@contoso.com";
    let mut login = site.login(&[MAILBOX]);
    assert!(site.simulator.approve(&login.code().await.1, SOMEBODY));
    login.fails(&[sentence]).await;
    let mut login = site.login(&[MAILBOX, "--browser"]);
    let (_, page) = get(&decide(&login.address().await, SOMEBODY, "accept").await).await;
    assert!(page.contains(sentence), "{page}");
    login.fails(&[sentence]).await;
    let status = relay.ops().status().await.unwrap();
    assert_eq!(status.accounts[0].sign_in.as_ref().unwrap().signed_in_as.as_deref(), Some(MAILBOX));
    assert!(status.accounts[0].hold.is_none());
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_logins_of_one_account_the_later_one_wins_and_the_earlier_one_is_told() {
    let site = Site::with(two_people()).await;
    let relay = site.relay(Clock::system()).await;
    let told = "another sign-in of this account was begun meanwhile";
    let mut by_code = site.login(&[MAILBOX]);
    let (_, code) = by_code.code().await;
    let mut earlier = site.login(&[MAILBOX, "--browser"]);
    let early = earlier.address().await;
    by_code.fails(&[told]).await;
    let mut later = site.login(&[MAILBOX, "--browser"]);
    let late = later.address().await;
    earlier.fails(&[told]).await;
    // Whoever finishes an earlier one now changes nothing.
    assert!(site.simulator.approve(&code, MAILBOX));
    let end = decide(&early, MAILBOX, "accept").await;
    later.paste(&end);
    later.until("that address belongs to another sign-in").await;
    assert_eq!(get(&decide(&late, MAILBOX, "accept").await).await.0, 200);
    assert_eq!(later.ended().await.0, Some(0));
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_of_two_accounts_work_side_by_side() {
    let site = Site::with(two_people()).await;
    let relay = site.relay(Clock::system()).await;
    let (mut one, mut other) = (site.login(&[MAILBOX, "--browser"]), site.login(&[SOMEBODY, "--browser"]));
    let (first, second) = (one.address().await, other.address().await);
    let end = decide(&second, SOMEBODY, "accept").await;
    one.paste(&end);
    one.until("that address belongs to another sign-in").await;
    assert_eq!(get(&end).await.0, 200);
    let (code, said) = other.ended().await;
    assert!(code == Some(0) && said.contains("somebody@contoso.com is signed in as somebody@contoso.com"), "{said}");
    assert_eq!(get(&decide(&first, MAILBOX, "accept").await).await.0, 200);
    assert_eq!(one.ended().await.0, Some(0));
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_while_the_relay_stops_is_told_so() {
    let site = Site::with(two_people()).await;
    let relay = site.relay(Clock::system()).await;
    let ops = relay.ops().clone();
    let mailbox = mailbox();
    let somebody = xoauth2_relay::message::Address::parse(SOMEBODY).unwrap();
    ops.login_begin(&mailbox).await.unwrap();
    let number = ops.login_browser_begin(&somebody, 1).await.unwrap().number;
    let (by_code, by_browser, ()) =
        tokio::join!(ops.login_wait(&mailbox), ops.login_browser_wait(&somebody, number), relay.stop());
    for told in [by_code.map(|_| ()), by_browser] {
        let told = told.unwrap_err().to_string();
        assert!(told.contains("the relay was stopped before anybody had signed in"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_relay_a_second_login_is_told_who_is_in_its_way() {
    let site = Site::with(two_people()).await;
    let mut first = site.login(&[MAILBOX, "--browser"]);
    let address = first.address().await;
    site.login(&[MAILBOX, "--browser"]).fails(&["another xoauth2-relay is running on"]).await;
    assert_eq!(get(&decide(&address, MAILBOX, "accept").await).await.0, 200);
    assert_eq!(first.ended().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_it_and_changes_nothing() {
    let site = Site::with(two_people()).await;
    let mut login = site.login(&[MAILBOX, "--browser"]);
    let address = login.address().await;
    login.paste("not yet");
    // It has read this, so it waits.
    login.until("Still waiting").await;
    login.interrupt();
    login.fails(&["stopped before anybody signed in; nothing was changed"]).await;
    assert!(http().get(format!("http://127.0.0.1:{}/", port(&address))).send().await.is_err(), "the port is closed");
    let mut next = site.login(&[MAILBOX, "--browser"]);
    assert_eq!(get(&decide(&next.address().await, MAILBOX, "accept").await).await.0, 200);
    assert_eq!(next.ended().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_endpoint_for_device_codes_the_browser_is_pointed_out_and_the_reverse() {
    let site = Site::edited(two_people(), |config| {
        let config =
            config.replace("provider = \"microsoft\"\ntenant = \"contoso.onmicrosoft.com\"", "provider = \"custom\"");
        let (first, second) = config.split_at(config.rfind("[[account]]").unwrap());
        let without = |text: &str, key: &str| {
            text.lines().filter(|line| !line.starts_with(key)).fold(String::new(), |text, line| text + line + "\n")
        };
        without(first, "device_url") + &without(second, "authorize_url")
    })
    .await;
    let device = "has no device_url: sign in with a browser instead: xoauth2-relay login lms@contoso.com --browser";
    site.login(&[MAILBOX]).fails(&[device]).await;
    let browser = "has no authorize_url: set it to the page on which people sign in, or sign in by device code: xoauth2-relay login somebody@contoso.com";
    site.login(&[SOMEBODY, "--browser"]).fails(&[browser]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confidential_registration_sends_its_secret() {
    let options = Options { client_secret: Some("s3cret~value".to_owned()), ..two_people() };
    let site = Site::with(options).await;
    let mut login = site.login(&[MAILBOX, "--browser"]);
    assert_eq!(get(&decide(&login.address().await, MAILBOX, "accept").await).await.0, 200);
    assert_eq!(login.ended().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_the_provider_refuses_is_said_on_the_page_and_on_the_terminal() {
    let site = Site::with(two_people()).await;
    let mut login = site.login(&[MAILBOX, "--browser"]);
    let end = decide(&login.address().await, MAILBOX, "accept").await;
    site.simulator.fault("token=70008*1".parse().unwrap());
    let (status, page) = get(&end).await;
    assert_eq!(status, 400);
    assert!(page.contains("You are not signed in") && page.contains("AADSTS70008"), "{page}");
    login.fails(&["AADSTS70008", "is used up, too old", "xoauth2-relay login lms@contoso.com --browser"]).await;
}
