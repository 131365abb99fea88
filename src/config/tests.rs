//! Whole files against whole listings, as an administrator sees them.

use super::*;

mod alerts;
mod apps;
mod certificates;
mod checked;
mod credentials;
mod listings;
mod overrides;
mod random;
mod replies;
mod shipped;
mod smart_hosts;
mod tenants;
mod values;

const ACCOUNT: &str = r#"
[[account]]
mailbox = "lms@contoso.com"
tenant = "contoso.onmicrosoft.com"
client_id = "11111111-2222-3333-4444-555555555555"
"#;

fn load(text: &str) -> Result<Config, Problems> {
    Config::from_text(text, "/etc/relay/relay.toml", &Environment::default())
}

/// A file whose account is fine.
fn with_account(text: &str) -> Result<Config, Problems> {
    load(&format!("{text}\n{ACCOUNT}"))
}

/// The lines of the listing, the file's name left out.
fn listing(result: Result<Config, Problems>) -> Vec<String> {
    match result {
        Ok(_) => Vec::new(),
        Err(problems) => {
            problems.iter().map(|problem| problem.to_string().replace("/etc/relay/relay.toml:", "")).collect()
        }
    }
}

fn assert_listing(text: &str, expected: &[&str]) {
    assert_eq!(listing(load(text)), expected, "{text}");
}
