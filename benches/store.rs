//! How many messages a second the store acknowledges, and from what size on a body is better off in a file.
//!
//! `cargo bench --bench store` measures on the disk of the target folder, `cargo bench --bench store -- FOLDER` on another one.
//! Takes under a minute. What was found is in `docs/queue.md`.

mod sample;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::task::JoinSet;
use xoauth2_relay::message::Body;
use xoauth2_relay::store::{Change, Incoming, Next, RecipientState, RecipientUpdate, Record, Store};

const SPAN: Duration = Duration::from_secs(3);
const SHORT_SPAN: Duration = Duration::from_millis(1200);
const KIB: usize = 1024;

/// What a submitter does with each message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Accept,
    AcceptAndFinish,
    AcceptInFile,
}

fn main() {
    let given = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let folder = given.map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    runtime.block_on(async {
        println!("4 KiB inline, each submitter waits for its answer");
        println!("{:>10} {:>9} {:>9} {:>9} {:>9} {:>8}", "submitters", "msg/s", "p50 ms", "p99 ms", "max ms", "batch");
        for submitters in [1, 10, 50, 200] {
            println!("{submitters:>10} {}", measure(&folder, Work::Accept, submitters, 4 * KIB, SPAN).await.all());
        }
        println!("the same, each message recorded as accepted by Exchange at once (changes/s: twice the messages)");
        for submitters in [10, 50] {
            let figures = measure(&folder, Work::AcceptAndFinish, submitters, 4 * KIB, SPAN).await;
            println!("{submitters:>10} {}", figures.all());
        }
        println!("inline or in a file, 4 submitters: MB/s (p50 ms, p99 ms)");
        for size in [4, 16, 32, 64, 128, 256, 512, 1024] {
            let inline = measure(&folder, Work::Accept, 4, size * KIB, SHORT_SPAN).await;
            let in_file = measure(&folder, Work::AcceptInFile, 4, size * KIB, SHORT_SPAN).await;
            println!("{size:>6} KiB   inline {}   file {}", inline.short(size), in_file.short(size));
        }
    });
}

struct Figures {
    latencies: Vec<Duration>,
    took: Duration,
    batches: u64,
}

impl Figures {
    fn rate(&self) -> f64 {
        count(self.latencies.len()) / self.took.as_secs_f64()
    }

    fn at(&self, part: usize) -> f64 {
        let last = self.latencies.len() - 1;
        self.latencies[last * part / 100].as_secs_f64() * 1000.0
    }

    fn all(&self) -> String {
        let batch = count(self.latencies.len()) / count(usize::try_from(self.batches).unwrap_or(usize::MAX));
        let (p50, p99, max) = (self.at(50), self.at(99), self.at(100));
        format!("{:>9.0} {p50:>9.2} {p99:>9.2} {max:>9.2} {batch:>8.1}", self.rate())
    }

    fn short(&self, size: usize) -> String {
        let megabytes = self.rate() * count(size * KIB) / 1e6;
        format!("{megabytes:>6.0} ({:>6.2}, {:>6.2})", self.at(50), self.at(99))
    }
}

fn count(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}

async fn measure(folder: &Path, work: Work, submitters: usize, size: usize, span: Duration) -> Figures {
    let data = folder.join(format!("store-bench-{}", std::process::id()));
    std::fs::create_dir_all(&data).expect("the folder can be written");
    let store = Store::open(&data).expect("a new queue can be made");
    let body = Bytes::from(vec![b'x'; size]);
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    let sample = Arc::new(sample::incoming(body));
    for _ in 0..submitters {
        tasks.spawn(submit(store.clone(), work, Arc::clone(&sample), start + span));
    }
    let mut latencies: Vec<Duration> = tasks.join_all().await.into_iter().flatten().collect();
    let took = start.elapsed();
    latencies.sort_unstable();
    let batches = store.batches();
    store.close().await;
    std::fs::remove_dir_all(&data).expect("the folder can be removed");
    Figures { latencies, took, batches }
}

async fn submit(store: Store, work: Work, sample: Arc<Incoming>, until: Instant) -> Vec<Duration> {
    let mut latencies = Vec::new();
    while Instant::now() < until {
        let now = Timestamp::now();
        let mut incoming = Incoming { id: store.next_id(now), received_at: now, ..Incoming::clone(&sample) };
        let id = incoming.id;
        let begun = Instant::now();
        if work == Work::AcceptInFile {
            incoming.body = write(&store, &incoming).await;
        }
        store.commit(Change::Accept(Box::new(incoming))).await.expect("the disk has room");
        latencies.push(begun.elapsed());
        if work == Work::AcceptAndFinish {
            let begun = Instant::now();
            let recipients =
                vec![RecipientUpdate { index: 0, state: RecipientState::Accepted, reply: "250 2.0.0 OK".to_owned() }];
            let (account, journal) = (sample.account.clone(), "accepted by Exchange: 250 2.0.0 OK".to_owned());
            let record = Record { id, account, at: now, recipients, next: Next::Archive, sent: None, journal };
            store.commit(Change::Record(Box::new(record))).await.expect("the disk has room");
            latencies.push(begun.elapsed());
        }
    }
    latencies
}

/// As a connection does: in pieces of what one read gives.
async fn write(store: &Store, incoming: &Incoming) -> Body {
    let Body::Inline(bytes) = &incoming.body else { unreachable!("the sample is inline") };
    let mut writer = store.bodies().create(incoming.id).await.expect("ids are new");
    for piece in bytes.chunks(16 * KIB) {
        writer.write(piece).await.expect("the disk has room");
    }
    writer.finish().await.expect("the disk has room")
}
