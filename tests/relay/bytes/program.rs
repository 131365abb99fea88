//! A program that hands in mail, its bytes cut into packets or chunks as it likes.

use std::net::SocketAddr;

use crate::support::{Client, expect};

/// How a mail's bytes are handed in.
#[derive(Clone, Debug)]
pub struct Manner {
    /// By BDAT where it is offered (RFC 3030).
    pub chunked: bool,
    /// The sizes of packets and chunks, over and over.
    pub cuts: Vec<usize>,
}

/// A session with the relay.
pub struct Program {
    client: Client,
    offers_chunks: bool,
}

impl Program {
    pub fn connect(door: SocketAddr) -> Self {
        let mut client = Client::connect(door);
        expect(&client.reply(), "220");
        let offers = client.ask("EHLO client.example");
        expect(&offers, "250");
        let offers_chunks = offers.lines().any(|line| line.get(4..).is_some_and(|word| word.trim() == "CHUNKING"));
        Self { client, offers_chunks }
    }

    /// Hands in one mail; what the body was, as the relay has to understand it: by DATA its last line always has an end.
    pub fn hand_in(&mut self, sender: &str, recipient: &str, mail: &[u8], manner: &Manner) -> Vec<u8> {
        expect(&self.client.ask(&format!("MAIL FROM:<{sender}>")), "250");
        expect(&self.client.ask(&format!("RCPT TO:<{recipient}>")), "250");
        if manner.chunked && self.offers_chunks {
            self.in_chunks(mail, &manner.cuts);
            return mail.to_vec();
        }
        let mut whole = mail.to_vec();
        if !whole.is_empty() && !whole.ends_with(b"\r\n") {
            whole.extend_from_slice(b"\r\n");
        }
        expect(&self.client.ask("DATA"), "354");
        for packet in cut(&[&stuffed(&whole)[..], b".\r\n"].concat(), &manner.cuts) {
            self.client.send(packet);
        }
        expect(&self.client.reply(), "250");
        whole
    }

    fn in_chunks(&mut self, mail: &[u8], cuts: &[usize]) {
        for chunk in cut(mail, cuts) {
            self.client.send(&[format!("BDAT {}\r\n", chunk.len()).as_bytes(), chunk].concat());
            expect(&self.client.reply(), "250");
        }
        expect(&self.client.ask("BDAT 0 LAST"), "250");
    }
}

/// RFC 5321 section 4.5.2: a dot more at the start of each line that has one. Lines are ended by CRLF alone.
fn stuffed(mail: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(mail.len() + mail.len() / 64);
    for (n, &byte) in mail.iter().enumerate() {
        if byte == b'.' && (n == 0 || mail[..n].ends_with(b"\r\n")) {
            wire.push(b'.');
        }
        wire.push(byte);
    }
    wire
}

fn cut<'a>(mut bytes: &'a [u8], cuts: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut sizes = cuts.iter().cycle();
    std::iter::from_fn(move || {
        let size = bytes.len().min(*sizes.next()?);
        let (piece, rest) = bytes.split_at(size);
        bytes = rest;
        (!piece.is_empty()).then_some(piece)
    })
}
