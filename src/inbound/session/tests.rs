use super::*;
use crate::inbound::route::SaidIn;
use crate::message::Address;

pub(super) fn facts() -> Facts {
    Facts {
        hostname: "relay.test".into(),
        listener: "127.0.0.1:2525".parse().unwrap(),
        max_message_size: 35 << 20,
        max_recipients: 2,
        password: Passwords::Any,
        default_domain: None,
        peer: "10.2.3.4".parse().unwrap(),
        welcome: Welcome::Allowed,
        tls: Tls::None,
    }
}

fn session() -> Session {
    Session::new(facts())
}

/// Says the lines and gives the code (and enhanced code) of each answer; a body is read at once and queued.
fn say(session: &mut Session, lines: &[&str]) -> Vec<String> {
    lines.iter().flat_map(|line| answers(session, line)).collect()
}

fn answers(session: &mut Session, line: &str) -> Vec<String> {
    let code = |reply: &Reply| format!("{} {}", reply.code(), reply.enhanced().unwrap_or("-"));
    match session.on(Ok(line.as_bytes()), Room::Enough) {
        Event::Reply(reply) | Event::Chunk(Chunk::Refused(_, reply)) => vec![code(&reply)],
        Event::StartTls(reply) => vec![code(&reply), "tls".into()],
        Event::Close(reply) => vec![code(&reply), "closed".into()],
        Event::Login(login) => {
            let outcome = match login.password.expose() {
                b"right" => LoginOutcome::In(login.user),
                b"who knows" => LoginOutcome::Unavailable,
                _ => LoginOutcome::Refused,
            };
            match session.on_login(outcome) {
                Event::Close(reply) => vec![code(&reply), "closed".into()],
                Event::Reply(reply) => vec![code(&reply)],
                other => panic!("{other:?} is no answer to a login"),
            }
        }
        Event::Body(reply, mail) => {
            assert!(!mail.envelope.recipients.is_empty());
            vec![code(&reply), code(&reply_to(session.on_body(Outcome::Queued(QueueId::from_number(1)))))]
        }
        Event::Chunk(Chunk::Part(size)) => {
            assert!(session.is_chunking());
            vec![code(&reply_to(session.on_chunk(size)))]
        }
        Event::Chunk(Chunk::Last(_, mail)) => {
            assert!(!mail.envelope.recipients.is_empty());
            vec![code(&reply_to(session.on_body(Outcome::Queued(QueueId::from_number(1)))))]
        }
    }
}

fn reply_to(event: Event) -> Reply {
    let Event::Reply(reply) = event else { panic!("nothing is closed or read now") };
    reply
}

#[test]
fn dialogues_are_answered_as_the_table_says() {
    const MAIL: &str = "MAIL FROM:<a@b.example>";
    const RCPT: &str = "RCPT TO:<c@d.example>";
    for (lines, expected) in [
        (
            &["EHLO x", MAIL, RCPT, "DATA", "QUIT"][..],
            &["250 -", "250 2.1.0", "250 2.1.5", "354 -", "250 2.0.0", "221 2.0.0", "closed"][..],
        ),
        (&["HELO x", "AUTH LOGIN", "YQ==", "YQ=="], &["250 -", "334 -", "334 -", "235 2.7.0"]),
        (&[MAIL, RCPT, "DATA"], &["250 2.1.0", "250 2.1.5", "354 -", "250 2.0.0"]),
        (&[MAIL, RCPT, RCPT, RCPT], &["250 2.1.0", "250 2.1.5", "250 2.1.5", "452 4.5.3"]),
        (&[RCPT, "DATA", MAIL, "DATA", MAIL], &["503 5.5.1", "503 5.5.1", "250 2.1.0", "554 5.5.1", "503 5.5.1"]),
        (&[MAIL, RCPT, "RSET", "DATA", MAIL], &["250 2.1.0", "250 2.1.5", "250 2.0.0", "503 5.5.1", "250 2.1.0"]),
        (&[MAIL, "EHLO again", RCPT], &["250 2.1.0", "250 -", "503 5.5.1"]),
        (&["MAIL FROM:<>", "RCPT TO:<root>", "RCPT TO:<a@b..c>"], &["250 2.1.0", "550 5.1.3", "501 5.1.3"]),
        (
            &["MAIL FROM:<root>", "MAIL FROM:<a@b> SIZE=99999999", "MAIL FROM:<a@b> HOLDFOR=5"],
            &["501 5.1.7", "552 5.3.4", "555 5.5.4"],
        ),
        (
            &["MAIL FROM:<a@b> BODY=BINARYMIME", "MAIL FROM:<é@b>", "MAIL FROM:<é@b> SMTPUTF8"],
            &["555 5.5.4", "553 5.6.7", "250 2.1.0"],
        ),
        (&[MAIL, "RCPT TO:<é@b>"], &["250 2.1.0", "553 5.6.7"]),
        (
            &["NOOP", "VRFY x", "HELP", "EXPN x", "STARTTLS", "XYZZY", ""],
            &["250 2.0.0", "252 2.0.0", "214 2.0.0", "502 5.5.1", "502 5.5.1", "500 5.5.1", "500 5.5.1"],
        ),
        (&["AUTH PLAIN AGEAYQ==", "AUTH LOGIN"], &["235 2.7.0", "503 5.5.1"]),
        (
            &["AUTH PLAIN", "*", "AUTH LOGIN", "%", "AUTH CRAM-MD5", "AUTH XOAUTH2 YQ==", "AUTH PLAIN", "AGEAYQ=="],
            &["334 -", "501 5.7.0", "334 -", "501 5.5.2", "504 5.5.4", "504 5.5.4", "334 -", "235 2.7.0"],
        ),
        (&[MAIL, "AUTH LOGIN", RCPT], &["250 2.1.0", "503 5.5.1", "250 2.1.5"]),
        (&["BDAT 5 LAST", MAIL, "BDAT 5"], &["503 5.5.1", "250 2.1.0", "554 5.5.1"]),
        (
            &[MAIL, RCPT, "BDAT 5", RCPT, "DATA", MAIL, "AUTH LOGIN", "NOOP", "BDAT 0", "bdat 5 last", "BDAT 0 LAST"],
            &[
                "250 2.1.0",
                "250 2.1.5",
                "250 2.0.0",
                "503 5.5.1",
                "503 5.5.1",
                "503 5.5.1",
                "503 5.5.1",
                "250 2.0.0",
                "250 2.0.0",
                "250 2.0.0",
                "503 5.5.1",
            ],
        ),
        (
            &[MAIL, RCPT, "BDAT 5", "RSET", "BDAT 5", MAIL, RCPT, "DATA"],
            &[
                "250 2.1.0",
                "250 2.1.5",
                "250 2.0.0",
                "250 2.0.0",
                "503 5.5.1",
                "250 2.1.0",
                "250 2.1.5",
                "354 -",
                "250 2.0.0",
            ],
        ),
        (&["BDAT"], &["501 5.5.4", "closed"]),
        (&["BDAT 18446744073709551616 LAST"], &["501 5.5.4", "closed"]),
        (&[MAIL, RCPT, "BDAT 18446744073709551615"], &["250 2.1.0", "250 2.1.5", "552 5.3.4", "closed"]),
        (&["POST / HTTP/1.1"], &["421 4.7.0", "closed"]),
    ] {
        assert_eq!(say(&mut session(), lines), expected, "{lines:?}");
    }
}

#[test]
fn starttls_is_answered_as_the_table_says() {
    const MAIL: &str = "MAIL FROM:<a@b.example>";
    for (tls, lines, expected) in [
        (Tls::Offered, &["STARTTLS"][..], &["220 2.0.0", "tls"][..]),
        (Tls::Offered, &["EHLO x", "AUTH PLAIN AGEAYQ==", "starttls "], &["250 -", "235 2.7.0", "220 2.0.0", "tls"]),
        (Tls::Offered, &["STARTTLS now"], &["501 5.5.4"]),
        (
            Tls::Offered,
            &[MAIL, "STARTTLS", "RSET", "STARTTLS"],
            &["250 2.1.0", "503 5.5.1", "250 2.0.0", "220 2.0.0", "tls"],
        ),
        (Tls::Required, &[MAIL, "AUTH LOGIN", "AUTH PLAIN AGEAYQ=="], &["530 5.7.0", "538 5.7.11", "538 5.7.11"]),
        (Tls::Required, &["RCPT TO:<c@d.example>", "DATA", "NOOP"], &["503 5.5.1", "503 5.5.1", "250 2.0.0"]),
        (Tls::Required, &["HELO x", MAIL, "STARTTLS"], &["250 -", "530 5.7.0", "220 2.0.0", "tls"]),
        (Tls::Started, &["STARTTLS", MAIL], &["503 5.5.1", "250 2.1.0"]),
        (Tls::Implicit, &["STARTTLS", "AUTH PLAIN AGEAYQ=="], &["503 5.5.1", "235 2.7.0"]),
    ] {
        assert_eq!(say(&mut Session::new(Facts { tls, ..facts() }), lines), expected, "{tls:?} {lines:?}");
    }
}

#[test]
fn ehlo_offers_what_can_be_had() {
    for (tls, starttls, auth) in [
        (Tls::None, false, true),
        (Tls::Offered, true, true),
        (Tls::Required, true, false),
        (Tls::Started, false, true),
        (Tls::Implicit, false, true),
    ] {
        let mut session = Session::new(Facts { tls, ..facts() });
        let Event::Reply(reply) = session.on(Ok(b"EHLO x"), Room::Enough) else { panic!("closed") };
        assert_eq!(reply.lines().contains(&"STARTTLS".to_owned()), starttls, "{tls:?}");
        assert_eq!(reply.lines().iter().any(|line| line.starts_with("AUTH")), auth, "{tls:?}");
        assert_eq!(Session::new(Facts { tls, ..facts() }).greeting().is_some(), tls != Tls::Started);
    }
}

#[test]
fn what_was_said_is_handed_over_with_the_message() {
    let mut session = session();
    say(
        &mut session,
        &["EHLO web.example", "AUTH PLAIN AG1vb2RsZQB4", "MAIL FROM:<A@b.example> SMTPUTF8", "RCPT TO:<c@d.example>"],
    );
    let Event::Body(_, mail) = session.on(Ok(b"DATA"), Room::Enough) else { panic!("no body asked for") };
    assert_eq!(mail.envelope.sender.map(|a| a.to_string()).as_deref(), Some("A@b.example"));
    assert_eq!(mail.envelope.recipients.len(), 1);
    assert!(mail.envelope.smtputf8);
    assert_eq!(mail.trace.helo.as_deref(), Some("web.example"));
    assert_eq!(mail.trace.user.as_deref(), Some("moodle"));
    assert_eq!(mail.trace.protocol, Protocol { extended: true, tls: false, authenticated: true });
}

#[test]
fn a_stranger_is_told_so_at_mail_and_not_for_ever() {
    let mut session = Session::new(Facts { welcome: Welcome::Stranger, ..facts() });
    let mail = "MAIL FROM:<a@b.example>";
    assert_eq!(say(&mut session, &["EHLO x", "AUTH PLAIN AGEAYQ==", mail]), ["250 -", "235 2.7.0", "550 5.7.1"]);
    assert_eq!(say(&mut session, &["RCPT TO:<c@d.example>", "DATA"]), ["503 5.5.1", "503 5.5.1"]);
    let Event::Reply(reply) = session.on(Ok(mail.as_bytes()), Room::Enough) else { panic!("closed too early") };
    assert!(reply.to_string().contains("10.2.3.4 may not send"), "{reply}");
    assert_eq!(say(&mut session, &[mail]), ["421 4.7.1", "closed"]);
}

#[test]
fn wrong_commands_are_counted_until_a_message_goes_through() {
    let mut session = session();
    for _ in 1..MAX_ERRORS {
        assert_eq!(say(&mut session, &["XYZZY"]), ["500 5.5.1"]);
    }
    say(&mut session, &["MAIL FROM:<>", "RCPT TO:<c@d.example>", "DATA"]);
    for _ in 1..MAX_ERRORS {
        assert_eq!(say(&mut session, &["XYZZY"]), ["500 5.5.1"]);
    }
    assert_eq!(say(&mut session, &["XYZZY"]), ["421 4.7.0", "closed"]);
}

#[test]
fn bad_addresses_do_not_cost_a_mailing_its_good_ones() {
    let mut session = session();
    say(&mut session, &["MAIL FROM:<>"]);
    for _ in 0..100 {
        assert_eq!(say(&mut session, &["RCPT TO:<nobody>"]), ["550 5.1.3"]);
    }
    assert_eq!(say(&mut session, &["RCPT TO:<c@d.example>"]), ["250 2.1.5"]);
}

#[test]
fn a_full_disk_is_said_at_mail() {
    let Event::Reply(reply) = session().on(Ok(b"MAIL FROM:<a@b>"), Room::None) else { panic!("closed") };
    assert_eq!((reply.code(), reply.enhanced()), (452, Some("4.3.1")));
}

#[test]
fn a_broken_line_ends_an_auth_exchange_and_no_more() {
    let mut session = session();
    say(&mut session, &["AUTH LOGIN"]);
    assert_eq!(session.expects(), Expect::AuthResponse);
    assert!(matches!(session.on(Err(LineError::TooLong), Room::Enough), Event::Reply(reply) if reply.code() == 500));
    assert_eq!(say(&mut session, &["NOOP"]), ["250 2.0.0"]);
}

#[test]
fn a_chunk_that_is_not_taken_ends_the_message() {
    let mut session = session();
    say(&mut session, &["MAIL FROM:<>", "RCPT TO:<c@d.example>", "BDAT 3"]);
    assert!(matches!(session.on(Ok(b"BDAT 3"), Room::Enough), Event::Chunk(Chunk::Part(3))));
    assert_eq!(reply_to(session.on_body(Outcome::TooLarge)).code(), 552);
    assert!(!session.is_chunking());
    assert_eq!(say(&mut session, &["BDAT 3 LAST", "MAIL FROM:<>"]), ["503 5.5.1", "250 2.1.0"]);
}

#[test]
fn the_log_names_a_refused_sender_and_its_app_as_the_reply_does() {
    let sender = Address::parse("a@b.example").unwrap();
    for (said_in, words) in [(SaidIn::Envelope, "MAIL FROM"), (SaidIn::Header, "From")] {
        let refused = Refused { app: "moodle".into(), sender: sender.clone(), said_in, mailbox: None };
        let why = Outcome::Sender(refused.clone()).to_string();
        assert_eq!(why, format!("{words} <a@b.example> is not among the senders of the app moodle"));
        let Event::Reply(reply) = session().on_body(Outcome::Sender(refused)) else { panic!("no reply") };
        assert!(reply.to_string().contains(&why), "{reply}");
    }
}

#[test]
fn no_outcome_of_a_body_is_left_without_words() {
    let sender = Address::parse("a@b.example").unwrap();
    let refused = Refused { app: "moodle".into(), sender, said_in: SaidIn::Header, mailbox: None };
    for (outcome, code) in [
        (Outcome::TooLarge, 552),
        (Outcome::Full, 452),
        (Outcome::Unavailable, 451),
        (Outcome::NoAccount, 451),
        (Outcome::Sender(refused), 550),
        (Outcome::SenderUnseen("moodle".into()), 550),
    ] {
        let event = session().on_body(outcome.clone());
        assert!(matches!(event, Event::Reply(reply) if reply.code() == code), "{outcome:?}");
    }
    for (outcome, code) in [(Outcome::Flood, 552), (Outcome::LoggedOut, 421)] {
        let event = session().on_body(outcome.clone());
        assert!(matches!(event, Event::Close(reply) if reply.code() == code), "{outcome:?}");
    }
}

/// AUTH PLAIN of the user moodle with this password.
fn plain(password: &str) -> String {
    use base64::Engine as _;
    format!("AUTH PLAIN {}", base64::engine::general_purpose::STANDARD.encode(format!("\0moodle\0{password}")))
}

fn checked() -> Session {
    Session::new(Facts { password: Passwords::Checked, ..facts() })
}

#[test]
fn where_passwords_are_checked_mail_waits_for_a_right_one() {
    const MAIL: &str = "MAIL FROM:<a@b.example>";
    let mut session = checked();
    assert_eq!(say(&mut session, &["EHLO x", MAIL, "RCPT TO:<c@d.example>"]), ["250 -", "530 5.7.0", "503 5.5.1"]);
    assert_eq!(say(&mut session, &[&plain("wrong"), MAIL]), ["535 5.7.8", "530 5.7.0"]);
    assert_eq!(say(&mut session, &[&plain("who knows"), MAIL]), ["454 4.7.0", "530 5.7.0"]);
    assert_eq!(session.user(), None);
    assert_eq!(say(&mut session, &["AUTH LOGIN", "bW9vZGxl", "cmlnaHQ="]), ["334 -", "334 -", "235 2.7.0"]);
    assert_eq!(session.user(), Some("moodle"));
    assert_eq!(say(&mut session, &[&plain("wrong"), MAIL]), ["503 5.5.1", "250 2.1.0"], "one login is enough");
}

#[test]
fn a_session_has_three_wrong_passwords() {
    let mut session = checked();
    let wrong = plain("wrong");
    assert_eq!(say(&mut session, &[&wrong, &wrong, &wrong]), ["535 5.7.8", "535 5.7.8", "421 4.7.0", "closed"]);
}

#[test]
fn a_stranger_learns_nothing_about_passwords() {
    for password in ["right", "wrong"] {
        let mut session = Session::new(Facts { welcome: Welcome::Stranger, password: Passwords::Checked, ..facts() });
        assert_eq!(say(&mut session, &[&plain(password), "MAIL FROM:<>"]), ["235 2.7.0", "550 5.7.1"]);
    }
}

#[test]
fn a_bare_name_gets_the_default_domain() {
    let mut session = Session::new(Facts { default_domain: Some("contoso.com".into()), ..facts() });
    assert_eq!(say(&mut session, &["MAIL FROM:<root>", "RCPT TO:<postmaster>"]), ["250 2.1.0", "250 2.1.5"]);
    let Event::Body(_, mail) = session.on(Ok(b"DATA"), Room::Enough) else { panic!("no body asked for") };
    assert_eq!(mail.envelope.sender.unwrap().as_str(), "root@contoso.com");
    assert_eq!(mail.envelope.recipients[0].address.as_str(), "postmaster@contoso.com");
}
