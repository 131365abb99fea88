//! What happens in one run, made from a number.

use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::support::MAILBOX;

/// The second mailbox.
pub const SECOND: &str = "lms2@contoso.com";

/// A run.
#[derive(Debug)]
pub struct Script {
    pub steps: Vec<Step>,
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub enum Step {
    /// A program hands in a mail to these.
    Mail(App, Vec<Person>),
    /// From now on this goes wrong, so many times.
    Fault(String),
    /// Time passes.
    Pass(Duration),
    /// An administrator orders something.
    Order(Order),
    /// The relay is stopped in order and started again.
    Restart,
    /// The relay ends without another word, once so many things have happened at Exchange or Entra ID, and is started again.
    Crash(usize),
    /// A program hands in a mail to these, Exchange takes its time behind the final dot, and there the relay ends without another word.
    CutOff(App, Vec<Person>),
    /// Exchange and Entra ID cannot be reached, or can be again.
    Away,
}

/// A sending program, and what is configured for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum App {
    /// Nothing.
    Plain,
    /// `in_doubt = "hold"`.
    Careful,
    /// Both accounts.
    Pair,
    /// `messages_per_minute`.
    Slow,
    /// `recipients_allow`.
    Fenced,
}

impl App {
    pub const ALL: [Self; 5] = [Self::Plain, Self::Careful, Self::Pair, Self::Slow, Self::Fenced];

    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Careful => "careful",
            Self::Pair => "pair",
            Self::Slow => "slow",
            Self::Fenced => "fenced",
        }
    }

    pub fn keys(self) -> String {
        match self {
            Self::Plain => String::new(),
            Self::Careful => "in_doubt = \"hold\"\n".to_owned(),
            Self::Pair => format!("accounts = [\"{MAILBOX}\", \"{SECOND}\"]\n"),
            Self::Slow => "messages_per_minute = 20\n".to_owned(),
            Self::Fenced => "recipients_allow = [\"*@example.com\"]\n".to_owned(),
        }
    }
}

/// What an administrator orders. The mailbox is one of the two.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// `account hold`.
    HoldAccount(&'static str),
    /// `account release`.
    ReleaseAccount(&'static str),
    /// `queue move --all`.
    Move(&'static str),
    /// `queue hold --all`.
    HoldMail,
    /// `queue retry` or `queue release` of every message that waits for a person.
    Decide,
}

/// A recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Person {
    /// Gets mail.
    There,
    /// Exchange refuses them when they are named.
    Gone,
    /// Exchange refuses what is for them behind the final dot. Only alone in a mail: a refusal there is all recipients'.
    GoneLate,
    /// Not of those whom [`App::Fenced`] may write to.
    Outside,
}

impl Person {
    /// How Exchange refuses them, whatever else happens.
    pub fn refusal(self) -> Option<&'static str> {
        match self {
            Self::There | Self::Outside => None,
            Self::Gone => Some("rcpt=5.4.1-recipient-rejected"),
            Self::GoneLate => Some("data_end=5.1.10"),
        }
    }
}

/// What passes, at most a few times. Nothing of it may cost anybody a mail.
const FAULTS: &[&str] = &[
    "connect=drop",
    "connect=421-4.3.2-not-available",
    "ehlo=drop",
    "starttls=drop",
    "auth=drop",
    "auth=535-5.7.3-generic",
    "auth=535-5.7.139-smtpauth-mailbox",
    "auth=535-5.7.139-sts-unreachable",
    "auth=451-4.7.0-prx",
    "mail=drop",
    "mail=421-4.4.1-session-20min",
    "mail=530-5.7.57",
    "mail=\"451 4.3.0 a mood that nobody has seen\"",
    "rcpt=drop",
    "rcpt=4.5.3-too-many-rcpt",
    "rcpt=\"450 4.2.0 try again\"",
    "rcpt=421-4.4.2-socketerror",
    "data=drop",
    "data=\"451 4.3.2 not now\"",
    "body=drop:10",
    "body=drop:60",
    "data_end=drop",
    "data_end=wait:3ms",
    "data_end=432-4.3.2-concurrent",
    "data_end=432-4.3.2-sender-thread",
    "data_end=451-4.3.111-mrh1",
    "data_end=421-4.4.2-rate",
    "data_end=554-5.2.0-quota",
    "data_end=554-5.2.0-outbound-spam",
    "data_end=554-5.2.2-mailbox-full",
    "data_end=430-4.2.0-logon",
    "data_end=4.7.500",
    "data_end=5.7.705",
    "data_end=5.2.121",
    "data_end=\"554 5.2.0 STOREDRV.Submission.Exception:BrandNewException.NotInAnyTable; nobody knows\"",
    "any=421-4.3.2-not-available",
    "token=http:503",
    "token=http:429:60",
    "token=drop",
    "token=50196",
];

/// Exchange has the mail, and nobody hears of that: the one fault by which a mail comes twice, so it is frequent.
const DOUBT: &str = "data_end=keep-drop";

impl Script {
    pub fn of_seed(seed: u64) -> Self {
        let octets: Vec<u8> = (0..4).flat_map(|n: u64| seed.wrapping_add(n).to_le_bytes()).collect();
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &octets);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let steps = prop::collection::vec(step(), 3..16).new_tree(&mut runner).expect("nothing is filtered").current();
        Self { steps }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let span = prop_oneof![
        3 => (1_u64..120).prop_map(Duration::from_secs),
        3 => (1_u64..90).prop_map(Duration::from_mins),
        1 => (1_u64..40).prop_map(Duration::from_hours),
    ];
    let app = || prop::sample::select(&App::ALL[..]);
    prop_oneof![
        10 => (app(), people()).prop_map(|(app, people)| Step::Mail(app, people)),
        10 => fault().prop_map(Step::Fault),
        8 => span.prop_map(Step::Pass),
        4 => order().prop_map(Step::Order),
        2 => Just(Step::Restart),
        2 => (0_usize..12).prop_map(Step::Crash),
        2 => (app(), people()).prop_map(|(app, people)| Step::CutOff(app, people)),
        2 => Just(Step::Away),
    ]
}

fn people() -> impl Strategy<Value = Vec<Person>> {
    let person = prop_oneof![6 => Just(Person::There), 1 => Just(Person::Gone), 1 => Just(Person::Outside)];
    prop_oneof![
        8 => prop::collection::vec(person, 1..5),
        1 => Just(vec![Person::GoneLate]),
    ]
}

/// Some strike one mailbox alone, so that the other one can go on.
fn fault() -> impl Strategy<Value = String> {
    let whom = prop_oneof![3 => Just(None), 1 => mailbox().prop_map(Some)];
    let fault = prop_oneof![6 => prop::sample::select(FAULTS), 1 => Just(DOUBT)];
    (fault, 1_u32..5, whom).prop_map(|(fault, times, whom)| match whom {
        Some(mailbox) => format!("{fault}*{times},mailbox={mailbox}"),
        None => format!("{fault}*{times}"),
    })
}

fn order() -> impl Strategy<Value = Order> {
    prop_oneof![
        1 => mailbox().prop_map(Order::HoldAccount),
        2 => mailbox().prop_map(Order::ReleaseAccount),
        2 => mailbox().prop_map(Order::Move),
        1 => Just(Order::HoldMail),
        2 => Just(Order::Decide),
    ]
}

fn mailbox() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just(MAILBOX), Just(SECOND)]
}
