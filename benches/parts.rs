//! How long the parts take that every message passes: framing, rewriting, deciding, storing.
//!
//! `cargo bench --bench parts` takes about two minutes; `cargo bench --bench parts -- rewrite` measures what has that in its name.

mod sample;

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use jiff::Timestamp;
use xoauth2_relay::config::{App, Config, Environment};
use xoauth2_relay::lane::{Arrival, Lanes, Way};
use xoauth2_relay::message::{Body, Headers, Permitted, Policy, QueueId, SenderPolicy, rewrite};
use xoauth2_relay::outbound::{Step, judge};
use xoauth2_relay::schedule::{Action, Counted, Event, Outcome, Scheduler};
use xoauth2_relay::smtp::{BodyDecoder, Command, DataEncoder, Expect, LineDecoder, Reply, ReplyParser};
use xoauth2_relay::store::{Change, Flow, FlowHead, Incoming, Store, Waiting};

/// A message as Moodle writes it, text up to `size` octets.
fn mail(size: usize) -> Vec<u8> {
    let mut mail = b"Return-Path: <noreply@lms.example>\r\n\
Date: Mon, 2 Nov 2026 10:00:00 +0100\r\n\
To: Student <student@example.com>\r\n\
From: \"=?UTF-8?Q?Zo=C3=AB?= (via LMS)\" <noreply@lms.example>\r\n\
Reply-To: noreply@lms.example\r\n\
Subject: =?UTF-8?Q?Forum:_a_new_post?=\r\n\
Message-ID: <0123456789abcdef@lms.example>\r\n\
List-Id: \"Forum\" <moodleforum42@lms.example>\r\n\
X-Mailer: PHPMailer 6.6.3 (https://github.com/PHPMailer/PHPMailer)\r\n\
MIME-Version: 1.0\r\n\
Content-Type: text/plain; charset=utf-8\r\n\
Content-Transfer-Encoding: 8bit\r\n\
\r\n"
        .to_vec();
    while mail.len() < size {
        mail.extend_from_slice(
            b".A line with a dot in front, and one without one behind it, up to\r\nthe width of a terminal.\r\n",
        );
    }
    mail
}

/// 4 KiB as Moodle writes what it does not call a list: text and HTML, quoted-printable.
fn alternative() -> Vec<u8> {
    let text = "Gr=C3=BC=C3=9Fe, see https://lms.example/mod/assign/view.php?id=3D7 and what=\r\n is behind it.\r\n"
        .repeat(20);
    let part = |subtype: &str| {
        format!(
            "--b1\r\nContent-Type: text/{subtype}; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n{text}\r\n"
        )
    };
    let head = "From: \"=?utf-8?Q?Zo=C3=AB?= (via LMS)\" <noreply@lms.example>\r\nTo: Anna Berg <anna@example.com>\r\n\
        Subject: =?utf-8?Q?Sie_haben_eine_Abgabe_f=C3=BCr_Aufgabe_7?=\r\nMIME-Version: 1.0\r\n\
        Content-Type: multipart/alternative;\r\n boundary=\"b1\"\r\n\r\n";
    format!("{head}{}{}--b1--\r\n", part("plain"), part("html")).into_bytes()
}

/// The same on the wire, behind DATA.
fn on_the_wire(mail: &[u8]) -> Vec<u8> {
    let (mut encoder, mut wire) = (DataEncoder::new(), Vec::new());
    encoder.encode(mail, &mut wire);
    encoder.finish(&mut wire);
    wire
}

fn throughput(octets: usize) -> Throughput {
    Throughput::Bytes(octets as u64)
}

fn bodies(criterion: &mut Criterion) {
    for (name, size) in [("4 KiB", 4 << 10), ("1 MiB", 1 << 20)] {
        let mail = mail(size);
        let wire = on_the_wire(&mail);
        let mut group = criterion.benchmark_group("body");
        group.throughput(throughput(wire.len()));
        let mut out = Vec::with_capacity(wire.len());
        group.bench_function(format!("decode {name}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                BodyDecoder::new(u64::MAX).decode(black_box(&wire), &mut out)
            });
        });
        group.bench_function(format!("encode {name}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                let mut encoder = DataEncoder::new();
                encoder.encode(black_box(&mail), &mut out);
                encoder.finish(&mut out);
            });
        });
        group.finish();
    }
}

fn commands(criterion: &mut Criterion) {
    let lines: &[u8] =
        b"EHLO moodle.local\r\nMAIL FROM:<noreply@lms.example> SIZE=4096\r\nRCPT TO:<student@example.com>\r\nDATA\r\n";
    criterion.bench_function("command: four lines found", |bencher| {
        bencher.iter_batched(
            || BytesMut::from(lines),
            |mut input| {
                let mut decoder = LineDecoder::new();
                while let Some(line) = decoder.next(&mut input, Expect::Command) {
                    black_box(line.expect("they are lines"));
                }
            },
            BatchSize::SmallInput,
        );
    });
    for line in ["MAIL FROM:<noreply@lms.example> SIZE=4096", "RCPT TO:<student@example.com>"] {
        let verb = &line[..4];
        criterion.bench_function(&format!("command: {verb} parsed"), |bencher| {
            bencher.iter(|| Command::parse(black_box(line.as_bytes())).expect("it is a command"));
        });
    }
}

fn replies(criterion: &mut Criterion) {
    let ehlo = b"250-AM0PR10CA0001.outlook.office365.com Hello [203.0.113.1]\r\n250-SIZE 157286400\r\n250-PIPELINING\r\n\
250-DSN\r\n250-ENHANCEDSTATUSCODES\r\n250-AUTH LOGIN XOAUTH2\r\n250-8BITMIME\r\n250-BINARYMIME\r\n250-CHUNKING\r\n250 SMTPUTF8\r\n";
    criterion.bench_function("reply: EHLO parsed", |bencher| {
        bencher.iter(|| {
            let mut parser = ReplyParser::new();
            parser.feed(black_box(ehlo));
            parser.next_reply().expect("it is a reply")
        });
    });
    for (name, code, text) in [
        ("accepted", 250, "2.0.0 OK <id> [Hostname=AM0PR10MB0001.EURPRD10.PROD.OUTLOOK.COM]"),
        ("unknown", 554, "5.0.0 something that no row of the table knows"),
    ] {
        let reply = Reply::new(code, text);
        criterion.bench_function(&format!("verdict: {name}"), |bencher| {
            bencher.iter(|| judge(Step::DataEnd, black_box(&reply)));
        });
    }
}

fn headers(criterion: &mut Criterion) {
    let mail = mail(4 << 10);
    let incoming = sample::incoming(Bytes::from(mail.clone()));
    let policy = Policy {
        sender: SenderPolicy::Rewrite,
        originals: &[],
        permitted: Permitted { mailbox: &incoming.account, send_as: &[] },
        hostname: "relay.example",
        trace: &incoming.trace,
        envelope: &incoming.envelope,
        id: QueueId::from_number(1),
        received_at: Timestamp::UNIX_EPOCH,
    };
    criterion.bench_function("header: scanned", |bencher| {
        bencher.iter(|| Headers::scan(black_box(&mail)).end());
    });
    criterion.bench_function("header: rewritten", |bencher| {
        bencher.iter(|| rewrite(black_box(&mail), mail.len() as u64, &policy));
    });
}

/// The lane of a mail: told by its header, and told by its text, which has to be decoded.
fn lanes(criterion: &mut Criterion) {
    let bulk = mail(4 << 10);
    let plain: Vec<u8> =
        bulk.split_inclusive(|&b| b == b'\n').filter(|line| !line.starts_with(b"List-Id")).flatten().copied().collect();
    let parts = alternative();
    let (lanes, app) = (Lanes::default(), App::default());
    let recipients = &sample::incoming(Bytes::new()).envelope.recipients;
    for (name, mail) in [("by its header", &bulk), ("by its text", &plain), ("by its texts, quoted-printable", &parts)]
    {
        criterion.bench_function(&format!("lane: {name}"), |bencher| {
            bencher.iter(|| {
                let way = Way::Connection { first: true, helo: Some("moodle.local") };
                lanes.judge(&app, &Arrival { start: black_box(mail), recipients, way, at: Timestamp::UNIX_EPOCH })
            });
        });
    }
}

/// A scheduler with a full window, and the message that has just ended: what is next?
fn schedule(criterion: &mut Criterion) {
    let text = "[[account]]\nmailbox = \"lms@contoso.com\"\nprovider = \"custom\"\nclient_id = \"x\"\n\
        token_url = \"http://127.0.0.1/token\"\nsmtp = \"127.0.0.1:25\"\nmessages_per_minute = 4000000\n\
        recipients_per_day = 4000000000\n";
    let config = Config::from_text(text, "bench.toml", &Environment::of_process()).expect("it is a configuration");
    let account = config.accounts[0].mailbox.clone();
    let now = Timestamp::from_second(1_795_000_000).expect("it is a time");
    let mut scheduler = Scheduler::new(&config, Vec::new(), &[], false, now);
    let waiting =
        move |n: i64| Waiting { id: QueueId::from_number(n), due_at: now, recipients: 1, flow: Flow::default() };
    let mut load = scheduler.on(Event::Woken, now).into_iter();
    let Some(Action::Load(_, load)) = load.next() else { panic!("it asks the store at first") };
    let messages: Vec<Waiting> = (0..512).map(waiting).collect();
    let head = FlowHead { flow: Flow::default(), messages, is_cut: true };
    let begun = scheduler.on(Event::Loaded { account: account.clone(), load, heads: Some(vec![head]) }, now);
    let mut under_way = attempts(begun);
    let (mut next, mut now) = (1_000_000, now);
    criterion.bench_function("schedule: one ends, one comes, one begins", |bencher| {
        bencher.iter(|| {
            (next, now) = (next + 1, now + Duration::from_millis(1));
            scheduler.on(Event::Accepted { account: account.clone(), waiting: waiting(next) }, now);
            let id = under_way.pop().expect("something is under way");
            let outcome = Outcome::Answered { sent: Some(Counted::new(now, 1)), again: None, throttled: None };
            under_way.extend(attempts(scheduler.on(Event::Finished { account: account.clone(), id, outcome }, now)));
        });
    });
}

fn attempts(actions: Vec<Action>) -> Vec<QueueId> {
    actions.into_iter().filter_map(|action| if let Action::Attempt(_, id) = action { Some(id) } else { None }).collect()
}

/// A batch of messages that came at once: one transaction, one sync.
fn store(criterion: &mut Criterion) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the target folder can be written");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    let store = {
        let _guard = runtime.enter();
        Store::open(folder.path()).expect("a new queue can be made")
    };
    let sample = sample::incoming(Bytes::from(mail(4 << 10)));
    let mut group = criterion.benchmark_group("store");
    group.measurement_time(Duration::from_secs(5)).sample_size(20);
    for batch in [1_u64, 10, 100] {
        group.throughput(Throughput::Elements(batch));
        group.bench_function(format!("{batch} committed together"), |bencher| {
            bencher.iter_custom(|times| {
                let begun = Instant::now();
                for _ in 0..times {
                    runtime.block_on(commit(&store, &sample, batch));
                }
                begun.elapsed()
            });
        });
    }
    group.finish();
    runtime.block_on(store.close());
}

async fn commit(store: &Store, sample: &Incoming, batch: u64) {
    let commits = (0..batch).map(|_| {
        let Body::Inline(body) = &sample.body else { unreachable!("the sample is inline") };
        let incoming =
            Incoming { id: store.next_id(Timestamp::now()), body: Body::Inline(body.clone()), ..sample.clone() };
        store.commit(Change::Accept(Box::new(incoming)))
    });
    for committed in futures_util::future::join_all(commits).await {
        committed.expect("the disk has room");
    }
}

criterion_group!(benches, bodies, commands, replies, headers, lanes, schedule, store);
criterion_main!(benches);
