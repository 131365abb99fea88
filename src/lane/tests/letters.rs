//! Mails as programs write them.

use std::fmt::Write;

use base64::Engine as _;

/// A mail in the making.
#[derive(Clone)]
pub struct Letter {
    pub subject: String,
    text: String,
    fields: Vec<String>,
    subtype: &'static str,
    charset: &'static str,
    encoding: &'static str,
    alternative: bool,
}

/// As Moodle writes every mail: text and HTML, both quoted-printable.
pub fn moodle(subject: &str, text: &str) -> Letter {
    let mut letter = Letter::new(subject, text).encoded("quoted-printable");
    letter.alternative = true;
    letter
        .with("Date: Mon, 2 Nov 2026 10:00:00 +0100")
        .with("From: \"=?utf-8?B?QWRtaW4gKHZpYSBMTVMp?=\" <noreply@lms.example>")
        .with("To: \"Anna Berg\" <anna@example.com>")
        .with("Message-ID: <5f3a2b1c0d9e80.12345678@lms.example>")
        .with("X-Mailer: PHPMailer 6.6.5 (https://github.com/PHPMailer/PHPMailer)")
        .with("X-Priority: 3")
}

impl Letter {
    pub fn new(subject: &str, text: &str) -> Self {
        Self {
            subject: subject.to_owned(),
            text: text.to_owned(),
            fields: Vec::new(),
            subtype: "plain",
            charset: "utf-8",
            encoding: "8bit",
            alternative: false,
        }
    }

    pub fn with(mut self, field: &str) -> Self {
        self.fields.push(field.to_owned());
        self
    }

    pub fn html(mut self) -> Self {
        self.subtype = "html";
        self
    }

    pub fn encoded(mut self, encoding: &'static str) -> Self {
        self.encoding = encoding;
        self
    }

    pub fn in_charset(mut self, charset: &'static str) -> Self {
        self.charset = charset;
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut head = String::new();
        for field in &self.fields {
            let _ = write!(head, "{field}\r\n");
        }
        let subject = base64::engine::general_purpose::STANDARD.encode(&self.subject);
        let _ = write!(head, "Subject: =?utf-8?B?{subject}?=\r\nMIME-Version: 1.0\r\n");
        let mut mail = head.into_bytes();
        if self.alternative {
            mail.extend(b"Content-Type: multipart/alternative;\r\n boundary=\"b1_x\"\r\n\r\nThis is a multi-part message in MIME format.\r\n\r\n");
            for (subtype, text) in
                [("plain", self.text.clone()), ("html", format!("<p>{}</p>", self.text.replace('&', "&amp;")))]
            {
                mail.extend(b"--b1_x\r\n");
                mail.extend(self.part(subtype, &text));
            }
            mail.extend(b"--b1_x--\r\n");
        } else {
            mail.extend(self.part(self.subtype, &self.text));
        }
        mail
    }

    fn part(&self, subtype: &str, text: &str) -> Vec<u8> {
        let Self { charset, encoding, .. } = self;
        let head =
            format!("Content-Type: text/{subtype}; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n");
        let text: Vec<u8> = match *charset {
            "iso-8859-1" => text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect(),
            _ => text.as_bytes().to_vec(),
        };
        let text = match *encoding {
            "base64" => base64::engine::general_purpose::STANDARD.encode(text).into_bytes(),
            "quoted-printable" => quoted_printable(&text),
            _ => text,
        };
        [head.as_bytes(), &text, b"\r\n"].concat()
    }
}

/// Lines of at most 76 characters, as PHPMailer breaks them.
fn quoted_printable(text: &[u8]) -> Vec<u8> {
    let mut out = String::new();
    let mut column = 0;
    for (n, &byte) in text.iter().enumerate() {
        if byte == b'\r' && text.get(n + 1) == Some(&b'\n') || byte == b'\n' && n > 0 && text[n - 1] == b'\r' {
            out.push(char::from(byte));
            column = 0;
            continue;
        }
        let coded = if byte == b'=' || !(32..127).contains(&byte) {
            format!("={byte:02X}")
        } else {
            char::from(byte).to_string()
        };
        if column + coded.len() > 75 {
            out.push_str("=\r\n");
            column = 0;
        }
        column += coded.len();
        out.push_str(&coded);
    }
    out.into_bytes()
}
