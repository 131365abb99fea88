//! Entra ID over HTTP.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::simulator::testing::{Client, MAILBOX, microsoft};
use crate::simulator::{Mailbox, Simulator};

const SCOPE: &str = "https://outlook.office.com/SMTP.Send offline_access";
const CLIENT: &str = "00000000-0000-0000-0000-000000000000";
const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap()
}

/// Posts a form: the status and the JSON of the answer.
async fn post(url: &str, form: &[(&str, &str)]) -> (u16, Value) {
    let response = http().post(url).form(form).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn refresh(microsoft: &Simulator, token: &str) -> (u16, Value) {
    let form = [("grant_type", "refresh_token"), ("client_id", CLIENT), ("refresh_token", token), ("scope", SCOPE)];
    post(&microsoft.token_url(), &form).await
}

async fn device_code(microsoft: &Simulator) -> Value {
    let (status, answer) = post(&microsoft.device_url(), &[("client_id", CLIENT), ("scope", SCOPE)]).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

async fn ask(microsoft: &Simulator, code: &Value) -> (u16, Value) {
    let code = code["device_code"].as_str().unwrap();
    post(&microsoft.token_url(), &[("grant_type", DEVICE_GRANT), ("client_id", CLIENT), ("device_code", code)]).await
}

fn text<'a>(answer: &'a Value, name: &str) -> &'a str {
    answer[name].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_refresh_rotates_and_the_access_token_opens_exchange() {
    let microsoft = microsoft(|_| ()).await;
    let first = microsoft.issue_refresh_token(MAILBOX);
    let (status, answer) = refresh(&microsoft, &first).await;
    assert_eq!(status, 200);
    assert_eq!(answer["token_type"], "Bearer");
    assert_eq!(answer["expires_in"], 75 * 60);
    assert_ne!(text(&answer, "refresh_token"), first);
    assert!((2300..2700).contains(&text(&answer, "access_token").len()));
    let mut client = Client::connect(&microsoft).await;
    assert!(client.auth(MAILBOX, text(&answer, "access_token")).await.starts_with("235 "));
    assert_eq!(refresh(&microsoft, &first).await.0, 200, "the old one works on beside the new one");
    assert_eq!(refresh(&microsoft, text(&answer, "refresh_token")).await.0, 200);
    assert_eq!(microsoft.statistics().token_requests["refresh_token"], 3);
}

#[tokio::test]
async fn a_token_that_must_be_used_once_is_refused_the_second_time() {
    let microsoft = microsoft(|options| options.single_use_refresh_tokens = true).await;
    let first = microsoft.issue_refresh_token(MAILBOX);
    let (_, answer) = refresh(&microsoft, &first).await;
    let (status, refused) = refresh(&microsoft, &first).await;
    assert_eq!((status, &refused["error_codes"]), (400, &serde_json::json!([70000])));
    assert_eq!(refresh(&microsoft, text(&answer, "refresh_token")).await.0, 200);
}

#[tokio::test]
async fn a_refusal_has_microsofts_shape() {
    let microsoft = microsoft(|_| ()).await;
    let token = microsoft.issue_refresh_token(MAILBOX);
    microsoft.revoke_sign_ins(MAILBOX);
    let (status, refused) = refresh(&microsoft, &token).await;
    assert_eq!(status, 400);
    assert_eq!(refused["error"], "invalid_grant");
    assert_eq!(refused["error_codes"], serde_json::json!([50173]));
    assert!(text(&refused, "error_description").starts_with("AADSTS50173: The provided grant has expired"));
    for name in ["timestamp", "trace_id", "correlation_id", "error_uri"] {
        assert!(!text(&refused, name).is_empty(), "{name}");
    }
    assert!(text(&refused, "error_uri").ends_with("/error?code=50173"));
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said() {
    let public = microsoft(|_| ()).await;
    let secret = microsoft(|options| options.client_secret = Some("s3cret~value".to_owned())).await;
    let token = public.issue_refresh_token(MAILBOX);
    let good = secret.issue_refresh_token(MAILBOX);
    let grant = ("grant_type", "refresh_token");
    let (id, scope) = (("client_id", CLIENT), ("scope", SCOPE));
    let refresh = ("refresh_token", token.as_str());
    let graph = ("scope", "https://graph.microsoft.com/Mail.Send");
    for (microsoft, form, status, number) in [
        (&public, vec![id, refresh, scope], 400, 900_144),
        (&public, vec![grant, refresh, scope], 400, 900_144),
        (&public, vec![grant, id, scope], 400, 900_144),
        (&public, vec![grant, id, refresh], 400, 900_144),
        (&public, vec![grant, id, ("refresh_token", "garbage"), scope], 400, 70_000),
        (&public, vec![grant, ("client_id", "another"), refresh, scope], 400, 700_016),
        (&public, vec![grant, id, refresh, graph], 400, 70_011),
        (&public, vec![grant, id, refresh, scope, ("client_secret", "x")], 401, 700_025),
        (&secret, vec![grant, id, ("refresh_token", &good), scope], 401, 7_000_218),
        (&secret, vec![grant, id, ("refresh_token", &good), scope, ("client_secret", "x")], 401, 7_000_215),
        (&public, vec![("grant_type", "client_credentials"), id, scope], 401, 7_000_218),
        (&public, vec![("grant_type", "password"), id, scope], 400, 70_003),
    ] {
        let (got, answer) = post(&microsoft.token_url(), &form).await;
        assert_eq!((got, &answer["error_codes"][0]), (status, &Value::from(number)), "{form:?}: {answer}");
    }
    let form = [grant, id, ("refresh_token", &good), scope, ("client_secret", "s3cret~value")];
    assert_eq!(post(&secret.token_url(), &form).await.0, 200);
    let basic = http().post(secret.token_url()).basic_auth(CLIENT, Some("s3cret%7Evalue"));
    let basic = basic.form(&[grant, ("refresh_token", &good), scope]).send().await.unwrap();
    assert_eq!(basic.status(), 200);
    for (tenant, number) in [("fabrikam.example", 90_002), ("common", 50_194), ("consumers", 9_002_332)] {
        let url = format!("http://{}/{tenant}/oauth2/v2.0/token", public.http_addr());
        let (_, answer) = post(&url, &[grant, id, refresh, scope]).await;
        assert_eq!(answer["error_codes"][0], number);
        assert!(!text(&answer, "error_description").contains('{'), "{answer}");
    }
}

#[tokio::test]
async fn every_oauth_row_is_served_as_the_table_says() {
    let microsoft = microsoft(|_| ()).await;
    let token = microsoft.issue_refresh_token(MAILBOX);
    let http = http();
    for row in crate::simulator::oauth_errors() {
        microsoft.fault(format!("{}*1", row.id).parse().unwrap());
        let form =
            [("grant_type", "refresh_token"), ("client_id", CLIENT), ("refresh_token", &token), ("scope", SCOPE)];
        let response = http.post(microsoft.token_url()).form(&form).send().await.unwrap();
        assert_eq!(response.status().as_u16(), row.status, "{}", row.id);
        let retry_after = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(retry_after, row.retry_after.map(|seconds| seconds.to_string()), "{}", row.id);
        let body = response.text().await.unwrap();
        let Some(error) = &row.error else {
            assert!(body.starts_with("<!DOCTYPE html>"), "{}", row.id);
            continue;
        };
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(&answer["error"], error, "{}", row.id);
        assert_eq!(answer.get("suberror").and_then(Value::as_str), row.suberror.as_deref(), "{}", row.id);
        let prefix = if row.aadsts == 0 { String::new() } else { format!("AADSTS{}: ", row.aadsts) };
        assert!(text(&answer, "error_description").starts_with(&prefix), "{}", row.id);
        assert!(!text(&answer, "error_description").contains('{'), "{}: a value is missing", row.id);
    }
    assert_eq!(refresh(&microsoft, &token).await.0, 200, "no fault killed the sign-in");
}

#[tokio::test]
async fn a_person_signs_in_by_device_code() {
    let microsoft = microsoft(|_| ()).await;
    let code = device_code(&microsoft).await;
    assert_eq!(code["expires_in"], 900);
    assert_eq!(text(&code, "verification_uri"), microsoft.verification_url());
    assert!(text(&code, "message").contains(text(&code, "user_code")));
    let (status, pending) = ask(&microsoft, &code).await;
    assert_eq!((status, text(&pending, "error")), (400, "authorization_pending"));
    assert!(!microsoft.approve(text(&code, "user_code"), "nobody@contoso.com"));
    assert!(microsoft.approve(text(&code, "user_code"), MAILBOX));
    let (status, answer) = ask(&microsoft, &code).await;
    assert_eq!(status, 200);
    assert_eq!(refresh(&microsoft, text(&answer, "refresh_token")).await.0, 200);
    assert_eq!(text(&ask(&microsoft, &code).await.1, "error"), "bad_verification_code");
    assert_eq!(microsoft.statistics().device_codes, 1);
}

#[tokio::test]
async fn a_device_code_is_denied_asked_after_too_often_and_expires() {
    let clock = Arc::new(Mutex::new(Timestamp::from_second(1_800_000_000).unwrap()));
    let now = Arc::clone(&clock);
    let microsoft = microsoft(|options| {
        options.device_interval = Duration::from_hours(1);
        options.now = Arc::new(move || *now.lock().unwrap());
    })
    .await;
    let code = device_code(&microsoft).await;
    assert_eq!(code["interval"], 3600);
    assert_eq!(text(&ask(&microsoft, &code).await.1, "error"), "authorization_pending");
    assert_eq!(text(&ask(&microsoft, &code).await.1, "error"), "slow_down");
    assert!(microsoft.deny(text(&code, "user_code")));
    assert_eq!(text(&ask(&microsoft, &code).await.1, "error"), "authorization_declined");
    let code = device_code(&microsoft).await;
    *clock.lock().unwrap() += Duration::from_mins(15);
    assert_eq!(text(&ask(&microsoft, &code).await.1, "error"), "expired_token");
    let (_, answer) = post(&microsoft.device_url(), &[("client_id", CLIENT)]).await;
    assert_eq!(answer["error_codes"][0], 900_144);
    let (_, answer) = post(&microsoft.device_url(), &[("client_id", "another"), ("scope", SCOPE)]).await;
    assert_eq!(answer["error_codes"][0], 700_016);
}

#[tokio::test]
async fn nobody_is_needed_where_sign_ins_approve_themselves() {
    let microsoft = microsoft(|options| options.auto_approve = Some(MAILBOX.to_owned())).await;
    let code = device_code(&microsoft).await;
    assert_eq!(ask(&microsoft, &code).await.0, 200);
    let (status, _, back) = authorize(&microsoft, &REQUEST, None).await;
    assert_eq!(status, 303);
    assert!(parameters(&back).contains_key("code"), "{back}");
}

#[tokio::test]
async fn the_page_takes_a_code_and_a_mailbox() {
    let microsoft = microsoft(|options| options.mailboxes.push(Mailbox::new("o'hara&co@contoso.com"))).await;
    let (http, url) = (http(), microsoft.verification_url());
    let page = |query: String| {
        let (http, url) = (http.clone(), format!("{url}{query}"));
        async move { http.get(url).send().await.unwrap().text().await.unwrap() }
    };
    assert!(page(String::new()).await.contains("name=user_code"));
    assert!(page("?user_code=WRONG".to_owned()).await.contains("That code didn&#39;t work"));
    assert!(page("?user_code=<script>".to_owned()).await.contains("name=user_code"));
    for (action, error) in [("approve", ""), ("deny", "authorization_declined")] {
        let code = device_code(&microsoft).await;
        let typed = text(&code, "user_code");
        let form = page(format!("?user_code={}", typed.to_lowercase())).await;
        assert!(form.contains(typed) && form.contains("value=\"o&#39;hara&amp;co@contoso.com\""), "{form}");
        let fields = [("user_code", typed), ("mailbox", "o'hara&co@contoso.com"), ("action", action)];
        let done = http.post(&url).form(&fields).send().await.unwrap().text().await.unwrap();
        assert!(done.contains("You "), "{done}");
        assert_eq!(text(&ask(&microsoft, &code).await.1, "error"), error);
        let again = http.post(&url).form(&fields).send().await.unwrap().text().await.unwrap();
        assert!(again.contains("That code didn&#39;t work"), "{again}");
    }
    let fields = [("user_code", "ABC"), ("mailbox", "<b>@x")];
    let done = http.post(&url).form(&fields).send().await.unwrap().text().await.unwrap();
    assert!(done.contains("&lt;b&gt;@x"), "{done}");
}

#[tokio::test]
async fn http_goes_wrong_as_told() {
    let microsoft = microsoft(|_| ()).await;
    let token = microsoft.issue_refresh_token(MAILBOX);
    let form = [("grant_type", "refresh_token"), ("client_id", CLIENT), ("refresh_token", &token), ("scope", SCOPE)];
    let request = || http().post(microsoft.token_url()).form(&form);
    microsoft.fault("http:429:60*1,mailbox=lms@contoso.com".parse().unwrap());
    let throttled = request().send().await.unwrap();
    assert_eq!((throttled.status().as_u16(), throttled.headers()["retry-after"].to_str().unwrap()), (429, "60"));
    microsoft.fault("token=drop*1".parse().unwrap());
    assert!(request().send().await.is_err());
    microsoft.fault("token=silence*1".parse().unwrap());
    let silence = request().timeout(Duration::from_millis(100)).send().await.unwrap_err();
    assert!(silence.is_timeout());
    microsoft.fault("token=silence".parse().unwrap());
    let mut events = microsoft.watch();
    let cut = tokio::spawn(request().send());
    while !matches!(events.recv().await.unwrap(), crate::simulator::Event::Broken { .. }) {}
    microsoft.go_away().await.unwrap();
    assert!(!cut.await.unwrap().unwrap_err().is_timeout(), "going away hangs up");
    microsoft.come_back().await.unwrap();
    microsoft.clear_faults();
    microsoft.fault("device=90002*1".parse().unwrap());
    microsoft.fault("token=wait:1ms".parse().unwrap());
    assert_eq!(request().send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn the_date_is_the_simulators() {
    let start = Timestamp::from_second(784_111_777).unwrap();
    let microsoft = microsoft(|options| options.now = Arc::new(move || start)).await;
    let response = http().get(microsoft.verification_url()).send().await.unwrap();
    assert_eq!(response.headers()["date"], "Sun, 06 Nov 1994 08:49:37 GMT");
    assert_eq!(response.headers()["cache-control"], "no-store");
}

/// A request as a native application makes it; the challenge is that of RFC 7636, appendix B.
const REQUEST: [(&str, &str); 7] = [
    ("client_id", CLIENT),
    ("redirect_uri", "http://localhost:40123/"),
    ("response_type", "code"),
    ("scope", SCOPE),
    ("state", "st4te&x"),
    ("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
    ("code_challenge_method", "S256"),
];
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

fn changed<'a>(name: &str, value: Option<&'a str>) -> Vec<(&'static str, &'a str)> {
    let fields = REQUEST.into_iter().filter(|(field, _)| *field != name || value.is_some());
    fields.map(|(field, own)| (field, if field == name { value.unwrap_or_default() } else { own })).collect()
}

fn with_query(url: &str, fields: &[(&str, &str)]) -> reqwest::Url {
    reqwest::Url::parse_with_params(url, fields).unwrap()
}

/// Status, page, and where the browser is sent to.
async fn authorize(
    microsoft: &Simulator,
    fields: &[(&str, &str)],
    decision: Option<(&str, &str)>,
) -> (u16, String, String) {
    let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let mut form = fields.to_vec();
    let request = match decision {
        None => http.get(with_query(&microsoft.authorize_url(), &form)),
        Some((mailbox, action)) => {
            form.extend([("mailbox", mailbox), ("action", action)]);
            http.post(microsoft.authorize_url()).form(&form)
        }
    };
    let response = request.send().await.unwrap();
    let location = response.headers().get("location").map(|to| to.to_str().unwrap().to_owned()).unwrap_or_default();
    (response.status().as_u16(), response.text().await.unwrap(), location)
}

/// The parameters of where the browser is sent to.
fn parameters(location: &str) -> std::collections::HashMap<String, String> {
    reqwest::Url::parse(location).unwrap().query_pairs().into_owned().collect()
}

#[tokio::test]
async fn a_person_signs_in_with_a_browser() {
    let microsoft = microsoft(|options| options.mailboxes.push(Mailbox::new("o'hara&co@contoso.com"))).await;
    let (status, page, _) = authorize(&microsoft, &REQUEST, None).await;
    assert_eq!(status, 200);
    assert!(page.contains("Pick an account") && page.contains("value=\"o&#39;hara&amp;co@contoso.com\""), "{page}");
    assert!(page.contains("value=\"st4te&amp;x\""), "{page}");
    let (_, page, _) = authorize(&microsoft, &REQUEST, Some(("<b>@x", ""))).await;
    assert!(page.contains("This username may be incorrect") && page.contains("&lt;b&gt;@x"), "{page}");
    let (_, page, _) = authorize(&microsoft, &REQUEST, Some((MAILBOX, ""))).await;
    assert!(page.contains("Permissions requested") && page.contains("Maintain access"), "{page}");
    let (status, _, denied) = authorize(&microsoft, &REQUEST, Some((MAILBOX, "cancel"))).await;
    let denied = parameters(&denied);
    assert_eq!((status, denied["error"].as_str(), denied["state"].as_str()), (303, "access_denied", "st4te&x"));
    assert!(denied["error_description"].starts_with("AADSTS65004: "));
    let (_, _, back) = authorize(&microsoft, &REQUEST, Some((MAILBOX, "accept"))).await;
    assert!(back.starts_with("http://localhost:40123/?code="), "{back}");
    let back = parameters(&back);
    assert_eq!(back["state"], "st4te&x");
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", CLIENT),
        ("code", &back["code"]),
        ("redirect_uri", "http://localhost:40123/"),
        ("code_verifier", VERIFIER),
    ];
    let (status, answer) = post(&microsoft.token_url(), &form).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(refresh(&microsoft, text(&answer, "refresh_token")).await.0, 200);
    assert_eq!(post(&microsoft.token_url(), &form).await.1["error_codes"][0], 54005);
}

#[tokio::test]
async fn who_is_not_registered_gets_a_page_and_no_redirect() {
    let microsoft = microsoft(|_| ()).await;
    for (fields, number) in [
        (changed("client_id", Some("another")), "AADSTS700016"),
        (changed("client_id", None), "AADSTS900144"),
        (changed("redirect_uri", Some("http://127.0.0.1:40123/")), "AADSTS50011"),
        (changed("redirect_uri", Some("https://evil.example/")), "AADSTS50011"),
        (changed("redirect_uri", Some("no address")), "AADSTS90023"),
        (changed("redirect_uri", None), "AADSTS50011"),
    ] {
        for decision in [None, Some((MAILBOX, "accept"))] {
            let (status, page, location) = authorize(&microsoft, &fields, decision).await;
            assert_eq!((status, location.as_str()), (400, ""), "{fields:?}");
            assert!(page.contains(number), "{fields:?}: {page}");
        }
    }
    let url = format!("http://{}/fabrikam.example/oauth2/v2.0/authorize", microsoft.http_addr());
    let response = http().get(with_query(&url, &REQUEST)).send().await.unwrap();
    assert_eq!(response.status(), 400);
    assert!(response.text().await.unwrap().contains("AADSTS90002"));
}

#[tokio::test]
async fn other_mistakes_of_a_request_are_told_to_the_application() {
    let microsoft = microsoft(|_| ()).await;
    for (fields, error) in [
        (changed("response_type", Some("token")), "invalid_request"),
        (changed("response_type", None), "invalid_request"),
        (changed("scope", Some("https://graph.microsoft.com/Mail.Send")), "invalid_scope"),
        (changed("code_challenge_method", Some("plain")), "invalid_request"),
        (changed("code_challenge_method", None), "invalid_request"),
        (changed("code_challenge", Some("short")), "invalid_request"),
    ] {
        let (status, _, location) = authorize(&microsoft, &fields, None).await;
        let back = parameters(&location);
        assert_eq!((status, back["error"].as_str(), back["state"].as_str()), (303, error, "st4te&x"), "{fields:?}");
    }
}
