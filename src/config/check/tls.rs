//! `tls`, `require_tls`, `certificate` and `key` of a listener.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::clock::Clock;
use crate::config::review::Review;
use crate::config::section::{Section, choice, switch, text};
use crate::config::{Certificate, ListenerTls, TlsBegins};

/// RFC 8314 section 7.3: TLS begins with the first octet.
const SUBMISSIONS: u16 = 465;

/// How the listener at `port` speaks TLS; `None` if it does not, or if something is missing.
pub(super) fn tls(listener: &Section<'_>, port: u16, review: &mut Review) -> Option<ListenerTls> {
    let words = [("none", None), ("starttls", Some(TlsBegins::WithStartTls)), ("implicit", Some(TlsBegins::AtOnce))];
    let read = listener.read("tls", choice(&words, &[]), review);
    // With a wrong word nobody knows what the other keys are for.
    let known = read.is_some() || !listener.has("tls");
    let begins = read.flatten();
    let required = listener.read("require_tls", switch, review).unwrap_or(false);
    let files = files(listener, review);
    let Some(begins) = begins else {
        if known {
            without(listener, required, review);
        }
        return None;
    };
    if port == SUBMISSIONS && begins == TlsBegins::WithStartTls {
        let text = "programs expect TLS from the first octet at port 465 (RFC 8314): \"implicit\" fits it";
        listener.warning("tls", text, review);
    }
    let [Some(file), Some(key_file)] = files else {
        for (key, what) in [("certificate", "the certificate with its chain"), ("key", "its private key")] {
            if !listener.has(key) {
                listener.missing(key, &format!("TLS needs {what}: name the PEM file"), review);
            }
        }
        return None;
    };
    match Certificate::read(&file, &key_file) {
        Ok(certificate) => {
            if let Some(doubt) = certificate.doubt(Clock::system().now()) {
                listener.warning("certificate", doubt, review);
            }
            Some(ListenerTls { begins, required, certificate })
        }
        Err(errors) => {
            for error in errors {
                listener.problem(error.key, error.text, review);
            }
            None
        }
    }
}

/// `check-config` is run by root, the relay is not: what its user cannot read is pointed out before a start fails. The owner of the data
/// folder is that user.
pub(super) fn is_within_reach(tls: &ListenerTls, data_dir: &Path, listener: &Section<'_>, review: &mut Review) {
    if let Some((key, text)) = closed(&tls.certificate, data_dir) {
        listener.warning(key, text, review);
    }
}

/// Which of a certificate's files, by its key, the owner of the data folder cannot read.
pub(super) fn closed(certificate: &Certificate, data_dir: &Path) -> Option<(&'static str, String)> {
    let folder = std::fs::metadata(data_dir).ok()?;
    let (key, closed) = certificate.closed_to(folder.uid())?;
    let text = format!(
        "{} is closed to the user who owns {} (number {}): the relay cannot start as that user; let its group read it",
        closed.display(),
        data_dir.display(),
        folder.uid()
    );
    Some((key, text))
}

/// What has no effect, or the wrong one, on a listener without TLS.
fn without(listener: &Section<'_>, required: bool, review: &mut Review) {
    if required {
        let text = "needs TLS, and this listener has none: set tls = \"starttls\", or remove the line";
        listener.problem("require_tls", text, review);
    }
    for key in ["certificate", "key"] {
        if listener.has(key) {
            let text = "has no effect without TLS: set tls = \"starttls\" (or \"implicit\"), or remove the line";
            listener.problem(key, text, review);
        }
    }
}

fn files(listener: &Section<'_>, review: &mut Review) -> [Option<PathBuf>; 2] {
    ["certificate", "key"].map(|key| {
        let path = listener.read(key, |value| text(value).map(str::to_owned), review)?;
        Some(review.resolve(path))
    })
}
