//! Exchange over a real socket.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::simulator::testing::{Client, HELLO, MAILBOX, blob, microsoft};
use crate::simulator::{Effect, Event, Fault, Mailbox, Phase, SharedLogin, Simulator, SmtpTls};

#[tokio::test]
async fn auth_is_offered_behind_starttls_only() {
    let microsoft = microsoft(|options| options.tls = SmtpTls::StartTls).await;
    let mut client = Client::dial(&microsoft).await;
    let greeting = client.reply().await;
    assert!(greeting.starts_with("220 SIM1P281CA0440") && greeting.contains("Microsoft ESMTP MAIL Service ready at "));
    let plain = client.say("EHLO client.example").await;
    assert!(plain.contains("Hello [127.0.0.1]") && plain.contains("\n250-STARTTLS\n") && !plain.contains("AUTH"));
    assert!(client.say("AUTH XOAUTH2").await.starts_with("530 5.7.0"));
    assert_eq!(client.say("STARTTLS").await, "220 2.0.0 SMTP server ready");
    let mut client = client.secure(&microsoft, "localhost").await.unwrap();
    assert!(client.say("MAIL FROM:<lms@contoso.com>").await.starts_with("503 5.5.2"), "a new EHLO is due");
    let secure = client.say("EHLO client.example").await;
    assert!(secure.contains("\n250-AUTH LOGIN XOAUTH2\n") && !secure.contains("STARTTLS"), "{secure}");
    assert!(secure.contains("\n250-SIZE 157286400\n") && secure.ends_with("\n250 SMTPUTF8"));
    assert_eq!(
        client.auth(MAILBOX, &microsoft.issue_access_token(MAILBOX)).await,
        "235 2.7.0 Authentication successful"
    );
    assert!(client.mail("a@b.example", HELLO).await.starts_with("250 2.0.0 OK <"));
    assert_eq!(client.say("QUIT").await, "221 2.0.0 Service closing transmission channel");
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn tls_from_the_first_byte_and_for_an_address() {
    let microsoft = microsoft(|options| options.tls = SmtpTls::Implicit).await;
    let mut client = Client::dial(&microsoft).await.secure(&microsoft, "127.0.0.1").await.unwrap();
    assert!(client.reply().await.starts_with("220 "));
    assert!(client.say("EHLO client.example").await.contains("AUTH LOGIN XOAUTH2"));
    assert!(Client::dial(&microsoft).await.secure(&microsoft, "example.com").await.is_err(), "not its name");
}

#[tokio::test]
async fn a_command_smuggled_in_behind_starttls_ends_the_session() {
    let microsoft = microsoft(|options| options.tls = SmtpTls::StartTls).await;
    let mut client = Client::connect(&microsoft).await;
    client.send(b"STARTTLS\r\nMAIL FROM:<lms@contoso.com>\r\n").await;
    assert!(client.reply().await.starts_with("554 5.5.3"));
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn xoauth2_works_in_one_step_and_in_two() {
    let microsoft = microsoft(|_| ()).await;
    let token = microsoft.issue_access_token(MAILBOX);
    let mut client = Client::connect(&microsoft).await;
    assert!(client.say(&format!("AUTH XOAUTH2 {}", blob("LMS@contoso.com", &token))).await.starts_with("235 2.7.0"));
    assert!(client.say("AUTH XOAUTH2").await.starts_with("503 5.5.2"));
    Client::signed_in(&microsoft).await;
    assert_eq!(microsoft.statistics().auth_attempts, 2);
    assert_eq!(microsoft.statistics().auth_refused, 0);
}

#[tokio::test]
async fn a_wrong_token_or_user_is_refused_without_a_reason_that_only_the_watcher_hears() {
    let microsoft = microsoft(|options| options.mailboxes.push(Mailbox::new("other@contoso.com"))).await;
    let mut events = microsoft.watch();
    let claims = |name: &str, value: &str| Map::from_iter([(name.to_owned(), Value::from(value))]);
    let good = microsoft.issue_access_token(MAILBOX);
    let graph = microsoft.issue_access_token_with(MAILBOX, &claims("aud", "https://graph.microsoft.com"));
    let no_scope = microsoft.issue_access_token_with(MAILBOX, &claims("scp", "Mail.Read"));
    let mut client = Client::connect(&microsoft).await;
    for (user, token, reason) in [
        (MAILBOX, "made.up.token", "not issued here"),
        (MAILBOX, graph.as_str(), "audience"),
        (MAILBOX, no_scope.as_str(), "SMTP.Send"),
        ("other@contoso.com", good.as_str(), "belongs to lms@contoso.com"),
        ("nobody@contoso.com", good.as_str(), "no such mailbox"),
    ] {
        let reply = client.auth(user, token).await;
        assert!(reply.starts_with("535 5.7.3 Authentication unsuccessful [SIM1P281CA0440"), "{reply}");
        let told = loop {
            if let Event::SignInRefused { reason, user: Some(told), .. } = events.recv().await.unwrap() {
                assert_eq!(told, user);
                break reason;
            }
        };
        assert!(told.contains(reason), "{told}");
    }
    assert_eq!(client.say("AUTH XOAUTH2").await, "334 ");
    assert!(client.say("this is no base64").await.starts_with("535 5.7.3"));
    let reply = client.say("MAIL FROM:<lms@contoso.com>").await;
    assert!(reply.starts_with("530 5.7.57 Client not authenticated to send mail. Error: 535 5.7.3 "), "{reply}");
    assert_eq!(microsoft.statistics().auth_refused, 6);
    assert_eq!(microsoft.statistics().auth_attempts, 6);
}

#[tokio::test]
async fn a_person_opens_a_shared_mailbox_that_they_were_given() {
    for (policy, as_person, as_mailbox) in
        [(SharedLogin::Person, "235", "535"), (SharedLogin::Mailbox, "535", "235"), (SharedLogin::Both, "235", "235")]
    {
        let shared = Mailbox::new("shared@contoso.com").shared_with(MAILBOX);
        let other = Mailbox::new("other@contoso.com");
        let microsoft = microsoft(|options| {
            options.mailboxes.extend([shared, other]);
            options.shared_login = policy;
        })
        .await;
        for (owner, user, expected) in [
            (MAILBOX, MAILBOX, as_person),
            (MAILBOX, "shared@contoso.com", as_mailbox),
            (MAILBOX, "other@contoso.com", "535"),
            ("other@contoso.com", "other@contoso.com", "235"),
            ("other@contoso.com", "shared@contoso.com", "535"),
        ] {
            let reply = Client::connect(&microsoft).await.auth(user, &microsoft.issue_access_token(owner)).await;
            assert!(reply.starts_with(expected), "{policy:?}, {owner} as {user}: {reply}");
        }
    }
}

#[tokio::test]
async fn passwords_and_other_mechanisms_are_refused() {
    let microsoft = microsoft(|_| ()).await;
    let mut client = Client::connect(&microsoft).await;
    assert_eq!(client.say("auth login").await, "334 VXNlcm5hbWU6");
    assert_eq!(client.say("bG1z").await, "334 UGFzc3dvcmQ6");
    assert!(client.say("c2VjcmV0").await.starts_with("535 5.7.139 Authentication unsuccessful, basic authentication"));
    assert!(client.say("AUTH PLAIN AGEAYg==").await.starts_with("504 5.7.4 Unrecognized authentication type"));
    assert_eq!(client.say("AUTH XOAUTH2").await, "334 ");
    assert!(client.say("*").await.starts_with("501 5.7.3"));
}

#[tokio::test]
async fn what_comes_out_of_order_is_refused() {
    let microsoft = microsoft(|_| ()).await;
    let mut client = Client::dial(&microsoft).await;
    client.reply().await;
    assert!(client.say("MAIL FROM:<lms@contoso.com>").await.starts_with("503 5.5.2 Send hello first"));
    assert!(client.say("EHLO client.example").await.starts_with("250-"));
    let reply = client.say("MAIL FROM:<lms@contoso.com>").await;
    assert!(reply.starts_with("530 5.7.57 Client not authenticated to send mail. [SIM"), "{reply}");
    let mut client = Client::signed_in(&microsoft).await;
    assert!(client.say("RCPT TO:<a@b.example>").await.starts_with("503 5.5.2"));
    assert!(client.say("DATA").await.starts_with("503 5.5.2"));
    assert!(client.say("MAIL FROM:<lms@contoso.com>").await.starts_with("250 "));
    assert!(client.say("MAIL FROM:<lms@contoso.com>").await.starts_with("503 5.5.2"));
    assert!(client.say("DATA").await.starts_with("503 5.5.2 Need rcpt"));
    assert_eq!(client.say("Length: 2").await, "500 5.3.3 Unrecognized command 'Length: 2'");
    assert!(client.say("NOOP\nNOOP").await.starts_with("501 5.5.4"), "a bare line feed ends no line");
    assert!(client.say("VRFY lms").await.starts_with("252 "));
    assert!(client.say("RSET").await.starts_with("250 "));
    assert!(client.say("RCPT TO:<a@b.example>").await.starts_with("503 5.5.2"));
}

#[tokio::test]
async fn parameters_are_known_or_refused() {
    let microsoft = microsoft(|_| ()).await;
    let mut client = Client::signed_in(&microsoft).await;
    for (line, code) in [
        ("MAIL FROM:<lms@contoso.com> SIZE=1000 BODY=8BITMIME RET=HDRS ENVID=abc SMTPUTF8", "250 "),
        ("MAIL FROM:<lms@contoso.com> SIZE=999999999", "552 5.3.4"),
        ("MAIL FROM:<lms@contoso.com> SIZE=many", "501 5.5.4"),
        ("MAIL FROM:<lms@contoso.com> BODY=9BIT", "501 5.5.4"),
        ("MAIL FROM:<lms@contoso.com> PRIORITY=1", "555 5.5.4"),
        ("MAIL FROM:<m\u{fc}ller@contoso.com>", "553 5.6.7"),
        ("MAIL FROM:lms@contoso.com", "501 5.1.7"),
        ("MAIL FROM:<lms@contoso.com>", "250 "),
    ] {
        let reply = client.say(line).await;
        assert!(reply.starts_with(code), "{line}: {reply}");
        if line.ends_with("SMTPUTF8") {
            client.say("RSET").await;
        }
    }
    for (line, code) in [
        ("RCPT TO:<a@b.example> NOTIFY=NEVER ORCPT=rfc822;a@b.example", "250 "),
        ("RCPT TO:<a@b.example> SIZE=1", "555 5.5.4"),
        ("RCPT TO:<a@b.example> NOTIFY", "501 5.5.4"),
        ("RCPT TO:<>", "501 5.1.3"),
    ] {
        let reply = client.say(line).await;
        assert!(reply.starts_with(code), "{line}: {reply}");
    }
}

#[tokio::test]
async fn what_was_accepted_is_kept_as_it_came() {
    let microsoft = microsoft(|_| ()).await;
    let mut client = Client::signed_in(&microsoft).await;
    assert!(client.say("MAIL FROM:<LMS@contoso.com> BODY=8BITMIME SIZE=70").await.starts_with("250 "));
    assert!(client.say("RCPT TO:<a@b.example> NOTIFY=NEVER").await.starts_with("250 "));
    assert!(client.say("RCPT TO:<c@d.example>").await.starts_with("250 "));
    client.say("DATA").await;
    client.send(b"From: \"\xc3\xbc\" <lms@contoso.com>\r\n\r\n..dot\r\n\xff\x00\r\n").await;
    let reply = client.say(".").await;
    let kept = microsoft.accepted();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].mailbox, MAILBOX);
    assert_eq!(kept[0].mail_from, "LMS@contoso.com");
    assert_eq!(kept[0].mail_params, "BODY=8BITMIME SIZE=70");
    assert_eq!(kept[0].recipients, ["a@b.example", "c@d.example"]);
    assert_eq!(kept[0].recipient_params, ["NOTIFY=NEVER", ""]);
    assert_eq!(&kept[0].bytes[..], b"From: \"\xc3\xbc\" <lms@contoso.com>\r\n\r\n.dot\r\n\xff\x00\r\n");
    assert_eq!(kept[0].reply, reply);
    assert!(
        reply.starts_with("250 2.0.0 OK <SIM1P281MB")
            && reply.ends_with("[Hostname=SIM1P281CA0440.outlook.office365.test]")
    );
}

#[tokio::test]
async fn commands_may_come_all_at_once() {
    let microsoft = microsoft(|_| ()).await;
    let mut client = Client::signed_in(&microsoft).await;
    client.send(b"MAIL FROM:<lms@contoso.com>\r\nRCPT TO:<a@b.example>\r\nRCPT TO:<wrong>\r\nDATA\r\n").await;
    for code in ["250 2.1.0", "250 2.1.5", "501 5.1.3", "354 "] {
        assert!(client.reply().await.starts_with(code));
    }
    client.send(format!("{HELLO}.\r\nMAIL FROM:<lms@contoso.com>\r\nRSET\r\nQUIT\r\n").as_bytes()).await;
    for code in ["250 2.0.0 OK", "250 2.1.0", "250 2.0.0", "221 2.0.0"] {
        assert!(client.reply().await.starts_with(code));
    }
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_message_may_come_in_chunks() {
    let microsoft = microsoft(|_| ()).await;
    let mut client = Client::signed_in(&microsoft).await;
    client.send(b"BDAT 3\r\nabcMAIL FROM:<lms@contoso.com> BODY=BINARYMIME\r\nRCPT TO:<a@b.example>\r\n").await;
    for code in ["503 5.5.2", "250 2.1.0", "250 2.1.5"] {
        assert!(client.reply().await.starts_with(code));
    }
    client.send(b"BDAT 30\r\nFrom: lms@contoso.com\r\n\r\n.\r\n\n\n").await;
    assert_eq!(client.reply().await, "250 2.0.0 30 octets received");
    assert!(client.say("DATA").await.starts_with("503 5.5.2"));
    client.send(b"BDAT 4 LAST\r\n.\r\nx").await;
    assert!(client.reply().await.starts_with("250 2.0.0 OK"));
    assert_eq!(&microsoft.accepted()[0].bytes[..], b"From: lms@contoso.com\r\n\r\n.\r\n\n\n.\r\nx");
}

#[tokio::test]
async fn a_minute_takes_so_many_messages_and_no_more() {
    let clock = std::sync::Arc::new(std::sync::Mutex::new(Timestamp::from_second(1_800_000_000).unwrap()));
    let now = std::sync::Arc::clone(&clock);
    let microsoft = microsoft(|options| {
        options.messages_per_minute = 2;
        options.now = std::sync::Arc::new(move || *now.lock().unwrap());
    })
    .await;
    let mut client = Client::signed_in(&microsoft).await;
    for _ in 0..2 {
        assert!(client.mail("a@b.example", HELLO).await.starts_with("250 2.0.0"));
    }
    let refused = client.mail("a@b.example", HELLO).await;
    assert!(refused.starts_with("432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded"), "{refused}");
    *clock.lock().unwrap() += Duration::from_mins(1);
    assert!(client.mail("a@b.example", HELLO).await.starts_with("250 2.0.0"));
    let statistics = microsoft.statistics();
    assert_eq!((statistics.accepted, statistics.refused, statistics.throttled), (3, 1, 1));
}

#[tokio::test]
async fn a_session_too_many_is_refused_behind_its_messages_until_another_closes() {
    let microsoft = microsoft(|options| options.connections = 1).await;
    let mut first = Client::signed_in(&microsoft).await;
    let mut second = Client::signed_in(&microsoft).await;
    let refused = second.mail("a@b.example", HELLO).await;
    assert!(refused.starts_with("432 4.3.2 Concurrent connections limit exceeded."), "{refused}");
    assert!(first.mail("a@b.example", HELLO).await.starts_with("250 2.0.0"));
    let mut events = microsoft.watch();
    first.say("QUIT").await;
    drop(first);
    while !matches!(events.recv().await.unwrap(), Event::Disconnected { .. }) {}
    assert!(second.mail("a@b.example", HELLO).await.starts_with("250 2.0.0"));
    let statistics = microsoft.statistics();
    assert_eq!((statistics.connections, statistics.open, statistics.most_open), (2, 1, 2));
}

#[tokio::test]
async fn a_day_takes_so_many_recipients_and_a_message_too() {
    let microsoft = microsoft(|options| {
        options.recipients_per_day = 3;
        options.max_recipients = 2;
    })
    .await;
    let mut client = Client::signed_in(&microsoft).await;
    client.say("MAIL FROM:<lms@contoso.com>").await;
    assert!(client.say("RCPT TO:<a@b.example>").await.starts_with("250 "));
    assert!(client.say("RCPT TO:<b@b.example>").await.starts_with("250 "));
    assert_eq!(client.say("RCPT TO:<c@b.example>").await, "452 4.5.3 Too many recipients");
    client.say("DATA").await;
    client.send(HELLO.as_bytes()).await;
    assert!(client.say(".").await.starts_with("250 2.0.0"));
    assert!(client.mail("a@b.example", HELLO).await.starts_with("250 2.0.0"));
    let refused = client.mail("a@b.example", HELLO).await;
    assert_eq!(refused, "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException");
}

#[tokio::test]
async fn what_a_message_must_not_be_is_said_behind_the_final_dot() {
    let microsoft = microsoft(|options| {
        options.mailboxes[0] = Mailbox::new(MAILBOX).send_as("noreply@contoso.com");
        options.max_message_size = 1000;
    })
    .await;
    let mut client = Client::signed_in(&microsoft).await;
    let large = format!("{HELLO}{}\r\n", "x".repeat(1000));
    for (message, reply) in [
        ("From: noreply@contoso.com\r\n\r\nx\r\n", "250 2.0.0 OK"),
        (
            "From: dean@contoso.com\r\n\r\nx\r\n",
            "554 5.2.252 SendAsDenied; lms@contoso.com not allowed to send as dean@contoso.com;",
        ),
        ("Subject: x\r\n\r\nx\r\n", "550 5.7.512 Access denied"),
        ("", "550 5.7.512 Access denied"),
        ("From: lms@contoso.com, noreply@contoso.com\r\n\r\nx\r\n", "550 5.1.20 Multiple From"),
        ("From: lms@contoso.com\r\n\r\nbare\nline feed\r\n", "550 5.6.11 Invalid characters"),
        ("From: lms@contoso.com\r\n\r\nbare\rreturn\r\n", "550 5.6.11 Invalid characters"),
        (large.as_str(), "552 5.3.4 Message size exceeds"),
    ] {
        let said = client.mail("a@b.example", message).await;
        assert!(said.starts_with(reply), "{message:?}: {said}");
    }
    client.begin("", "a@b.example").await;
    client.send(HELLO.as_bytes()).await;
    assert!(client.say(".").await.contains("not allowed to send as <>;"));
    assert_eq!(microsoft.accepted_count(), 1);
}

#[tokio::test]
async fn only_the_true_end_ends_a_message_however_it_is_cut() {
    let microsoft = microsoft(|_| ()).await;
    let mut client = Client::signed_in(&microsoft).await;
    client.begin(MAILBOX, "a@b.example").await;
    for piece in [
        "From: lms@contoso.com\r\n\r\n",
        "x\n.\n",
        "\r",
        "\n.",
        "\n",
        "MAIL FROM:<evil@b.example>\r\n",
        ".",
        "\r",
        "\n",
    ] {
        client.send(piece.as_bytes()).await;
    }
    assert!(client.reply().await.starts_with("550 5.6.11"));
    assert_eq!(client.say("NOOP").await, "250 2.0.0 OK");
}

#[tokio::test]
async fn who_says_nothing_or_stays_too_long_is_sent_away() {
    let idle = microsoft(|options| options.idle_timeout = Duration::from_millis(1)).await;
    let mut client = Client::dial(&idle).await;
    client.reply().await;
    assert_eq!(client.reply().await, "451 4.7.0 Timeout waiting for client input");
    assert!(client.is_closed().await);
    let busy = microsoft(|options| options.session_life = Duration::from_millis(1)).await;
    let mut client = Client::dial(&busy).await;
    client.reply().await;
    assert!(client.reply().await.starts_with("421 4.4.1 Connection timed out. Total session duration: 00:00:0"));
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_flood_without_line_ends_is_cut_off() {
    let microsoft = microsoft(|_| ()).await;
    let mut client = Client::connect(&microsoft).await;
    client.send(&vec![b'x'; 17 * 1024]).await;
    assert!(client.reply().await.starts_with("500 5.5.2 Line too long"));
    assert!(client.is_closed().await);
}

/// Plays every row at its own phase; the same fault for another mailbox must not get in its way.
#[tokio::test]
async fn every_smtp_row_is_said_word_for_word_at_its_phase() {
    for row in crate::simulator::replies() {
        for (n, text) in row.texts.iter().enumerate() {
            let at_starttls = row.phase == Phase::StartTls;
            let microsoft =
                microsoft(|options| options.tls = if at_starttls { SmtpTls::StartTls } else { SmtpTls::None }).await;
            microsoft.fault(format!("{}#{},mailbox=other@contoso.com", row.id, n + 1).parse().unwrap());
            microsoft.fault(format!("{}#{}*1", row.id, n + 1).parse().unwrap());
            let said = if at_starttls {
                vec![Client::connect(&microsoft).await.say("STARTTLS").await]
            } else {
                replies_of_a_whole_session(&microsoft).await
            };
            assert!(said.contains(text), "{}: {said:#?}", row.id);
        }
    }
}

async fn replies_of_a_whole_session(microsoft: &Simulator) -> Vec<String> {
    let credentials = blob(MAILBOX, &microsoft.issue_access_token(MAILBOX));
    let envelope = [
        "EHLO client.example",
        "AUTH XOAUTH2",
        &credentials,
        "",
        "MAIL FROM:<lms@contoso.com>",
        "RCPT TO:<a@b.example>",
    ];
    let mut client = Client::dial(microsoft).await;
    let mut said = vec![client.reply().await];
    for line in envelope.into_iter().chain(["DATA", "From: lms@contoso.com\r\n\r\n.", "QUIT"]) {
        let last = said.last().cloned().unwrap_or_default();
        if last.is_empty() {
            break;
        }
        // The empty line answers a 334 behind the token.
        if !line.is_empty() || last.starts_with("334") {
            said.push(client.say_to_the_end(line).await);
        }
    }
    said
}

#[tokio::test]
async fn a_refused_recipient_leaves_the_others() {
    let microsoft = microsoft(|_| ()).await;
    microsoft.fault(r#"rcpt="550 5.1.1 Gone",to=gone@b.example"#.parse().unwrap());
    microsoft.fault(Fault::row("5.7.703").unwrap().for_recipient("blocked@b.example"));
    let mut client = Client::signed_in(&microsoft).await;
    client.say("MAIL FROM:<lms@contoso.com>").await;
    assert_eq!(client.say("RCPT TO:<Gone@b.example>").await, "550 5.1.1 Gone");
    assert!(client.say("RCPT TO:<here@b.example>").await.starts_with("250 "));
    client.say("DATA").await;
    client.send(HELLO.as_bytes()).await;
    assert!(client.say(".").await.starts_with("250 "));
    assert_eq!(microsoft.accepted()[0].recipients, ["here@b.example"]);
    assert!(client.mail("blocked@b.example", HELLO).await.starts_with("550 5.7.703"));
}

#[tokio::test]
async fn a_connection_is_dropped_where_it_was_told_and_the_message_kept_or_not() {
    for (fault, kept) in
        [("data_end=drop*1", 0), ("keep-drop*1", 1), ("body=drop*1", 0), ("drop:10*1", 0), ("drop:100000*1", 0)]
    {
        let microsoft = microsoft(|_| ()).await;
        let mut client = Client::signed_in(&microsoft).await;
        microsoft.fault(fault.parse().unwrap());
        client.begin(MAILBOX, "a@b.example").await;
        // The far side may be gone before all is written.
        client.send(b"From: lms@contoso.com\r\n").await;
        assert_eq!(client.say_to_the_end("\r\n.").await, "", "{fault}");
        assert_eq!(microsoft.accepted_count(), kept, "{fault}");
        let mut again = Client::signed_in(&microsoft).await;
        assert!(again.mail("a@b.example", HELLO).await.starts_with("250 "), "{fault} strikes once");
    }
    for phase in [Phase::Connect, Phase::Ehlo, Phase::Auth, Phase::Mail, Phase::Rcpt, Phase::Data] {
        let microsoft = microsoft(|_| ()).await;
        microsoft.fault(Fault::at(phase, Effect::Drop).unwrap());
        let said = replies_of_a_whole_session(&microsoft).await;
        assert_eq!(said.last().map(String::as_str), Some(""), "{phase}");
    }
}

#[tokio::test]
async fn silence_lasts_until_the_client_goes() {
    for fault in ["mail=silence", "data_end=silence", "keep-silence", "connect=silence"] {
        let microsoft = microsoft(|_| ()).await;
        let mut events = microsoft.watch();
        microsoft.fault(fault.parse().unwrap());
        let conversation = async { replies_of_a_whole_session(&microsoft).await };
        let struck = async { while !matches!(events.recv().await.unwrap(), Event::Broken { .. }) {} };
        tokio::select! {
            said = conversation => panic!("{fault}: {said:?}"),
            () = struck => {}
        }
        while !matches!(events.recv().await.unwrap(), Event::Disconnected { .. }) {}
        assert_eq!(microsoft.accepted_count(), usize::from(fault == "keep-silence"), "{fault}");
    }
}

#[tokio::test]
async fn a_late_answer_comes_after_those_before_it() {
    let microsoft = microsoft(|options| options.latency.command = Duration::from_millis(1)).await;
    let mut client = Client::signed_in(&microsoft).await;
    microsoft.fault("rcpt=wait:1h".parse().unwrap());
    client.send(b"MAIL FROM:<lms@contoso.com>\r\nRCPT TO:<a@b.example>\r\n").await;
    assert_eq!(client.reply().await, "250 2.1.0 Sender OK");
    microsoft.clear_faults();
    let mut client = Client::signed_in(&microsoft).await;
    microsoft.fault("rcpt=wait:1ms".parse().unwrap());
    assert!(client.mail("a@b.example", HELLO).await.starts_with("250 "));
}

#[tokio::test]
async fn positive_words_replace_words_only_and_a_notice_follows_an_acceptance() {
    let microsoft = microsoft(|_| ()).await;
    let mut client = Client::signed_in(&microsoft).await;
    microsoft.fault(r#"data_end="250 fine"*1"#.parse().unwrap());
    assert_eq!(client.mail("a@b.example", HELLO).await, "250 fine");
    microsoft.fault("ndr:5.1.8*1".parse().unwrap());
    assert!(client.mail("a@b.example", HELLO).await.starts_with("250 2.0.0 OK"));
    let kept = microsoft.accepted();
    assert_eq!(kept[0].reply, "250 fine");
    assert_eq!(kept[1].notice.as_deref(), Some("550 5.1.8 Access denied, bad outbound sender"));
}

#[tokio::test]
async fn a_421_ends_the_session_and_the_reply_is_not_lost() {
    let microsoft = microsoft(|_| ()).await;
    let mut client = Client::signed_in(&microsoft).await;
    microsoft.fault("mail=421-4.3.2-not-available*1".parse().unwrap());
    client.send(b"MAIL FROM:<lms@contoso.com>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n").await;
    assert_eq!(client.reply().await, "421 4.3.2 Service not available");
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn many_messages_on_many_sessions_are_all_kept() {
    let microsoft = std::sync::Arc::new(microsoft(|options| options.keep = 150).await);
    let sessions: Vec<_> = (0..10)
        .map(|_| {
            let microsoft = std::sync::Arc::clone(&microsoft);
            tokio::spawn(async move {
                let mut client = Client::signed_in(&microsoft).await;
                for _ in 0..20 {
                    assert!(client.mail("a@b.example", HELLO).await.starts_with("250 "));
                }
            })
        })
        .collect();
    microsoft.wait_for_accepted(200).await;
    for session in sessions {
        session.await.unwrap();
    }
    assert_eq!(microsoft.accepted_count(), 200);
    assert_eq!(microsoft.accepted().len(), 150, "as many as it was told to keep");
    assert_eq!(microsoft.statistics().commands["DATA"], 200);
}
