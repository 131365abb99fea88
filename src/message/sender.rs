//! Who a message says it is from, and who it has to say it is from: the sender policy on the values of `From` and `Sender`.

use super::{Address, Envelope, Headers, Mailbox, Mailboxes};

/// What is done about a sender that the account may not send as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SenderPolicy {
    /// It becomes the account's mailbox; replies still go to the original.
    #[default]
    Rewrite,
    /// It leaves as it came, and Exchange decides.
    Keep,
    /// The message is not taken. One that was, while its sender was permitted, does not leave in another name. What names nobody (`<>`,
    /// a `From` without an address) becomes the mailbox.
    Refuse,
}

/// The senders that an account may send as.
#[derive(Clone, Copy, Debug)]
pub struct Permitted<'a> {
    /// The account's own address.
    pub mailbox: &'a Address,
    /// Others that it was granted.
    pub send_as: &'a [Address],
}

impl Permitted<'_> {
    /// Whether this address may stand in MAIL FROM, `From` and `Sender`.
    pub fn allows(&self, address: &Address) -> bool {
        self.mailbox == address || self.send_as.contains(address)
    }
}

/// The first address in MAIL FROM and `From` that is not permitted.
///
/// `start` is the beginning of the message. The null sender is nobody's, and a `From` without an address names nobody.
pub fn foreign_sender(start: &[u8], envelope: &Envelope, permitted: Permitted<'_>) -> Option<Address> {
    senders(start, envelope).into_iter().find(|sender| !permitted.allows(sender))
}

/// Whom a refusal of the sender most likely means: of those that a message leaves as, one that is not permitted, else one that was granted,
/// else the mailbox itself, as which a person who was given it has to be allowed to send too. `start` is the beginning of the message as it
/// came.
pub fn doubtful_sender(start: &[u8], envelope: &Envelope, permitted: Permitted<'_>, policy: SenderPolicy) -> Address {
    let mut senders = senders(start, envelope);
    // People know a mail by its From.
    senders.rotate_left(usize::from(envelope.sender.is_some()));
    // Whoever is not permitted has been replaced by the mailbox.
    senders.retain(|sender| policy != SenderPolicy::Rewrite || permitted.allows(sender));
    senders.retain(|sender| sender != permitted.mailbox);
    senders.iter().find(|sender| !permitted.allows(sender)).or(senders.first()).unwrap_or(permitted.mailbox).clone()
}

/// MAIL FROM, then the addresses in `From`.
fn senders(start: &[u8], envelope: &Envelope) -> Vec<Address> {
    let headers = Headers::scan(start);
    let named = headers.all("From").flat_map(|field| Mailboxes::find(field.value).list).map(|mailbox| mailbox.address);
    envelope.sender.iter().cloned().chain(named).collect()
}

/// What becomes of a `From` field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FromEdit {
    /// Its value from now on, as it stands behind the colon; `None` leaves it as it is.
    pub value: Option<Vec<u8>>,
    /// The value of a `Reply-To` field that leads to the original senders, for a message that has none.
    pub reply_to: Option<Vec<u8>>,
    /// Several permitted senders stand there: a `Sender` field has to say which one it was (RFC 5322 section 3.6.2).
    pub needs_sender: bool,
    /// What to write into the journal about it.
    pub note: Option<String>,
}

/// Applies [`SenderPolicy::Rewrite`] to the value of a `From` field.
pub fn rewrite_from(value: &[u8], permitted: Permitted<'_>) -> FromEdit {
    let found = Mailboxes::find(value);
    let all_permitted = found.list.iter().all(|mailbox| permitted.allows(&mailbox.address));
    match &found.list[..] {
        [_] if found.sound && all_permitted => FromEdit::default(),
        [_, ..] if found.sound && all_permitted => FromEdit { needs_sender: true, ..FromEdit::default() },
        [only] if found.sound => FromEdit {
            value: Some(put_in_place(value, only, permitted.mailbox)),
            reply_to: Some(value.to_vec()),
            needs_sender: false,
            note: Some(format!("From {} became {}", only.address, permitted.mailbox)),
        },
        [only] if all_permitted => FromEdit {
            value: Some(written_anew(found.name.as_deref(), &only.address)),
            note: Some(format!("From was not as RFC 5322 wants it: written anew with {}", only.address)),
            ..FromEdit::default()
        },
        originals => FromEdit {
            value: Some(written_anew(found.name.as_deref(), permitted.mailbox)),
            reply_to: reply_to(value, &found),
            needs_sender: false,
            note: Some(note(originals, permitted.mailbox)),
        },
    }
}

/// The value of a `Sender` field from now on, or `None` if it may stay.
pub fn rewrite_sender(value: &[u8], permitted: Permitted<'_>) -> Option<Vec<u8>> {
    let found = Mailboxes::find(value);
    match &found.list[..] {
        [only] if found.sound && permitted.allows(&only.address) => None,
        [only] if found.sound => Some(put_in_place(value, only, permitted.mailbox)),
        _ => Some(written_anew(found.name.as_deref(), permitted.mailbox)),
    }
}

/// The value with one address in the place of another, every other byte as it was.
fn put_in_place(value: &[u8], old: &Mailbox, new: &Address) -> Vec<u8> {
    [&value[..old.place.start], new.as_str().as_bytes(), &value[old.place.end..]].concat()
}

fn written_anew(name: Option<&[u8]>, address: &Address) -> Vec<u8> {
    let address = format!(" <{address}>");
    match name {
        Some(name) => [b" ", name, address.as_bytes()].concat(),
        None => address.into_bytes(),
    }
}

/// Where replies should go: the field as it was if it is sound, else the addresses that could be read.
fn reply_to(value: &[u8], found: &Mailboxes) -> Option<Vec<u8>> {
    if found.sound {
        return Some(value.to_vec());
    }
    let addresses: Vec<String> = found.list.iter().map(|mailbox| format!(" <{}>", mailbox.address)).collect();
    (!addresses.is_empty()).then(|| addresses.join(",").into_bytes())
}

fn note(originals: &[Mailbox], mailbox: &Address) -> String {
    match originals {
        [] => format!("From named no address: it became {mailbox}"),
        [first] => format!("From {} became {mailbox}", first.address),
        [first, ..] => format!("From {} and {} more became {mailbox}", first.address, originals.len() - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: Option<Vec<u8>>) -> Option<String> {
        bytes.map(|bytes| String::from_utf8(bytes).unwrap())
    }

    fn from(value: &str) -> (Option<String>, Option<String>, bool) {
        let (mailbox, send_as) = account();
        let edit = rewrite_from(value.as_bytes(), Permitted { mailbox: &mailbox, send_as: &send_as });
        (text(edit.value), text(edit.reply_to), edit.needs_sender)
    }

    fn account() -> (Address, Vec<Address>) {
        (Address::parse("lms@contoso.com").unwrap(), vec![Address::parse("noreply@contoso.com").unwrap()])
    }

    #[test]
    fn a_permitted_sender_stays_untouched() {
        for value in
            [" lms@contoso.com", " \"=?utf-8?B?SsO8?=\" <NoReply@Contoso.com>", " LMS\r\n <lms@contoso.com> (x)"]
        {
            assert_eq!(from(value), (None, None, false), "{value}");
        }
    }

    #[test]
    fn a_foreign_address_is_replaced_and_the_rest_of_the_field_kept() {
        for (value, new) in [
            (" teacher@school.org", " lms@contoso.com"),
            ("teacher@school.org (Jane (Doe))", "lms@contoso.com (Jane (Doe))"),
            (
                " \"=?utf-8?B?SsO8?= (via LMS)\"\r\n\t<teacher@school.org>",
                " \"=?utf-8?B?SsO8?= (via LMS)\"\r\n\t<lms@contoso.com>",
            ),
            (" Jürgen <@route:teacher@school.org> (c)", " Jürgen <lms@contoso.com> (c)"),
        ] {
            assert_eq!(from(value), (Some(new.to_owned()), Some(value.to_owned()), false), "{value}");
        }
    }

    #[test]
    fn several_senders_become_one_unless_all_are_permitted() {
        let value = " Ann <a@school.org>, Bob <b@school.org>";
        assert_eq!(from(value), (Some(" Ann <lms@contoso.com>".into()), Some(value.into()), false));
        assert_eq!(from(" lms@contoso.com, B <noreply@contoso.com>"), (None, None, true));
        let mixed = " lms@contoso.com, b@school.org";
        assert_eq!(from(mixed), (Some(" <lms@contoso.com>".into()), Some(mixed.into()), false));
    }

    #[test]
    fn what_is_broken_becomes_one_good_address() {
        for (value, new, reply_to) in [
            ("", " <lms@contoso.com>", None),
            (" <>", " <lms@contoso.com>", None),
            (" root (Cron Daemon)", " root (Cron Daemon) <lms@contoso.com>", None),
            (" Müller, Hans <h@school.org>", " \"Müller, Hans\" <lms@contoso.com>", Some(" <h@school.org>")),
            (" Müller, Hans <noreply@contoso.com>", " \"Müller, Hans\" <noreply@contoso.com>", None),
            (" Team: a@school.org, b@school.org;", " Team <lms@contoso.com>", Some(" <a@school.org>, <b@school.org>")),
        ] {
            assert_eq!(from(value), (Some(new.into()), reply_to.map(str::to_owned), false), "{value}");
        }
    }

    #[test]
    fn who_is_not_permitted_is_found_wherever_it_stands() {
        let (mailbox, send_as) = account();
        let permitted = Permitted { mailbox: &mailbox, send_as: &send_as };
        let foreign = |sender: &str, header: &str| {
            let sender = (!sender.is_empty()).then(|| Address::parse(sender).unwrap());
            let envelope = Envelope { sender, ..Envelope::default() };
            foreign_sender(format!("{header}\r\n\r\nFrom: in@the.text").as_bytes(), &envelope, permitted)
        };
        for header in ["From: LMS@contoso.com", "From: x <noreply@contoso.com>, lms@contoso.com", "From: root", "X: y"]
        {
            assert_eq!(foreign("", header), None, "{header}");
            assert_eq!(foreign("noreply@contoso.com", header), None, "{header}");
            assert_eq!(foreign("bob@school.org", header).unwrap().as_str(), "bob@school.org");
        }
        for header in ["From: Team: lms@contoso.com, a@school.org;", "from : lms@contoso.com\r\nFROM: a@school.org"] {
            assert_eq!(foreign("lms@contoso.com", header).unwrap().as_str(), "a@school.org", "{header}");
        }
    }

    #[test]
    fn a_refusal_of_the_sender_means_whoever_leaves_beside_the_mailbox_or_the_mailbox() {
        use SenderPolicy::{Keep, Refuse, Rewrite};

        let (mailbox, send_as) = account();
        let permitted = Permitted { mailbox: &mailbox, send_as: &send_as };
        let doubtful = |sender: &str, from: &str, policy| {
            let envelope = Envelope { sender: Some(Address::parse(sender).unwrap()), ..Envelope::default() };
            let start = format!("From: {from}\r\n\r\n");
            doubtful_sender(start.as_bytes(), &envelope, permitted, policy).to_string()
        };
        let (lms, noreply, bob) = ("lms@contoso.com", "noreply@contoso.com", "bob@school.org");
        for policy in [Rewrite, Keep, Refuse] {
            assert_eq!(doubtful(lms, lms, policy), lms, "{policy:?}");
            assert_eq!(doubtful(lms, noreply, policy), noreply, "{policy:?}");
        }
        assert_eq!(doubtful(bob, noreply, Rewrite), noreply, "Bob does not leave");
        assert_eq!(doubtful(bob, bob, Rewrite), lms);
        assert_eq!(doubtful(noreply, bob, Keep), bob, "the other one was granted");
        assert_eq!(doubtful(bob, "dean@school.org", Keep), "dean@school.org");
    }

    #[test]
    fn a_foreign_sender_field_becomes_the_mailbox() {
        let (mailbox, send_as) = account();
        let permitted = Permitted { mailbox: &mailbox, send_as: &send_as };
        let sender = |value: &str| text(rewrite_sender(value.as_bytes(), permitted));
        assert_eq!(sender(" noreply@contoso.com"), None);
        assert_eq!(sender(" List <list@school.org>").as_deref(), Some(" List <lms@contoso.com>"));
        assert_eq!(sender(" broken").as_deref(), Some(" broken <lms@contoso.com>"));
    }
}
