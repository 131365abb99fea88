//! Whatever goes wrong, and in whatever order: every recipient that was taken ends delivered once, delivered more often only where a doubt is
//! marked or a crash cut it off, refused and told of once, or waiting. Nothing else.
//!
//! Each script is a random run of mails of several apps, faults, orders of an administrator, restarts, crashes and time that passes, on a clock of
//! its own, against a model of a few lines. At its end all faults are over, and whatever can leave has to. Many of them:
//!
//! ```text
//! FAULT_SCRIPTS=10000 cargo test --release --test relay fault_scripts -- --nocapture
//! ```
//!
//! `FAULT_SEED=N` repeats one that has failed; with `FAULT_SCRIPTS`, it is the first of them.

mod model;
mod running;
mod script;
mod stage;

pub use model::told;

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use self::model::Model;
use self::script::Script;
use self::stage::Stage;
use crate::support::blocking;

/// So many scripts in an ordinary run.
const SCRIPTS: u64 = 60;
/// So many at once.
const AT_ONCE: u64 = 12;
/// The most scripts in one process: each start of a relay leaves a file open (see `store/sqlite/checkpoint.rs`), and many systems let a process have
/// 1,024.
const BATCH: u64 = 100;
/// As the test is called to the program that holds it.
const NAME: &str = "fault_scripts::whatever_goes_wrong_every_recipient_gets_the_mail_once_or_is_accounted_for";

/// Plays one script; what is wrong with how it ended.
async fn run(script: &Script) -> Vec<String> {
    let mut model = Model::default();
    let mut stage = Stage::set().await.play(script, &mut model).await;
    let mut wrong = std::mem::take(&mut stage.wrong);
    // Also as things stand in the middle of it.
    let (fates, accepted) = stage.look(&model).await;
    wrong.extend(model.check(&fates, &accepted, false));
    stage.end(&mut model).await;
    let (fates, accepted) = stage.look(&model).await;
    wrong.extend(model.check(&fates, &accepted, true));
    wrong.extend(model.check_notices(&fates, &accepted));
    stage.stop().await;
    wrong
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

/// Plays the scripts of these seeds in this process.
async fn play(first: u64, scripts: u64) {
    let next = Arc::new(AtomicU64::new(0));
    let worker = |next: Arc<AtomicU64>| async move {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= scripts {
                return;
            }
            let seed = first + n;
            let wrong = tokio::spawn(async move { run(&Script::of_seed(seed)).await }).await;
            let wrong = wrong.unwrap_or_else(|panic| vec![panic.to_string()]);
            if !wrong.is_empty() {
                next.store(scripts, Ordering::Relaxed);
            }
            let wrong = wrong.join("\n");
            assert!(wrong.is_empty(), "{wrong}\n{:#?}\nFAULT_SEED={seed}", Script::of_seed(seed).steps);
        }
    };
    let workers: Vec<_> = (0..AT_ONCE.min(scripts)).map(|_| tokio::spawn(worker(next.clone()))).collect();
    let mut failed = 0;
    for worker in workers {
        failed += usize::from(worker.await.is_err());
    }
    assert_eq!(failed, 0, "scripts have failed, see above");
}

/// Plays them in processes of their own, one after the other; stops at the first failure.
fn play_in_batches(first: u64, scripts: u64) {
    let (since, mut done) = (Instant::now(), 0);
    while done < scripts {
        let (seed, batch) = (first + done, BATCH.min(scripts - done));
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([NAME, "--exact", "--nocapture"]);
        command.env("FAULT_SEED", seed.to_string()).env("FAULT_SCRIPTS", batch.to_string()).stdin(Stdio::null());
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(
            output.status.success(),
            "{said}\none of the seeds {seed} to {} has failed, see above",
            seed + batch - 1
        );
        assert!(said.contains(&all_accounted_for(seed, batch)), "nothing was played: {said}");
        done += batch;
        println!("{done} of {scripts} scripts, {} s", since.elapsed().as_secs());
    }
}

fn all_accounted_for(first: u64, scripts: u64) -> String {
    format!("{scripts} scripts from seed {first} on, all accounted for")
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_goes_wrong_every_recipient_gets_the_mail_once_or_is_accounted_for() {
    let seed = number("FAULT_SEED");
    let scripts = number("FAULT_SCRIPTS").unwrap_or(if seed.is_some() { 1 } else { SCRIPTS });
    let first = seed.unwrap_or_else(|| rand::random::<u32>().into());
    if scripts > BATCH {
        blocking(move || play_in_batches(first, scripts)).await;
    } else {
        play(first, scripts).await;
    }
    println!("{}", all_accounted_for(first, scripts));
}
