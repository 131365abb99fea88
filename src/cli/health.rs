//! `health`: asks the running relay's `/healthz`; the exit code tells a container or a monitor.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use super::{FAILED, Json, NOT_RUNNING};
use crate::config::{Environment, Glance};

/// The answer takes no work: a relay that needs longer is not well.
const PATIENCE: Duration = Duration::from_secs(5);

/// 0: healthy; 1: it answers that it is not, or not in time; 3: nobody answers.
///
/// A configuration that was broken since the start says nothing about the relay that runs: only the address is read of it.
pub(super) async fn run(path: &Path, output: &Json) -> anyhow::Result<ExitCode> {
    let address = reachable(Glance::at(path, &Environment::of_process()).admin);
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
    let (status, text, code) = match client.get(format!("http://{address}/healthz")).send().await {
        Ok(response) => {
            let is_well = response.status().is_success();
            let answer: Value = response.json().await.unwrap_or_default();
            let status = answer["status"].as_str().unwrap_or("unknown").to_owned();
            let text = format!("the relay answers on {address}: {status}");
            (status, text, if is_well { 0 } else { FAILED })
        }
        Err(error) if error.is_connect() => {
            let text = format!("the relay is not running: nobody answers on {address}");
            ("not running".to_owned(), text, NOT_RUNNING)
        }
        Err(error) => {
            let cause = if error.is_timeout() {
                format!("no answer within {} s", PATIENCE.as_secs())
            } else {
                error.to_string()
            };
            ("failing".to_owned(), format!("the relay does not answer on {address} as it should: {cause}"), FAILED)
        }
    };
    if output.json {
        println!("{}", serde_json::json!({ "status": status }));
    } else if code == 0 {
        println!("{text}");
    } else {
        eprintln!("xoauth2-relay: {text}");
    }
    Ok(ExitCode::from(code))
}

/// What listens on every address answers on this machine's own.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_for_everybody_is_asked_on_loopback() {
        for (configured, asked) in
            [("0.0.0.0:8025", "127.0.0.1:8025"), ("[::]:8025", "[::1]:8025"), ("10.1.2.3:80", "10.1.2.3:80")]
        {
            assert_eq!(reachable(configured.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
