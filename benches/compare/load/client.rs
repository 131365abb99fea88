//! The load client: so many sessions at once, each handing in one message after the other and waiting for its acknowledgement.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use tokio::sync::Barrier;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};

use crate::dialogue::{Dialogue, Took};
use crate::figures::{Figures, Spread, wall};

/// What is asked for.
#[derive(Args, Clone)]
pub struct Load {
    /// Where mail goes
    #[arg(long)]
    to: SocketAddr,
    /// Sessions at once
    #[arg(long, default_value_t = 10)]
    sessions: usize,
    /// Messages in all, whichever session hands them in
    #[arg(long, default_value_t = u64::MAX)]
    messages: u64,
    /// No new message after so many seconds
    #[arg(long, default_value_t = 3600.0)]
    seconds: f64,
    /// Octets of a message
    #[arg(long, default_value_t = 4096)]
    size: usize,
    /// A new connection for each message
    #[arg(long)]
    per_connection: bool,
    /// MAIL, RCPT and DATA in one packet (RFC 2920)
    #[arg(long)]
    pipelining: bool,
    /// "user:password" for AUTH PLAIN
    #[arg(long)]
    auth: Option<String>,
    /// MAIL FROM and From
    #[arg(long, default_value = "lms@contoso.com")]
    from: String,
    /// Milliseconds between the beginnings of two sessions
    #[arg(long, default_value_t = 0)]
    stagger: u64,
}

/// What the sessions share.
struct Shared {
    load: Load,
    auth: Option<String>,
    next: AtomicU64,
    all_ready: Barrier,
}

/// What one session has seen.
#[derive(Default)]
struct Seen {
    began: Option<Instant>,
    last: Option<Instant>,
    times: Vec<Took>,
    failures: Vec<String>,
}

/// Runs the load and prints the figures.
pub async fn run(load: Load) -> anyhow::Result<()> {
    let auth = load.auth.as_ref().map(|login| {
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        STANDARD.encode(format!("\0{user}\0{password}"))
    });
    let all_ready = Barrier::new(load.sessions + 1);
    let shared = Rc::new(Shared { load, auth, next: AtomicU64::new(0), all_ready });
    let local = LocalSet::new();
    let sessions: Vec<_> =
        (0..shared.load.sessions).map(|n| local.spawn_local(session(Rc::clone(&shared), n))).collect();
    let (began_at, seen) = local
        .run_until(async {
            shared.all_ready.wait().await;
            let began_at = wall();
            let mut seen = Vec::new();
            for session in sessions {
                seen.push(session.await?);
            }
            anyhow::Ok((began_at, seen))
        })
        .await?;
    println!("{}", serde_json::to_string(&figures(began_at, seen))?);
    Ok(())
}

fn figures(began_at: f64, seen: Vec<Seen>) -> Figures {
    let began = seen.iter().filter_map(|seen| seen.began).min();
    let last = seen.iter().filter_map(|seen| seen.last).max();
    let took = began.zip(last).map_or(Duration::ZERO, |(began, last)| last - began);
    let failures: Vec<String> = seen.iter().flat_map(|seen| seen.failures.clone()).collect();
    let times: Vec<Took> = seen.into_iter().flat_map(|seen| seen.times).collect();
    let messages = times.len();
    let spread = |of: fn(&Took) -> Duration| Spread::of(&mut times.iter().map(of).collect::<Vec<_>>());
    let rate = f64::from(u32::try_from(messages).unwrap_or(u32::MAX)) / took.as_secs_f64().max(1e-9);
    Figures {
        began_at,
        seconds: took.as_secs_f64(),
        messages,
        failures: failures.len(),
        failure: failures.into_iter().next(),
        rate,
        transaction: spread(|took| took.transaction),
        dot: spread(|took| took.dot),
    }
}

/// One session: logs in, waits for the others, and hands in mail until there is none left or the time is over.
async fn session(shared: Rc<Shared>, n: usize) -> Seen {
    let mut seen = Seen::default();
    let load = &shared.load;
    sleep(Duration::from_millis(load.stagger) * u32::try_from(n).unwrap_or(0)).await;
    let kept = if load.per_connection { None } else { Some(Dialogue::begin(load.to, shared.auth.as_deref()).await) };
    shared.all_ready.wait().await;
    let began = Instant::now();
    seen.began = Some(began);
    let mut mail = Mail::new(load);
    let mut dialogue = match kept {
        Some(Ok(dialogue)) => Some(dialogue),
        Some(Err(error)) => {
            seen.failures.push(error.to_string());
            return seen;
        }
        None => None,
    };
    while began.elapsed().as_secs_f64() < load.seconds {
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        if number >= load.messages {
            break;
        }
        mail.number(number);
        let took = match &mut dialogue {
            Some(dialogue) => dialogue.submit(mail.lines(), &mail.wire, load.pipelining).await,
            None => alone(&shared, &mail).await,
        };
        match took {
            Ok(took) => {
                seen.last = Some(Instant::now());
                seen.times.push(took);
            }
            Err(error) => {
                seen.failures.push(error.to_string());
                if dialogue.is_some() || seen.failures.len() > 20 {
                    return seen;
                }
            }
        }
    }
    if let Some(dialogue) = dialogue {
        // Everything was acknowledged: how the goodbye goes does not matter.
        drop(dialogue.quit().await);
    }
    seen
}

/// A message over a connection of its own; it counts from connect to the end of QUIT.
async fn alone(shared: &Shared, mail: &Mail) -> std::io::Result<Took> {
    let begun = Instant::now();
    let mut dialogue = Dialogue::begin(shared.load.to, shared.auth.as_deref()).await?;
    let took = dialogue.submit(mail.lines(), &mail.wire, shared.load.pipelining).await?;
    dialogue.quit().await?;
    Ok(Took { transaction: begun.elapsed(), ..took })
}

/// A message of the wanted size, numbered in its Message-ID, with the lines around it.
struct Mail {
    sender_line: Vec<u8>,
    wire: Vec<u8>,
    number_at: usize,
}

impl Mail {
    const RCPT: &[u8] = b"RCPT TO:<student@example.com>\r\n";
    const DIGITS: usize = 12;

    fn new(load: &Load) -> Self {
        let head = format!(
            "From: <{from}>\r\nTo: <student@example.com>\r\nSubject: Forum: a new post\r\nDate: Mon, 2 Nov 2026 10:00:00 +0000\r\n\
             MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\nMessage-ID: <{run}.",
            from = load.from,
            run = std::process::id(),
        );
        let number_at = head.len();
        let mut wire = format!("{head}{:0width$}@load.example>\r\n\r\n", 0, width = Self::DIGITS).into_bytes();
        let line = [&[b'x'; 74][..], b"\r\n"].concat();
        while wire.len() < load.size {
            let left = load.size - wire.len();
            if left >= line.len() {
                wire.extend_from_slice(&line);
            } else {
                wire.resize(wire.len() + left.saturating_sub(2), b'x');
                wire.extend_from_slice(b"\r\n");
            }
        }
        wire.extend_from_slice(b".\r\n");
        Self { sender_line: format!("MAIL FROM:<{}>\r\n", load.from).into_bytes(), wire, number_at }
    }

    fn number(&mut self, number: u64) {
        let digits = format!("{number:0width$}", width = Self::DIGITS);
        self.wire[self.number_at..self.number_at + Self::DIGITS].copy_from_slice(&digits.as_bytes()[..Self::DIGITS]);
    }

    fn lines(&self) -> [&[u8]; 3] {
        [&self.sender_line, Self::RCPT, b"DATA\r\n"]
    }
}
