//! The client's side of SMTP, no more of it than a load needs.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// A server that says nothing for so long has failed.
const PATIENCE: Duration = Duration::from_mins(1);

/// One session.
pub struct Dialogue {
    stream: TcpStream,
    heard: Vec<u8>,
}

/// How long one message took.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    /// From MAIL to the answer to the final dot.
    pub transaction: Duration,
    /// From the final dot to its answer.
    pub dot: Duration,
}

impl Dialogue {
    /// Connects, is greeted and logs in if `auth` (an initial response for PLAIN) is given.
    pub async fn begin(to: SocketAddr, auth: Option<&str>) -> io::Result<Self> {
        let stream = timeout(PATIENCE, TcpStream::connect(to)).await.map_err(|_| late("connecting"))??;
        stream.set_nodelay(true)?;
        let mut dialogue = Self { stream, heard: Vec::new() };
        dialogue.expect(2, "the greeting").await?;
        dialogue.ask(b"EHLO load.example\r\n", 2, "EHLO").await?;
        if let Some(auth) = auth {
            dialogue.ask(format!("AUTH PLAIN {auth}\r\n").as_bytes(), 2, "AUTH").await?;
        }
        Ok(dialogue)
    }

    /// Hands in one message. `mail` ends with the final dot; `lines` are MAIL, RCPT and DATA.
    pub async fn submit(&mut self, lines: [&[u8]; 3], mail: &[u8], pipelining: bool) -> io::Result<Took> {
        let begun = Instant::now();
        let expected = [(2, "MAIL"), (2, "RCPT"), (3, "DATA")];
        if pipelining {
            self.say(&lines.concat()).await?;
            for (class, what) in expected {
                self.expect(class, what).await?;
            }
        } else {
            for (line, (class, what)) in lines.iter().zip(expected) {
                self.ask(line, class, what).await?;
            }
        }
        self.say(mail).await?;
        let dotted = Instant::now();
        self.expect(2, "the final dot").await?;
        let done = Instant::now();
        Ok(Took { transaction: done - begun, dot: done - dotted })
    }

    /// Says QUIT and waits for its answer.
    pub async fn quit(mut self) -> io::Result<()> {
        self.ask(b"QUIT\r\n", 2, "QUIT").await
    }

    async fn ask(&mut self, line: &[u8], class: u8, what: &str) -> io::Result<()> {
        self.say(line).await?;
        self.expect(class, what).await
    }

    async fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(PATIENCE, self.stream.write_all(bytes)).await.map_err(|_| late("writing"))?
    }

    /// Reads one reply; anything but `class` (its first digit) is a failure.
    async fn expect(&mut self, class: u8, what: &str) -> io::Result<()> {
        let end = loop {
            if let Some(end) = reply_end(&self.heard) {
                break end;
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.heard)).await.map_err(|_| late(what))??;
            if read == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!("closed instead of answering {what}"),
                ));
            }
        };
        let reply: Vec<u8> = self.heard.drain(..end).collect();
        if reply.first().is_some_and(|digit| *digit == b'0' + class) {
            return Ok(());
        }
        Err(io::Error::other(format!("{what}: {}", String::from_utf8_lossy(&reply).trim_end())))
    }
}

/// Where the first reply ends, if it is whole.
fn reply_end(heard: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(n) = heard[from..].iter().position(|&byte| byte == b'\n') {
        let line = &heard[from..from + n];
        from += n + 1;
        if line.get(3) != Some(&b'-') {
            return Some(from);
        }
    }
    None
}

fn late(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("nothing for {} s: {what}", PATIENCE.as_secs()))
}
