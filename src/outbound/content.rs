//! A message on its way out: the rewritten beginning, then the stored bytes from memory or file, piece by piece.

use std::io;
use std::io::SeekFrom;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::message::{Body, HEADER_LIMIT, Headers};

/// How much is read and sent at a time.
pub(super) const PIECE: usize = 64 * 1024;

/// What is sent behind DATA, not yet encoded.
#[derive(Debug)]
pub(super) struct Content {
    head: Bytes,
    rest: Rest,
    /// About the octets that will be sent (RFC 1870 section 3 wants no more than that).
    pub(super) size: u64,
    /// An octet above 127 is in it.
    pub(super) eight_bit: bool,
}

#[derive(Debug)]
enum Rest {
    Memory(Bytes),
    File { path: PathBuf, from: u64, length: u64 },
}

/// The first octets of a stored message, all that rewriting looks at.
///
/// A file has to have the length that was recorded: half a message is never sent.
///
/// # Errors
/// The file cannot be read, or is damaged.
pub async fn beginning(body: &Body, size: u64) -> io::Result<Bytes> {
    match body {
        Body::Inline(bytes) => Ok(bytes.slice(..bytes.len().min(HEADER_LIMIT))),
        Body::File(path) => {
            let file = opened(path).await?;
            let length = file.metadata().await?.len();
            if length != size {
                let damage = format!("{} has {length} octets instead of {size}", path.display());
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, damage));
            }
            let mut start = Vec::new();
            file.take(u64::try_from(HEADER_LIMIT).unwrap_or(u64::MAX)).read_to_end(&mut start).await?;
            Ok(start.into())
        }
    }
}

impl Content {
    /// Its Message-ID as it leaves, by which it is found in Exchange's message trace.
    pub(super) fn message_id(&self) -> Option<String> {
        let headers = Headers::scan(&self.head);
        Some(String::from_utf8_lossy(headers.first("Message-ID")?.value).trim().to_owned())
    }

    /// `head`, then what is stored from `resume_at` on. Reads the whole file once, to know whether it has 8-bit text.
    pub(super) async fn new(head: Vec<u8>, body: &Body, resume_at: usize, size: u64) -> io::Result<Self> {
        let from = u64::try_from(resume_at).unwrap_or(u64::MAX);
        let rest = match body {
            Body::Inline(bytes) => Rest::Memory(bytes.slice(resume_at.min(bytes.len())..)),
            Body::File(path) => Rest::File { path: path.clone(), from, length: size.saturating_sub(from) },
        };
        let rest_size = match &rest {
            Rest::Memory(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            Rest::File { length, .. } => *length,
        };
        let head_size = u64::try_from(head.len()).unwrap_or(u64::MAX);
        let mut content = Self { head: head.into(), rest, size: head_size.saturating_add(rest_size), eight_bit: false };
        let mut pieces = content.pieces().await?;
        while let Some(piece) = pieces.next().await? {
            if !piece.is_ascii() {
                content.eight_bit = true;
                break;
            }
        }
        Ok(content)
    }

    /// Whether the beginning has an octet above 127: header text that is not ASCII.
    pub(super) fn head_is_ascii(&self) -> bool {
        self.head.is_ascii()
    }

    /// All of it from the start.
    pub(super) async fn pieces(&self) -> io::Result<Pieces> {
        let rest = match &self.rest {
            Rest::Memory(bytes) => Source::Memory(bytes.clone()),
            Rest::File { path, from, length } => open(path, *from, *length).await?,
        };
        Ok(Pieces { head: Some(self.head.clone()), rest })
    }
}

async fn opened(path: &Path) -> io::Result<File> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    File::open(path).await.map_err(named)
}

async fn open(path: &Path, from: u64, length: u64) -> io::Result<Source> {
    let mut file = opened(path).await?;
    file.seek(SeekFrom::Start(from)).await?;
    file.set_max_buf_size(PIECE);
    Ok(Source::File { file, left: length })
}

/// The pieces of a message in order, each at most [`PIECE`] octets but for the first.
pub(super) struct Pieces {
    head: Option<Bytes>,
    rest: Source,
}

enum Source {
    Memory(Bytes),
    File { file: File, left: u64 },
}

impl Pieces {
    /// The next piece; `None` behind the last one. A file that ends too early is an error.
    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if let Some(head) = self.head.take() {
            return Ok(Some(head));
        }
        match &mut self.rest {
            Source::Memory(bytes) if bytes.is_empty() => Ok(None),
            Source::Memory(bytes) => Ok(Some(bytes.split_to(bytes.len().min(PIECE)))),
            Source::File { left: 0, .. } => Ok(None),
            Source::File { file, left } => {
                let want = usize::try_from(*left).unwrap_or(PIECE).min(PIECE);
                let mut piece = vec![0; want];
                file.read_exact(&mut piece).await?;
                *left -= u64::try_from(want).unwrap_or(*left);
                Ok(Some(piece.into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(content: &Content) -> Vec<u8> {
        let (mut pieces, mut all) = (content.pieces().await.unwrap(), Vec::new());
        while let Some(piece) = pieces.next().await.unwrap() {
            all.extend_from_slice(&piece);
        }
        all
    }

    #[tokio::test]
    async fn memory_and_file_give_the_same_bytes() {
        let stored: Vec<u8> = (0..200_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let size = u64::try_from(stored.len()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("body");
        std::fs::write(&path, &stored).unwrap();
        for body in [Body::Inline(stored.clone().into()), Body::File(path)] {
            assert_eq!(beginning(&body, size).await.unwrap(), stored);
            let content = Content::new(b"head".to_vec(), &body, 1000, size).await.unwrap();
            assert_eq!(read(&content).await, [b"head", &stored[1000..]].concat());
            assert_eq!(content.size, 199_004);
            assert!(content.eight_bit && content.head_is_ascii());
        }
    }

    #[tokio::test]
    async fn a_file_that_is_not_as_long_as_recorded_is_never_sent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("body");
        std::fs::write(&path, b"half a mess").unwrap();
        let body = Body::File(path);
        assert!(beginning(&body, 12).await.is_err());
        assert!(Content::new(Vec::new(), &body, 0, 12).await.is_err());
        assert!(!Content::new(Vec::new(), &body, 0, 11).await.unwrap().eight_bit);
    }
}
