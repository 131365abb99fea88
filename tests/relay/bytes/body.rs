//! Bodies made at random: trees of MIME, and text that no standard would have.

use proptest::prelude::*;
use proptest::sample::select;

/// A body and the fields that describe it.
#[derive(Clone, Debug, Default)]
pub struct Entity {
    /// Whole lines.
    pub head: Vec<u8>,
    pub body: Vec<u8>,
}

/// A body with or without MIME.
pub fn entity() -> BoxedStrategy<Entity> {
    prop_oneof![
        2 => text().prop_map(|body| Entity { head: Vec::new(), body }),
        1 => tree().prop_map(|Entity { head, body }| Entity { head: [b"MIME-Version: 1.0\r\n", &head[..]].concat(), body }),
    ].boxed()
}

/// Lines of every kind, ended in every way, the last one perhaps not at all.
pub fn text() -> BoxedStrategy<Vec<u8>> {
    prop::collection::vec(piece(), 0..20).prop_map(|pieces| pieces.concat()).boxed()
}

fn piece() -> BoxedStrategy<Vec<u8>> {
    let ends = [
        "\r\n",
        "\r\n.\r\n",
        "\r\n..\r\n",
        "\r\n.",
        "\r\n..",
        "\n",
        "\r",
        "\n.\n",
        "\r.\r",
        "\n.\r\n",
        "\r\n.\n",
        "\r\r\n",
        "\n\r",
        "\0",
        ".",
    ];
    prop_oneof![
        8 => "[ -~]{0,80}\r\n".prop_map(String::into_bytes),
        6 => select(ends.to_vec()).prop_map(|end| end.as_bytes().to_vec()),
        2 => "[äöüß€ a-z]{0,30}\r\n".prop_map(String::into_bytes),
        2 => prop::collection::vec(any::<u8>(), 0..60),
        1 => (1_usize..3_000).prop_map(|size| vec![b'l'; size]),
        1 => Just(b"From: not@the.header\r\nFrom here on\r\n".to_vec()),
    ]
    .boxed()
}

/// A part, or parts in parts.
fn tree() -> BoxedStrategy<Entity> {
    leaf()
        .prop_recursive(4, 16, 4, |inner| {
            let boundary = "[A-Za-z0-9'()+_,./:=?-]{1,60}";
            let kind = select(vec!["mixed", "alternative", "related", "report; report-type=delivery-status"]);
            (kind, boundary, prop::collection::vec(inner, 1..4), text(), any::<bool>()).prop_map(
                |(kind, boundary, parts, preamble, closed)| multipart(kind, &boundary, &parts, &preamble, closed),
            )
        })
        .boxed()
}

fn multipart(kind: &str, boundary: &str, parts: &[Entity], preamble: &[u8], closed: bool) -> Entity {
    let mut body = preamble.to_vec();
    for part in parts {
        body.extend_from_slice(format!("\r\n--{boundary}\r\n").as_bytes());
        body.extend_from_slice(&part.head);
        body.extend_from_slice(b"\r\n");
        body.extend_from_slice(&part.body);
    }
    if closed {
        body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    }
    Entity { head: format!("Content-Type: multipart/{kind};\r\n\tboundary=\"{boundary}\"\r\n").into_bytes(), body }
}

fn leaf() -> BoxedStrategy<Entity> {
    let part = |kind: &str, encoding: &str, body: Vec<u8>| Entity {
        head: format!("Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n").into_bytes(),
        body,
    };
    let base64 = prop::collection::vec("[A-Za-z0-9+/]{76}\r\n", 0..20).prop_map(|lines| lines.concat().into_bytes());
    let quoted = prop::collection::vec("([ -<>-~]|=[0-9A-F]{2}){0,24}=?\r\n", 0..12)
        .prop_map(|lines| lines.concat().into_bytes());
    prop_oneof![
        base64.prop_map(move |body| part("image/png; name=\"ä.png\"", "base64", body)),
        quoted.prop_map(move |body| part("text/html; charset=utf-8", "quoted-printable", body)),
        text().prop_map(move |body| part("text/plain; charset=iso-8859-1", "8bit", body)),
        text().prop_map(|body| Entity { head: Vec::new(), body }),
    ]
    .boxed()
}
