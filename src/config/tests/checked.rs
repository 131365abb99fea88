//! What a good file becomes.

use super::*;

#[test]
fn the_smallest_file_gets_every_default() {
    let config = load(ACCOUNT).unwrap();
    assert_eq!(config.data_dir, Path::new("/var/lib/xoauth2-relay"));
    assert_eq!(config.key, None);
    assert_eq!(config.log, Log { filter: "info".to_owned(), json: false });
    let addresses: Vec<_> = config.listeners.iter().map(|l| (l.address.to_string(), l.optional)).collect();
    assert_eq!(addresses, [("127.0.0.1:2525".to_owned(), false), ("[::1]:2525".to_owned(), true)]);
    let listener = &config.listeners[0];
    assert_eq!(listener.allow, ["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
    assert_eq!((listener.max_message_size, listener.max_recipients), (35 * 1024 * 1024, 500));
    assert_eq!((listener.max_connections, listener.max_connections_per_address), (500, 100));
    assert_eq!(listener.idle_timeout, Duration::from_mins(10));
    let account = &config.accounts[0];
    assert_eq!(account.login, account.mailbox);
    assert_eq!((account.messages_per_minute, account.connections, account.recipients_per_day), (30, 3, 10_000));
    let queue = &config.queue;
    assert_eq!(queue.retry, [1, 5, 15, 30, 60].map(Duration::from_mins));
    assert_eq!(queue.give_up_after, Duration::from_hours(5 * 24));
    assert_eq!((queue.journal_days, queue.dead_letter_days, queue.record_subjects), (30, 30, true));
    assert_eq!(queue.min_free_disk, 1024 * 1024 * 1024);
    assert_eq!(config.admin.address, SocketAddr::from(([127, 0, 0, 1], 8025)));
    assert_eq!(config.warnings, []);
}

#[test]
fn every_cloud_has_its_own_addresses() {
    for (cloud, tenant, login, smtp, scope) in [
        (
            "public",
            "contoso.com",
            "login.microsoftonline.com",
            "smtp.office365.com:587",
            "https://outlook.office.com/SMTP.Send",
        ),
        (
            "gcc-high",
            "contoso.us",
            "login.microsoftonline.us",
            "smtp.office365.us:587",
            "https://outlook.office365.us/SMTP.Send",
        ),
        (
            "china",
            "contoso.partner.onmschina.cn",
            "login.partner.microsoftonline.cn",
            "smtp.partner.outlook.cn:587",
            "https://partner.outlook.cn/SMTP.Send",
        ),
        (
            "personal",
            "",
            "login.microsoftonline.com",
            "smtp-mail.outlook.com:587",
            "https://outlook.office.com/SMTP.Send",
        ),
    ] {
        let line = if tenant.is_empty() { String::new() } else { format!("tenant = {tenant:?}") };
        let text = format!(
            "[[account]]\nmailbox = 'a@b.de'\nclient_id = '11111111-2222-3333-4444-555555555555'\ncloud = {cloud:?}\n{line}"
        );
        let config = load(&text).unwrap();
        let account = &config.accounts[0];
        let tenant = if tenant.is_empty() { "consumers" } else { tenant };
        assert_eq!(account.tenant, tenant);
        assert_eq!(account.endpoints.token, format!("https://{login}/{tenant}/oauth2/v2.0/token"));
        assert_eq!(account.endpoints.device, Some(format!("https://{login}/{tenant}/oauth2/v2.0/devicecode")));
        assert_eq!(account.endpoints.scopes, [scope, "offline_access"]);
        assert_eq!((account.smtp.to_string().as_str(), account.smtp_tls), (smtp, SmtpTls::StartTls));
    }
}

#[test]
fn a_custom_provider_needs_its_own_addresses_and_no_tenant() {
    let config = load(
        r#"
        [[account]]
        mailbox = "lms@example.com"
        login = "robot@example.com"
        provider = "custom"
        client_id = "relay"
        token_url = "http://127.0.0.1:8080/token"
        smtp = "localhost:2526"
        smtp_tls = "none"
        "#,
    );
    let config = config.unwrap();
    let account = &config.accounts[0];
    assert_eq!(
        (account.provider, account.tenant.as_str(), account.client_id.as_str()),
        (Provider::Custom, "", "relay")
    );
    assert_eq!(account.login.to_string(), "robot@example.com");
    let endpoints = Endpoints {
        token: "http://127.0.0.1:8080/token".to_owned(),
        authorize: None,
        device: None,
        scopes: Vec::new(),
    };
    assert_eq!(account.endpoints, endpoints);
    assert_eq!(account.smtp, HostPort { host: "localhost".to_owned(), port: 2526 });
    assert_listing(
        "[[account]]\nmailbox = 'a@b.de'\nprovider = 'custom'\ncloud = 'public'\n",
        &[
            "1: account[0].client_id: is missing: write the client id that the provider gave you",
            "1: account[0].token_url: is missing: a custom provider needs the address of its token endpoint, for example \
             https://login.example.com/token",
            "1: account[0].smtp: is missing: a custom provider needs its server, for example smtp.example.com:587",
            "4: account[0].cloud: is Microsoft's: a custom provider has none, remove it",
        ],
    );
}

#[test]
fn microsoft_can_be_rehearsed_elsewhere() {
    let text = format!(
        "{ACCOUNT}token_url = 'http://[::1]:9/t'\ndevice_url = 'https://x.example/d'\nscopes = ['a', 'offline_access']\n\
         smtp = '127.0.0.1:9'\nsmtp_tls = 'none'\n"
    );
    let config = load(&text).unwrap();
    let account = &config.accounts[0];
    assert_eq!(account.endpoints.token, "http://[::1]:9/t");
    assert_eq!(account.endpoints.device.as_deref(), Some("https://x.example/d"));
    assert_eq!((account.endpoints.scopes.len(), account.smtp.to_string().as_str()), (2, "127.0.0.1:9"));
    assert_eq!(config.warnings, []);
}

#[test]
fn what_can_be_lived_with_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("relay.toml");
    let text = format!(
        "{}client_secret = {{ file = 'secret' }}\nclient_secret_expires = 2020-01-01\nconnections = 5\n[[listener]]\nidle_timeout = '10s'",
        ACCOUNT.trim_start()
    );
    std::fs::write(&file, text.replace("11111111-2222-3333-4444-555555555555", "00000000-0000-0000-0000-000000000000"))
        .unwrap();
    let config = Config::load(&file, &Environment::default()).unwrap();
    let warnings: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
    let (file, secret) = (file.display(), folder.path().join("secret"));
    assert_eq!(
        warnings,
        [
            format!(
                "{file}:4: account[0].client_id: is still the placeholder: copy the Application (client) ID from the app registration's overview page"
            ),
            format!("{file}:5: account[0].client_secret: the secret file {} does not exist", secret.display()),
            format!(
                "{file}:6: account[0].client_secret_expires: 2020-01-01 is in the past: make a new secret in Entra ID, or correct the date"
            ),
            format!(
                "{file}:7: account[0].connections: 5 is more than Exchange Online takes (3): it refuses or slows what goes beyond"
            ),
            format!(
                "{file}:9: listener[0].idle_timeout: is short: programs that keep a session open, such as Moodle, lose their next mail when it is closed; 5m and more is safe"
            ),
        ]
    );
    assert_eq!(config.accounts[0].client_secret, Some(SecretSource::File(secret)));
}

#[test]
fn extra_roots_are_read_with_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let key = rcgen::generate_simple_self_signed(vec!["ca.contoso.com".to_owned()]).unwrap();
    std::fs::write(folder.path().join("ca.pem"), key.cert.pem().repeat(2)).unwrap();
    std::fs::write(
        folder.path().join("bad.pem"),
        "-----BEGIN CERTIFICATE-----\nnonsense!\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    let file = folder.path().join("relay.toml").display().to_string();
    let load = |name: &str| Config::from_text(&format!("{ACCOUNT}ca_file = {name:?}"), &file, &Environment::default());
    let config = load("ca.pem").unwrap();
    assert_eq!(config.accounts[0].ca_file, Some(folder.path().join("ca.pem")));
    assert_eq!(*config.accounts[0].extra_roots, [key.cert.der().clone(), key.cert.der().clone()]);
    let error = load("bad.pem").unwrap_err().to_string();
    assert!(error.ends_with("bad.pem is damaged: what is between BEGIN and END is no PEM"), "{error}");
}
