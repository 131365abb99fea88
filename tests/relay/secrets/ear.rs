//! Who hears all that is said, and finds in it what must not be there, whatever it is written like.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// All that was said, by whom, and all that must not be in it.
#[derive(Default)]
pub struct Ear {
    pub said: Vec<(String, String)>,
    secrets: Vec<(String, String)>,
}

impl Ear {
    pub fn hear(&mut self, who: impl Into<String>, what: &[u8]) {
        // Secrets are ASCII: they survive this whatever is around them.
        self.said.push((who.into(), String::from_utf8_lossy(what).into_owned()));
    }

    pub fn keep(&mut self, name: &str, secret: &str) {
        if !self.secrets.iter().any(|(_, known)| known == secret) {
            self.secrets.push((name.to_owned(), secret.to_owned()));
        }
    }

    pub fn assert_heard_no_secret(&self) {
        let leaks = self.leaks();
        assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n\n"));
    }

    /// Where which secret was found in which form.
    fn leaks(&self) -> Vec<String> {
        let mut leaks = Vec::new();
        for (name, secret) in &self.secrets {
            for (form, text) in forms(secret) {
                for (who, said) in &self.said {
                    if let Some(at) = said.find(&text) {
                        let around: String = said[..at].chars().rev().take(200).collect();
                        let around: String = around.chars().rev().collect();
                        leaks.push(format!("{who} told {name} ({form}) behind: {around}"));
                    }
                }
            }
        }
        leaks
    }
}

/// The faces under which a secret may slip out.
fn forms(secret: &str) -> Vec<(&'static str, String)> {
    let mut forms = vec![("as it is", secret.to_owned())];
    // The beginning of a token is enough to recognise it, and a log that cuts off long lines still has that.
    if secret.len() > 40 {
        forms.push(("its first 16 characters", secret.chars().take(16).collect()));
        forms.push(("its last 16 characters", secret.chars().skip(secret.chars().count() - 16).collect()));
    }
    let hex = secret.bytes().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    forms.push(("hex", hex.to_uppercase()));
    forms.push(("hex", hex));
    let listed = secret.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ");
    forms.push(("octets", listed));
    let json = serde_json::to_string(secret).unwrap();
    forms.push(("JSON", json.trim_matches('"').to_owned()));
    forms.push(("Debug", format!("{secret:?}").trim_matches('"').to_owned()));
    let url = reqwest::Url::parse_with_params("http://relay/", [("v", secret)]).unwrap();
    forms.push(("in a URL", url.query().unwrap().trim_start_matches("v=").to_owned()));
    // Within a longer text it begins at any of three places of a group of four letters.
    for shift in 0..3 {
        let shifted = [&vec![b'\0'; shift], secret.as_bytes()].concat();
        let whole = shifted.len() / 3 * 3;
        for alphabet in [STANDARD.encode(&shifted[..whole]), URL_SAFE_NO_PAD.encode(&shifted[..whole])] {
            let from = if shift == 0 { 0 } else { 4 };
            forms.push(("base64", alphabet[from..].to_owned()));
        }
    }
    forms.dedup_by(|one, other| one.1 == other.1);
    forms
}

/// The search itself: it finds a secret in each of the ways in which one slips out.
#[test]
fn a_secret_is_found_however_it_is_written() {
    let secret = "cS8Q~right/client+secret\"value&0123456789";
    let url = reqwest::Url::parse_with_params("http://relay/", [("client_secret", secret)]).unwrap();
    let mut said = vec![
        format!("the secret is {secret}."),
        serde_json::json!({ "client_secret": secret }).to_string(),
        format!("{:?}", Some(secret)),
        url.to_string(),
        format!("{:?}", secret.as_bytes()),
        format!("only {} and no more", &secret[..16]),
        secret.bytes().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}")),
    ];
    for before in ["", "u", "us", "user=svc@contoso.com\x01auth=Bearer "] {
        said.push(STANDARD.encode(format!("{before}{secret}\x01\x01")));
        said.push(URL_SAFE_NO_PAD.encode(format!("{before}{secret}\x01\x01")));
    }
    for said in said {
        let mut ear = Ear::default();
        ear.keep("a secret", secret);
        ear.hear("somebody", b"nothing to see");
        assert!(ear.leaks().is_empty());
        ear.hear("somebody", said.as_bytes());
        assert!(!ear.leaks().is_empty(), "not found in {said}");
    }
}
