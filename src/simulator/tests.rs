//! The whole simulator: going away and coming back, the configuration it prints, what it tells.

use std::path::Path;

use tokio::net::TcpStream;

use super::testing::{Client, HELLO, MAILBOX, microsoft};
use super::{Event, Mailbox, Options, Simulator, SmtpTls};

#[tokio::test]
async fn it_goes_away_and_comes_back_on_the_same_ports_with_all_it_knew() {
    let microsoft = microsoft(|_| ()).await;
    let token = microsoft.issue_access_token(MAILBOX);
    let mut client = Client::signed_in(&microsoft).await;
    microsoft.go_away().await.unwrap();
    assert!(client.is_closed().await);
    for address in [microsoft.smtp_addr(), microsoft.http_addr()] {
        let error = TcpStream::connect(address).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    }
    assert_eq!(microsoft.statistics().open, 0);
    microsoft.go_away().await.unwrap();
    microsoft.come_back().await.unwrap();
    microsoft.come_back().await.unwrap();
    let mut client = Client::connect(&microsoft).await;
    assert!(client.auth(MAILBOX, &token).await.starts_with("235 "));
    assert!(client.mail("a@b.example", HELLO).await.starts_with("250 "));
    microsoft.stop().await;
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let first = microsoft(|_| ()).await;
    let taken = first.smtp_addr();
    let error = Simulator::start(Options { smtp: taken, ..Options::default() }).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    assert!(error.to_string().starts_with(&format!("cannot listen on {taken}")), "{error}");
}

#[tokio::test]
async fn the_configuration_fits() {
    let microsoft = microsoft(|options| {
        options.tls = SmtpTls::StartTls;
        options.client_secret = Some("with \"quotes\"".to_owned());
        options.mailboxes = vec![Mailbox::new(MAILBOX).send_as("noreply@contoso.com"), Mailbox::new("b@contoso.com")];
    })
    .await;
    let config: toml::Table = microsoft.relay_config(Some(Path::new("/run/ca.pem"))).parse().unwrap();
    let accounts = config["account"].as_array().unwrap();
    assert_eq!(accounts.len(), 2);
    assert_eq!(accounts[0]["send_as"][0].as_str(), Some("noreply@contoso.com"));
    assert_eq!(accounts[0]["client_secret"].as_str(), Some("with \"quotes\""));
    assert_eq!(accounts[0]["ca_file"].as_str(), Some("/run/ca.pem"));
    assert_eq!(accounts[1]["smtp"].as_str(), Some(microsoft.smtp_addr().to_string().as_str()));
    assert_eq!(accounts[1]["token_url"].as_str(), Some(microsoft.token_url().as_str()));
    assert_eq!(accounts[1]["connections"].as_integer(), Some(100), "no limit has no word in the relay");
}

#[tokio::test]
async fn what_happens_is_told_without_any_secret() {
    let microsoft = microsoft(|_| ()).await;
    let mut events = microsoft.watch();
    let mut client = Client::signed_in(&microsoft).await;
    client.mail("a@b.example", HELLO).await;
    client.say("QUIT").await;
    drop(client);
    let mut told = Vec::new();
    loop {
        let event = events.recv().await.unwrap();
        told.push(event.to_string());
        if matches!(event, Event::Disconnected { .. }) {
            break;
        }
    }
    for (line, words) in
        told.iter().zip(["connected", "lms@contoso.com signed in", "to a@b.example accepted, 49 octets", "closed"])
    {
        assert!(line.contains(words), "{line}");
    }
    assert!(!told.join("\n").contains("eyJ"), "no token is told");
}
