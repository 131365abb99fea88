//! Mail of every kind that a sending program may bring, as text files hold it: with LF at the ends of the lines.

use crate::support::MAILBOX;

/// One of each kind, told apart by their subjects.
pub fn of_every_kind() -> Vec<Vec<u8>> {
    let bodies: [(&str, Vec<u8>); 8] = [
        ("dots", b".\n..\n...\n.dot\n \n.\nend\n".to_vec()),
        ("UTF-8", "Grüße aus Köln, привет, こんにちは\n".repeat(50).into_bytes()),
        ("Latin-1", b"Gr\xfc\xdfe aus K\xf6ln: \x80\xff\xfe\n".repeat(20)),
        ("a long line", [vec![b'x'; 3_000], b"\nnext\n".to_vec()].concat()),
        ("trailing white space", b"two spaces  \na tab\t\n\n\n   \n\n".to_vec()),
        ("nothing", Vec::new()),
        ("like SMTP", b"DATA\nQUIT\n.\nMAIL FROM:<you@example.com>\nBDAT 5 LAST\nFrom here on\n>From there\n".to_vec()),
        (
            "large",
            "TWFuIGlzIGRpc3Rpbmd1aXNoZWQsIG5vdCBvbmx5IGJ5IGhpcyByZWFzb24sIGJ1dCBieSB0aGlz\n"
                .repeat(30_000)
                .into_bytes(),
        ),
    ];
    bodies.into_iter().map(|(subject, body)| [head(subject).into_bytes(), body].concat()).collect()
}

/// A complete head with the empty line behind it: folded fields, a field without space, encoded words, two of the same name.
fn head(subject: &str) -> String {
    format!(
        "From: =?utf-8?B?SsO8cmdlbg==?= <{MAILBOX}>\nTo: you@example.com,\n\t\"Somebody, Else\" <me@example.com>\n\
         Subject: {subject}\nDate: Sat, 21 Nov 2026 06:20:55 +0000\nMessage-ID: <{}@letters.example>\n\
         X-Odd:no space\nX-Odd:   many\n\tlines \n  folded\nMIME-Version: 1.0\n\
         Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n",
        subject.replace(' ', "-")
    )
}
