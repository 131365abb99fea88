//! Mails as real programs write them, and their lanes.

mod letters;

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::testing;
use crate::message::Address;
use letters::{Letter, moodle};

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn app(keys: &str) -> App {
    let config = testing::config_with(&format!("[[app]]\nname = 'moodle'\n{keys}"));
    App::clone(&config.apps[0])
}

fn to(addresses: &[&str]) -> Vec<Recipient> {
    addresses.iter().map(|text| Address::parse(text).unwrap().into()).collect()
}

/// One mail by itself, in a web request.
fn judged(app: &App, mail: &[u8]) -> Judged {
    judged_for(app, mail, &["anna@example.com"])
}

fn judged_for(app: &App, mail: &[u8], recipients: &[&str]) -> Judged {
    let way = Way::Connection { first: true, helo: Some("lms.example") };
    Lanes::default().judge(app, &Arrival { start: mail, recipients: &to(recipients), way, at: now() })
}

fn of(letter: &Letter) -> (Lane, String) {
    let Judged { lane, why } = judged(&app(""), &letter.bytes());
    (lane, why.unwrap_or_default())
}

#[test]
fn what_somebody_waits_for_in_moodle_is_urgent_in_every_language() {
    for (subject, text, path) in [
        (
            "LMS: Password reset request",
            "please go to:\r\n\r\nhttps://lms.example/login/forgot_password.php?token=aBc3\r\n",
            "/login/forgot_password.php",
        ),
        (
            "LMS: Kennwort zurücksetzen",
            "Öffnen Sie bitte diese Seite, die genügend lang ist, um umgebrochen zu werden: https://lms.example/moodle/login/forgot_password.php?token=aBc3DeFgHiJkLmNoPqRsTuVwXyZ0123456789",
            "/login/forgot_password.php",
        ),
        (
            "LMS: パスワードのリセット要求",
            "あなたのアカウントについて、次のページにアクセスしてください。https://lms.example/login/forgot_password.php?token=a",
            "/login/forgot_password.php",
        ),
        (
            "LMS: طلب",
            "مرحبا، الرابط https://lms.example/login/forgot_password.php?token=a شكرا",
            "/login/forgot_password.php",
        ),
        ("LMS: account confirmation", "https://lms.example/login/confirm.php?data=abc/anna", "/login/confirm.php"),
        (
            "Confirmation of email update at LMS",
            "https://lms.example/user/emailupdate.php?key=abc&id=7",
            "/user/emailupdate.php",
        ),
        (
            "Your account on LMS was locked out",
            "https://lms.example/login/unlock_account.php?u=7&s=abc",
            "/login/unlock_account.php",
        ),
        (
            "LMS: linked login confirmation",
            "https://lms.example/auth/oauth2/confirm-linkedlogin.php?token=a",
            "/auth/oauth2/confirm-linkedlogin.php",
        ),
        (
            "Here's your verification code",
            "482913 https://lms.example/admin/tool/mfa/factor/email/email.php?instance=1&pass=a",
            "/admin/tool/mfa/factor/email/email.php",
        ),
        ("LMS: New user account", "Username: anna\r\nhttps://lms.example/login/?lang=en", "/login/"),
    ] {
        let (lane, why) = of(&moodle(subject, text));
        assert_eq!(lane, Lane::Urgent, "{subject}: {why}");
        assert!(why.starts_with(&format!("a link to {path} (")), "{subject}: {why}");
        assert!(!why.contains("aBc3") && !why.contains("token"), "{why}");
    }
}

#[test]
fn the_text_is_decoded_however_it_was_written() {
    let text = "Grüße: https://lms.example/login/forgot_password.php?token=a";
    for letter in [
        moodle("x", text),
        Letter::new("x", text).encoded("base64"),
        Letter::new("x", text).encoded("8bit"),
        Letter::new("x", text).encoded("quoted-printable"),
        Letter::new("x", text).encoded("8bit").in_charset("iso-8859-1"),
        Letter::new("x", text).encoded("quoted-printable").in_charset("iso-8859-1"),
        Letter::new("x", "<p><a href=\"https://lms.example/login/forgot_password.php?x=1&amp;token=a\">x</a></p>")
            .html(),
    ] {
        let (lane, why) = of(&letter);
        assert_eq!(lane, Lane::Urgent, "{why}\n{}", String::from_utf8_lossy(&letter.bytes()));
        let bare = String::from_utf8_lossy(&letter.bytes()).replace("\r\n", "\n").into_bytes();
        assert_eq!(judged(&app(""), &bare).lane, of(&letter).0, "with Unix line ends");
    }
}

#[test]
fn other_programs_have_their_links_too() {
    for (text, path) in [
        ("https://canvas.example/pseudonyms/7/change_password/aBc", "/pseudonyms/*/change_password/"),
        ("https://blog.example/wp-login.php?action=rp&key=a&login=anna", "/wp-login.php"),
        ("https://cloud.example/index.php/lostpassword/reset/form/aBc/anna", "/lostpassword/reset/form/"),
        ("https://id.example/realms/x/login-actions/action-token?key=a&client_id=b", "/login-actions/action-token"),
        ("https://git.example/users/password/edit?reset_password_token=a", "/password/edit"),
        ("https://git.example/users/confirmation?confirmation_token=a", "/confirmation"),
        ("https://git.example/user/recover_account?code=a", "/user/recover_account"),
        ("https://grafana.example/user/password/reset?code=a", "/user/password/reset"),
    ] {
        let (lane, why) = of(&Letter::new("x", text));
        assert!(lane == Lane::Urgent && why.starts_with(&format!("a link to {path} (")), "{text}: {why}");
    }
    for text in [
        "https://lms.example/login/forgot_password.php",
        "https://lms.example/login/index.php",
        "https://lms.example/mod/forum/discuss.php?d=7#p8",
        "https://blog.example/wp-login.php?action=register",
        "https://x.example/evil?u=/login/forgot_password.php?token=a",
        "https://shop.example/order/confirmation?id=7",
    ] {
        assert_eq!(of(&Letter::new("x", text)), (Lane::Normal, String::new()), "{text}");
    }
}

#[test]
fn certain_bulk_is_tested_first() {
    let quoting = "As I wrote: https://lms.example/login/forgot_password.php?token=a";
    for (field, why) in [
        ("List-Id: \"Forum\" <moodleforum7@lms.example>", "its field List-Id"),
        ("List-Id: =?utf-8?Q?=22F=C3=B6rum=22_=3Cmoodleforum7=40x=3E?=", "its field List-Id"),
        ("List-Unsubscribe: <>", "its field List-Unsubscribe"),
        ("X-Course-Id: 7", "its field X-Course-Id"),
        ("Precedence: Bulk", "its field Precedence: bulk"),
        ("PRECEDENCE:   list", "its field Precedence: list"),
        ("X-Priority: 5 (Lowest)", "its field X-Priority: 5"),
        ("Importance: Low", "its field Importance: low"),
    ] {
        assert_eq!(of(&moodle("C1: hello", quoting).with(field)), (Lane::Bulk, why.to_owned()), "{field}");
    }
    let hash = "<0123456789abcdef0123456789ABCDEF0123456789abcdef0123456789abcdef@lms.example>";
    let post = Letter::new("C1: hello", quoting).with(&format!("Message-ID: {hash}"));
    assert_eq!(of(&post).0, Lane::Bulk);
    for field in [
        "X-Priority: 3",
        "Precedence: first-class",
        "Importance: high",
        "Auto-Submitted: auto-generated",
        "X-Mailer: PHPMailer",
    ] {
        assert_eq!(of(&Letter::new("hello", "x").with(field)), (Lane::Normal, String::new()), "{field}");
    }
}

#[test]
fn what_nobody_waits_for_is_normal() {
    for letter in [
        moodle("New message from Anna Berg", "Hi!\r\nhttps://lms.example/message/index.php?id=7"),
        moodle("You have submitted your assignment", "https://lms.example/mod/assign/view.php?id=7"),
        moodle("Welcome to C1", "https://lms.example/course/view.php?id=7"),
        moodle("New sign in to your LMS account", "https://lms.example/login/change_password.php"),
        Letter::new("[FIRING:1] Disk", "instance=db1 value=98213 threshold=90000 since 12:30")
            .with("X-Mailer: Grafana"),
        Letter::new("Cron <root@db1> wc -l /var/log/code", "48213\r\nlines of code\r\n")
            .with("X-Cron-Env: <SHELL=/bin/sh>"),
        Letter::new("Scan from printer 3", "See the file.").with("X-Mailer: RICOH"),
        Letter::new("Re: password reset", "> https://lms.example/login/forgot_password.php?token=a")
            .with("In-Reply-To: <x@y>"),
        Letter::new("about links", "> https://lms.example/login/forgot_password.php?token=a\r\nwhat is this?"),
        Letter::new("", ""),
    ] {
        let (lane, why) = of(&letter);
        assert_eq!((lane, why.as_str()), (Lane::Normal, ""), "{}", letter.subject);
    }
}

#[test]
fn codes_scripts_and_subjects_are_weaker_signs() {
    for (letter, why) in [
        (Letter::new("Anmelden", "Ihr Bestätigungscode lautet 482913."), "a short mail with a one-time code"),
        (
            Letter::new("ログイン", "認証コード：482913").in_charset("utf-8").encoded("base64"),
            "a short mail with a one-time code",
        ),
        (
            Letter::new("x", "<p>Hello Anna</p><h1>482 913</h1><p>It is good for ten minutes.</p>").html(),
            "a short mail with a one-time code",
        ),
        (
            Letter::new("x", "y").with("X-Moodle-Originating-Script: LMS => web1:/lib/moodlelib.php:6123"),
            "it comes from Moodle's lib/moodlelib.php",
        ),
        (Letter::new("Totara: Password Reset Request", "ask the desk"), "its subject says “password reset”"),
        (Letter::new("Passwort zurücksetzen", "x"), "its subject says “passwort zurücksetzen”"),
    ] {
        assert_eq!(of(&letter), (Lane::Urgent, why.to_owned()), "{}", letter.subject);
    }
    let notice = Letter::new("x", "y").with("X-Moodle-Originating-Script: LMS => web1:mod/assign/locallib.php:7");
    assert_eq!(of(&notice).0, Lane::Normal);
}

#[test]
fn a_mail_to_many_is_not_urgent() {
    let mail = moodle("LMS: Password reset request", "https://lms.example/login/forgot_password.php?token=a").bytes();
    let many = ["a@example.com", "b@example.com", "c@example.com", "d@example.com"];
    assert_eq!(judged_for(&app(""), &mail, &many[..3]).lane, Lane::Urgent);
    assert_eq!(judged_for(&app(""), &mail, &many), Judged { lane: Lane::Normal, why: None });
}

#[test]
fn the_administrator_decides_before_everything_else() {
    let reset = moodle("LMS: Password reset request", "https://lms.example/login/forgot_password.php?token=a");
    let post = moodle("C1: die Prüfung", "x").with("Precedence: Bulk");
    let fixed = app("lane = 'bulk'");
    assert_eq!(
        judged(&fixed, &reset.bytes()),
        Judged { lane: Lane::Bulk, why: Some("the lane of the app moodle".into()) }
    );
    let rules = app("[[app.lane_rule]]\nheader = 'subject'\nmatches = '*PRÜFUNG*'\nlane = 'urgent'\n\
         [[app.lane_rule]]\nheader = 'Subject'\nmatches = '*'\nlane = 'normal'");
    let why = |why: &str| Some(why.to_owned());
    let first = Judged { lane: Lane::Urgent, why: why("the rule of the app moodle: subject is *PRÜFUNG*") };
    assert_eq!(judged(&rules, &post.bytes()), first);
    let second = Judged { lane: Lane::Normal, why: why("the rule of the app moodle: Subject is *") };
    assert_eq!(judged(&rules, &reset.bytes()), second);
    assert_eq!(judged(&rules, b"X: no subject\r\n\r\n").why, None);
}

/// Mail from cron over one connection, to another person each time.
fn run(lanes: &Lanes, letter: impl Fn(usize) -> Letter, from: Timestamp) -> Vec<Judged> {
    let app = app("");
    let one = |n: usize| {
        let at = from + Duration::from_millis(100 * n as u64);
        let way = Way::Connection { first: n == 0, helo: Some("web1") };
        lanes.judge(
            &app,
            &Arrival { start: &letter(n).bytes(), recipients: &to(&[&format!("s{n}@example.com")]), way, at },
        )
    };
    (0..100).map(one).collect()
}

#[test]
fn a_burst_of_one_shape_is_bulk_once_it_is_one() {
    let notice = |n: usize| {
        Letter::new(&format!("Person{n} Müller{n} has completed quiz 7 on attempt {n}"), "x")
            .with(&format!("From: \"Person{n} Müller{n} (via LMS)\" <noreply@lms.example>"))
            .with(&format!("To: Student Number{n} <s{n}@example.com>"))
    };
    let judged = run(&Lanes::default(), notice, now());
    let lanes: Vec<Lane> = judged.iter().map(|judged| judged.lane).collect();
    assert_eq!(lanes.iter().position(|lane| *lane != Lane::Normal), Some(BURST - 1), "{judged:?}");
    assert!(lanes[BURST - 1..].iter().all(|lane| *lane == Lane::Bulk));
    assert_eq!(judged[99].why.as_deref(), Some("one of many alike: 30 recipients and more within 5 minutes"));
    let different =
        |n: usize| Letter::new(&"abcdefghij".chars().cycle().skip(n).step_by(n + 1).take(7).collect::<String>(), "x");
    assert!(run(&Lanes::default(), different, now()).iter().filter(|judged| judged.lane == Lane::Bulk).count() < 60);
}

#[test]
fn passwords_for_imported_users_are_normal_once_they_are_many_and_resets_stay_urgent() {
    let new = |n: usize| moodle("LMS: New user account", &format!("user{n} https://lms.example/login/?lang=en"));
    let judged = run(&Lanes::default(), new, now());
    assert_eq!((judged[0].lane, judged[99].lane), (Lane::Urgent, Lane::Normal));
    assert!(judged[99].why.as_ref().unwrap().starts_with("a link to /login/ (new account), but one of many alike"));
    let reset = |n: usize| {
        moodle("LMS: Password reset request", &format!("https://lms.example/login/forgot_password.php?token={n}"))
    };
    assert!(run(&Lanes::default(), reset, now()).iter().all(|judged| judged.lane == Lane::Urgent));
}

#[test]
fn a_mail_by_itself_while_others_come_in_a_run_is_the_one_somebody_waits_for() {
    let lanes = Lanes::default();
    let post = |n: usize| moodle("C1: hello", "x").with("Precedence: Bulk").with(&format!("X-N: {n}"));
    assert!(run(&lanes, post, now()).iter().all(|judged| judged.lane == Lane::Bulk));
    let at = now() + Duration::from_secs(11);
    let mail = Letter::new("Ihre Fahrkarte", "x").bytes();
    let way = Way::Connection { first: true, helo: Some("lms.example") };
    let recipients = to(&["anna@example.com"]);
    let arrival = Arrival { start: &mail, recipients: &recipients, way, at };
    let judged = lanes.judge(&app(""), &arrival);
    assert_eq!(judged, Judged { lane: Lane::Urgent, why: Some("it came by itself while others come in a run".into()) });
    for (way, at) in [(Way::Folder, at), (way, at + Duration::from_mins(5))] {
        assert_eq!(lanes.judge(&app(""), &Arrival { way, at, ..arrival }).lane, Lane::Normal, "{way:?}");
    }
}

#[test]
fn only_the_beginning_of_a_mail_is_looked_at() {
    let mut mail = Letter::new("x", "").bytes();
    mail.extend(std::iter::repeat_n(b"words and words\r\n", LOOKED_AT / 17).flatten());
    mail.extend(b"https://lms.example/login/forgot_password.php?token=a\r\n");
    assert_eq!(judged(&app(""), &mail).lane, Lane::Normal);
}

proptest! {
    #[test]
    fn no_rubbish_is_too_much(
        pieces in prop::collection::vec(prop::sample::select(&[
            "Subject: ", "=?utf-8?B?", "?=", "\r\n", "\n", "\r\n\r\n", "Content-Type: multipart/alternative; boundary=b", "--b", "--b--", "https://",
            "/login/forgot_password.php?token=", "Content-Transfer-Encoding: base64", "Content-Type: message/rfc822", "=3D", "=\r\n", "482913", "ü",
            "Content-Type: text/html; charset=utf-16", "<a href=\"", "\0", "&amp;", "To: ", "From: \"", "<", ">", " ",
        ][..]), 0..60),
        noise in prop::collection::vec(any::<u8>(), 0..40), place in 0usize..1000,
    ) {
        let mut mail = pieces.concat().into_bytes();
        let place = place.min(mail.len());
        mail.splice(place..place, noise);
        let once = judged(&app(""), &mail);
        prop_assert_eq!(&once, &judged(&app(""), &mail));
        prop_assert!(once.why.is_none_or(|why| !why.chars().any(char::is_control)));
    }
}
