//! The table against every reply that is known, against what is in none, and against its document.

#[path = "../../../tests/relay/replies/intended.rs"]
mod intended;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::config::testing;
use crate::outbound::{Verdict, judge, judge_with};
use crate::simulator::{ReplyRow, replies as simulated};
use crate::store::samples;

const STEPS: [Step; 8] = LIKELY;
const MAILBOX: &str = "lms@contoso.com";

fn account() -> Account {
    let mut account = testing::account(MAILBOX, "person@contoso.com");
    account.client_id = "the-client".to_owned();
    account
}

/// The step at which a row of the simulator is said by itself.
fn step_of(row: &ReplyRow) -> Step {
    use crate::simulator::Phase;
    match row.phase {
        Phase::Connect => Step::Greeting,
        Phase::Ehlo => Step::Ehlo,
        Phase::StartTls => Step::StartTls,
        Phase::Auth => Step::Auth,
        Phase::Mail => Step::Mail,
        Phase::Rcpt => Step::Rcpt,
        Phase::Data => Step::Data,
        _ => Step::DataEnd,
    }
}

fn read(text: &str) -> Reply {
    parse(text).unwrap_or_else(|| panic!("{text}"))
}

/// Class, scope, cause, throttle and row in the words of `tests/relay/replies.txt`.
fn cells(verdict: &Verdict) -> [String; 5] {
    let class = match verdict.class {
        Class::Accepted => "accepted",
        Class::Later if verdict.reply.code() == 221 => "goodbye",
        Class::Later => "later",
        Class::Refused => "refused",
        Class::Held(_) => "held",
        Class::InDoubt => "in doubt",
    };
    let cause = if let Class::Held(cause) = verdict.class { cause.as_str() } else { "-" };
    let throttle = verdict.throttle.map_or("-".to_owned(), |throttle| format!("{throttle:?}").to_lowercase());
    let row = verdict.row.as_ref().and_then(|row| row.id()).unwrap_or("-");
    let scope = format!("{:?}", verdict.scope).to_lowercase();
    [class.to_owned(), scope, cause.to_owned(), throttle, row.to_owned()]
}

/// One wording of a row.
struct Wording {
    /// Its name and number.
    id: String,
    row: &'static ReplyRow,
    text: &'static str,
    /// What the verdict is to be, in the words of [`cells`].
    cells: [&'static str; 5],
    /// How the command that is shown is to begin.
    command: &'static str,
}

/// Every wording of every row with what it is to mean.
fn wordings() -> Vec<Wording> {
    let mut all = Vec::new();
    for row in simulated() {
        for (n, text) in (1..).zip(&row.texts) {
            let [_, class, scope, cause, throttle, meant_row, command] = intended::meant(&row.id, n);
            let (id, cells) = (format!("{}#{n}", row.id), [class, scope, cause, throttle, meant_row]);
            all.push(Wording { id, row, text, cells, command });
        }
    }
    assert!(all.len() > 70 && intended::lines().len() > 60);
    all
}

#[test]
fn every_known_reply_means_what_it_should() {
    for wording in wordings() {
        let verdict = judge(step_of(wording.row), &read(wording.text));
        assert_eq!(cells(&verdict), wording.cells, "{}", wording.id);
    }
}

/// The facts that the table was made from lie beside a checkout of the project's authors; elsewhere there is nothing to compare.
#[test]
fn the_table_says_what_the_facts_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = ["../shared", "../../shared"].map(|shared| root.join(shared).join("microsoft/replies.json"));
    let Some(text) = file.iter().find_map(|path| std::fs::read_to_string(path).ok()) else {
        eprintln!("left out: microsoft/replies.json is not beside this tree");
        return;
    };
    let facts: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(facts.len(), simulated().len());
    for fact in facts {
        let id = fact["id"].as_str().unwrap();
        let row = simulated().iter().find(|row| row.id == id).unwrap();
        assert_eq!(row.phase.name(), fact["phase"], "{id}");
        assert_eq!(row.ndr, fact["delivery"] == "async_ndr", "{id}");
        let texts: Vec<&str> = fact["text"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
        if !texts.is_empty() {
            assert_eq!(row.texts, texts, "{id}: word for word");
        }
        for text in &row.texts {
            let class = &cells(&judge(step_of(row), &read(text)))[0];
            // A goodbye to QUIT is fine; to anything else it is no answer.
            let class = if class == "goodbye" { "accepted" } else { class };
            assert_eq!(class, fact["verdict"], "{id}");
        }
    }
}

/// The reply in other words for the same: with another host, shouted, whispered, without its enhanced code, in short lines.
fn variants(reply: &Reply) -> Vec<Reply> {
    let code = reply.code();
    let enhanced = reply.enhanced().map(|code| format!("{code} ")).unwrap_or_default();
    let text = joined(reply);
    let words = text.strip_prefix(enhanced.as_str()).unwrap_or(&text).to_owned();
    let in_lines = |prefix: &str, pieces: Vec<String>| {
        Reply::with_lines(code, pieces.iter().map(|piece| format!("{prefix}{piece}")).collect())
    };
    let blanks: Vec<&str> = words.split(' ').collect();
    let by_blanks = || blanks.chunks(2).map(|two| two.join(" ")).collect::<Vec<_>>();
    let mut variants = vec![
        Reply::new(
            code,
            format!("{enhanced}{words} [XY1PR01MB0001.eurprd01.prod.outlook.com 2027-01-02T03:04:05.678Z 08DE]"),
        ),
        Reply::new(code, format!("{enhanced}{} [Hostname=XY1PR01MB0001]", words.to_uppercase())),
        Reply::new(code, format!("{enhanced}{}", words.to_lowercase())),
        in_lines(&enhanced, by_blanks()),
        Reply::with_lines(code, std::iter::once(enhanced.trim().to_owned()).chain(by_blanks()).collect()),
        Reply::new(code, words.replace(' ', "  ")),
        in_lines("", by_blanks()),
    ];
    // The reply that another one repeats has to begin somewhere.
    if code != 530 {
        let letters: Vec<char> = words.chars().collect();
        variants.push(in_lines(&enhanced, letters.chunks(17).map(|piece| piece.iter().collect()).collect()));
    }
    variants
}

#[test]
fn host_names_case_line_breaks_and_a_missing_enhanced_code_change_nothing() {
    for wording in wordings().into_iter().filter(|wording| wording.cells[0] != "accepted") {
        for variant in variants(&read(wording.text)) {
            // "Error: 535" is looked for as it is written.
            if variant.code() == 530 && wording.cells[1] == "account" && !joined(&variant).contains("Error: 535 ") {
                continue;
            }
            let verdict = judge(step_of(wording.row), &variant);
            assert_eq!(cells(&verdict), wording.cells, "{}: {variant}", wording.id);
        }
    }
}

#[test]
fn a_closing_connection_is_one_at_every_step() {
    for row in simulated().iter().filter(|row| row.phase == crate::simulator::Phase::Any && row.id != "quit-ok") {
        for (step, text) in STEPS.iter().flat_map(|step| row.texts.iter().map(move |text| (*step, text))) {
            let verdict = judge(step, &read(text));
            assert_eq!((verdict.scope, verdict.class), (Scope::Connection, Class::Later), "{step:?} {text}");
        }
    }
    for step in STEPS {
        assert_eq!(
            judge(step, &Reply::new(221, "2.0.0 Bye")).class,
            Class::Later,
            "{step:?}: a goodbye accepts nothing"
        );
    }
}

#[test]
fn what_is_in_no_table_is_tried_again_or_holds_the_login() {
    let unknown = |step, code, text: &str| {
        let verdict = judge(step, &Reply::new(code, text));
        assert_eq!(verdict.row, None, "{text}");
        let meaning = verdict.meaning().unwrap();
        assert!(meaning.contains("unknown to this version"), "{meaning}");
        (verdict.scope, verdict.class)
    };
    for (code, text) in [
        (554, "5.2.0 STOREDRV.Submission.Exception:BrandNewException; Failed to process message"),
        (554, "5.2.0 STOREDRV.Deliver.Exception:StorageTransientException.MapiExceptionNetworkError"),
        (554, "5.2.2 something else is full"),
        (550, "5.7.9999 not a code"),
        (550, "5.99.1 brand new"),
        (599, ""),
        (450, "4.9.9 hm"),
    ] {
        assert_eq!(unknown(Step::DataEnd, code, text), (Scope::Message, Class::Later), "{text}");
    }
    let login = Class::Held(HoldCause::Login);
    assert_eq!(
        unknown(Step::Auth, 535, "5.7.139 Authentication unsuccessful, the moon is full."),
        (Scope::Account, login)
    );
    assert_eq!(unknown(Step::Auth, 550, "5.7.1 go away"), (Scope::Account, login));
    assert_eq!(unknown(Step::Auth, 471, "4.9.9 hm").1, Class::Later);
    assert_eq!(unknown(Step::Rcpt, 550, "go away"), (Scope::Recipient, Class::Refused));
    assert_eq!(unknown(Step::Rcpt, 450, "go away"), (Scope::Recipient, Class::Later));
    // MAIL repeats what the login was refused with.
    let repeated = "5.7.57 Client not authenticated to send mail. Error: 535 5.7.139 Authentication unsuccessful, the moon is full.";
    assert_eq!(unknown(Step::Mail, 530, repeated), (Scope::Account, login));
}

#[test]
fn a_shipped_row_refuses_nothing_that_the_server_itself_takes_for_passing() {
    for row in table::rows().iter().filter(|row| row.class == Class::Refused) {
        let code = row.enhanced.map(|codes| codes.to_string()).unwrap_or_default();
        let code = code.split('-').next().unwrap_or_default().to_owned();
        let text = format!("{code} {}", row.words.join(" "));
        for step in STEPS {
            let class = judge(step, &Reply::new(450, text.clone())).class;
            assert!(!matches!(class, Class::Refused), "{:?} {text}", row.id);
        }
    }
    assert_eq!(judge(Step::DataEnd, &Reply::new(451, "5.1.10 Recipient not found")).class, Class::Later);
}

fn rules(text: &str) -> Vec<ReplyRule> {
    testing::config_with(text).replies
}

#[test]
fn the_administrators_rows_come_first_and_are_said_to_be_theirs() {
    let own = rules(
        "[[reply]]\nphase = [\"data_end\"]\ncode = 554\nwords = [\"SubmissionQuota\", \"exception\"]\nscope = \"message\"\nclass = \"later\"\n\
         sentence = \"The quota is counted elsewhere: wait.\"\n\
         [[reply]]\nenhanced = \"4.9.0-9\"\nscope = \"recipient\"\nclass = \"refused\"\nsentence = \"Never: ask {mailbox}\"\n\
         command = \"ask {mailbox} about {id}\"\n\
         [[reply]]\nwords = [\"go slow\"]\nscope = \"account\"\nclass = \"held\"\ncause = \"quota\"\nthrottle = \"sessions\"\nsentence = \"Slow\"",
    );
    let quota = read("554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException");
    let verdict = judge_with(&own, Step::DataEnd, &quota);
    assert_eq!((verdict.scope, verdict.class), (Scope::Message, Class::Later));
    assert_eq!(verdict.meaning().unwrap(), "by your own rule: The quota is counted elsewhere");
    assert_eq!(judge_with(&own, Step::Mail, &quota).class, Class::Held(HoldCause::Quota), "another phase");
    let passing = read("450 4.9.7 never");
    assert_eq!(judge_with(&own, Step::Rcpt, &passing).class, Class::Refused, "whoever writes it means it");
    assert_eq!(judge_with(&own, Step::Auth, &passing).class, Class::Later, "no message is there to be refused");
    let told = explain(&own, "450 4.9.7 never", &account(), About { id: Some("XYZ"), sender: None }).unwrap();
    assert_eq!(told.sentence, "Never: ask lms@contoso.com (your own rule)");
    assert_eq!(told.command, "ask lms@contoso.com about XYZ");
    let slow = judge_with(&own, Step::Auth, &read("550 please\ngo SLOW".replace('\n', " ").as_str()));
    assert_eq!((slow.class, slow.throttle), (Class::Held(HoldCause::Quota), Some(Throttle::Sessions)));
    assert_eq!(judge_with(&own, Step::DataEnd, &read("250 2.0.0 go slow")).class, Class::Accepted, "a yes is a yes");
}

fn hold(cause: HoldCause, reply: &str) -> Hold {
    Hold { reply: Some(reply.to_owned()), ..samples::hold(cause, samples::at(0)) }
}

#[test]
fn a_hold_is_explained_by_its_reply() {
    let is_hold = |wording: &Wording| wording.cells[0] == "held";
    for Wording { id, text, cells, command, .. } in wordings().into_iter().filter(is_hold) {
        let cause = HoldCause::parse(cells[2]).unwrap();
        // As long as only logins hold, that is the cause of what they are refused with.
        for cause in [cause, HoldCause::Login] {
            let told = explain_hold(&[], &hold(cause, text), &account()).unwrap();
            let command = command.replace("-UserId lms@", "-UserId person@");
            assert!(told.command.starts_with(&command), "{id}: {told}");
            assert!(!told.sentence.contains(['{', '\n']) && told.sentence.len() > 40, "{id}: {told}");
        }
    }
    let new = hold(HoldCause::Login, "535 5.7.139 Authentication unsuccessful, the moon is full. [host.outlook.com]");
    let told = explain_hold(&[], &new, &account()).unwrap();
    assert!(told.sentence.contains("unknown to this version") && told.sentence.contains("the moon is full"), "{told}");
    assert_eq!(told.command, "change what the reply names, then: xoauth2-relay account release lms@contoso.com");
    assert_eq!(explain_hold(&[], &Hold { reply: None, ..new }, &account()), None);
}

#[test]
fn a_recipients_reply_is_explained_wherever_it_came() {
    let is_refusal = |wording: &Wording| !matches!(wording.cells[0], "accepted" | "goodbye");
    for Wording { id, text, command, .. } in wordings().into_iter().filter(is_refusal) {
        let told = explain(&[], text, &account(), About::default()).unwrap();
        // Where a reply came is not written beside it: what is said of MRH1 holds for PRX4 too.
        let command = command.replace("-UserId lms@", "-UserId person@").replace("-Trustee lms@", "-Trustee person@");
        // Nobody says here whom the message is from.
        let command =
            command.replace("-Identity lms@contoso.com -Trustee", "-Identity \"the address in From\" -Trustee");
        assert!(told.command.starts_with(command.trim_end()), "{id}: {told}");
    }
    let told =
        explain(&[], "554 5.2.0 STOREDRV.Submission.Exception:BrandNew; hm", &account(), About::default()).unwrap();
    assert!(told.sentence.contains("unknown to this version; the server says \"5.2.0 STOREDRV"), "{told}");
    assert!(told.command.starts_with("once you know") && told.command.contains("[[reply]]"), "{told}");
    let passing = explain(&[], "451 4.3.0 later", &account(), About::default()).unwrap();
    assert!(passing.command.starts_with("nothing for now, it is tried again; once you know"), "{passing}");
    for text in ["", "no access token: x", "250 2.0.0 OK", "451 4.4.2 xoauth2-relay: lost the connection", "99 x"] {
        assert_eq!(explain(&[], text, &account(), About::default()), None, "{text}");
    }
    let long = explain(&[], &format!("554 {}", "ü".repeat(900)), &account(), About::default()).unwrap();
    assert!(long.sentence.chars().count() < 400 && long.sentence.contains('…'), "{long}");
}

#[test]
fn only_a_plain_address_gets_from_a_reply_into_a_command() {
    let said = |sender: &str| {
        let reply = format!("554 5.2.252 SendAsDenied; lms@contoso.com not allowed to send as {sender}; STOREDRV");
        explain(&[], &reply, &account(), About::default()).unwrap().command
    };
    assert!(said("a.b+c@contoso.com").starts_with("Add-RecipientPermission -Identity a.b+c@contoso.com "));
    for sender in ["x@y$(rm)", "`x`@y", "x", "@", "-x@y", "a@b@c", "x@y'", "\"a b\"@c", ""] {
        let nobody = "Add-RecipientPermission -Identity \"the address in From\" -Trustee person@contoso.com ";
        assert!(said(sender).starts_with(nobody), "{sender}: {}", said(sender));
    }
}

#[test]
fn a_refusal_of_the_sender_that_names_nobody_means_whom_the_mail_is_from() {
    let silent = "550 5.7.60 SMTP; Client does not have permissions to send as this sender";
    let told = |reply: &str, sender: &str| {
        let sender = Address::parse(sender).unwrap();
        explain(&[], reply, &account(), About { id: None, sender: Some(&sender) }).unwrap().command
    };
    assert!(told(silent, "dean@contoso.com").contains("-Identity dean@contoso.com "));
    assert!(told(silent, "\"$(rm)\"@contoso.com").contains("-Identity \"the address in From\" "));
    let named = "554 5.2.252 SendAsDenied; lms@contoso.com not allowed to send as noreply@contoso.com; STOREDRV";
    assert!(told(named, "dean@contoso.com").contains("-Identity noreply@contoso.com "), "the server knows better");
    assert!(lacks_sender(&[], silent) && !lacks_sender(&[], named) && !lacks_sender(&[], "550 5.4.1 no"));
}

#[test]
fn every_row_is_whole_and_speaks_plainly() {
    let ids: BTreeSet<_> = table::rows().iter().map(|row| row.id().unwrap()).collect();
    assert_eq!(ids.len(), table::rows().len(), "an id names one row");
    let known: BTreeSet<_> = intended::lines().iter().map(|line| line[5]).collect();
    for row in table::rows() {
        let id = row.id().unwrap();
        assert!(row.code.is_some() || row.enhanced.is_some() || !row.words.is_empty(), "{id} fits everything");
        assert!(row.unnumbered.is_empty() || (row.enhanced.is_some() && row.words.is_empty()), "{id}");
        assert!(row.sentence.starts_with(|c: char| c.is_ascii_uppercase()) && !row.sentence.ends_with('.'), "{id}");
        assert!(!row.what().contains(['{', '}']), "{id}: goes into the journal as it is");
        let told = row.advice(&account(), "", About { id: Some("1"), sender: None });
        assert!(!format!("{told}").contains(['{', '}']), "{id}: {told}");
        assert!(row.class != Class::Refused || matches!(row.scope, Scope::Recipient | Scope::Message), "{id}");
        assert!(!matches!((row.class, row.scope), (Class::Held(_), Scope::Recipient | Scope::Message)), "{id}");
    }
    for id in known.into_iter().filter(|id| *id != "-") {
        assert!(ids.contains(id), "{id}");
    }
}

proptest! {
    #[test]
    fn no_reply_can_make_it_panic(
        code in 200_u16..600,
        lines in proptest::collection::vec("(5\\.[0-9]\\.[0-9]{1,3} |\\[[a-z.ü]{0,9}\\]?|Error: 535 ){0,2}.{0,60}", 0..4),
        step in 0_usize..8,
    ) {
        let reply = Reply::with_lines(code, lines);
        let verdict = judge(STEPS[step], &reply);
        prop_assert!(reply.is_permanent() || verdict.class != Class::Refused);
        prop_assert!(STEPS[step].is_about_a_message() || verdict.class != Class::Refused);
        let _ = (verdict.meaning(), explain(&[], &reply.to_string(), &account(), About::default()));
        let _ = explain_hold(&[], &hold(HoldCause::Login, &reply.to_string()), &account());
    }
}

/// `docs/replies.md` behind its introduction.
fn document() -> String {
    let mut text = String::new();
    let titles = ["The account or the tenant is held", "Refused", "Tried again by itself"];
    for (n, title) in titles.iter().enumerate() {
        write!(text, "## {title}\n\n| reply | about | what it means | what to type |\n|---|---|---|---|\n").unwrap();
        let is_here = |row: &&Arc<Row>| match row.class {
            Class::Held(_) => n == 0,
            Class::Refused => n == 1,
            _ => n == 2,
        };
        for row in table::rows().iter().filter(is_here) {
            let command = row.command.as_deref().map_or_else(String::new, |command| format!("`{}`", generic(command)));
            let about = format!("{:?}", row.scope).to_lowercase();
            let about =
                if let Class::Held(cause) = row.class { format!("{about}: `{}`", cause.as_str()) } else { about };
            writeln!(text, "| {} | {about} | {} | {command} |", key(row), generic(&row.sentence)).unwrap();
        }
        text.push('\n');
    }
    text.trim_end().to_owned() + "\n"
}

/// What the reply is known by. The words are folded; here they are as they are written.
fn key(row: &Row) -> String {
    let mut parts: Vec<String> = row.code.iter().map(u16::to_string).collect();
    parts.extend(row.enhanced.map(|codes| codes.to_string()));
    let written = table::words_of(row.id().unwrap());
    parts.extend(written.iter().map(|words| format!("\"{words}\"")));
    let key = parts.join(" ");
    let mut steps: Vec<&str> = Vec::new();
    for (name, phase) in ReplyPhase::NAMES {
        if row.steps.contains(&step(phase)) {
            steps.push(name);
        }
    }
    if steps.is_empty() { key } else { format!("{key} at {}", steps.join(", ")) }
}

fn generic(text: &str) -> String {
    let names = [("{mailbox}", "MAILBOX"), ("{login}", "LOGIN"), ("{client_id}", "CLIENT_ID")];
    let names = names.into_iter().chain([("{smtp}", "SERVER"), ("{id}", "ID"), ("{sender}", "SENDER")]);
    names.fold(text.replace('|', "\\|"), |text, (name, shown)| text.replace(name, shown))
}

#[test]
fn the_document_says_what_the_table_says() {
    const BEGIN: &str = "<!-- From here on made of src/outbound/replies.toml. -->\n\n";
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/replies.md");
    let text = std::fs::read_to_string(&file).unwrap();
    let (before, _) = text.split_once(BEGIN).expect("the document has a table");
    let right = format!("{before}{BEGIN}{}", document());
    if std::env::var_os("WRITE_REPLIES").is_some() {
        std::fs::write(&file, &right).unwrap();
    } else {
        assert!(text == right, "docs/replies.md is not up to date: WRITE_REPLIES=1 cargo test --lib the_document_says");
    }
}
