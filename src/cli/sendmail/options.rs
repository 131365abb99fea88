//! The options of `sendmail`, as sendmail 8, Postfix and Exim take them. Pure.
//!
//! What steers a queue or a daemon has no meaning here and is taken without effect: programs pass it out of habit (`-odi -oem`). Never
//! obeyed are `-C`, `-X` and `-O`, with which a careless web form lets strangers read and write files.

use std::ffi::OsString;

use crate::message::EnvelopeId;
use crate::pickup::Sender;

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub mode: Mode,
    /// `-t`: recipients stand in the header too.
    pub from_header: bool,
    /// A line with a lone dot ends the message: unless `-i` or `-oi` is given.
    pub dot_ends: bool,
    /// `-f`, `-r`.
    pub sender: Option<Sender>,
    /// `-F`.
    pub name: Option<String>,
    /// `-N`.
    pub notify: Option<String>,
    /// `-R`.
    pub ret: Option<String>,
    /// `-V`.
    pub envid: Option<String>,
    /// `-v`.
    pub verbose: bool,
    pub recipients: Vec<String>,
    /// Options that nobody knows.
    pub unknown: Vec<String>,
}

/// `-b`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    /// `-bm`: take a mail.
    #[default]
    Deliver,
    /// `-bp`.
    ShowQueue,
    /// `--help`.
    Help,
    /// What the relay does anyway: `-q`, `-bi`.
    Nothing,
    /// Not offered, and why.
    Refused(String),
}

/// Options with a value, in the same word or the next, that have no effect.
const WITH_VALUE: &str = "ABCDLOXhp";
/// Options without a value that have no effect. `-d`, `-e`, `-M`, `-o` and `-q` have theirs in the same word or none.
const WITHOUT_VALUE: &str = "GIUmns";

impl Options {
    /// Reads the words behind the program's name.
    ///
    /// # Errors
    /// When a value is missing or cannot be.
    pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let mut options = Self { dot_ends: true, ..Self::default() };
        let mut words = arguments.into_iter().map(|word| word.to_string_lossy().into_owned());
        while let Some(word) = words.next() {
            match word.strip_prefix('-') {
                Some("-") => {
                    words.by_ref().for_each(|word| options.recipients.extend(super::message::addresses(&word)));
                }
                Some("-help") => options.mode = Mode::Help,
                Some(letters) if letters.starts_with('-') => options.unknown.push(word),
                Some(letters) if !letters.is_empty() => options.word(letters, &mut words)?,
                _ => options.recipients.extend(super::message::addresses(&word)),
            }
        }
        Ok(options)
    }

    /// The letters of one word: several options without values may stand together, as in `-ti`.
    fn word(&mut self, letters: &str, words: &mut impl Iterator<Item = String>) -> Result<(), String> {
        let mut rest = letters.chars();
        while let Some(letter) = rest.next() {
            let attached = rest.as_str();
            let mut value = || match attached {
                "" => words.next().ok_or_else(|| format!("-{letter} needs a value")),
                attached => Ok(attached.to_owned()),
            };
            match letter {
                't' => self.from_header = true,
                'i' => self.dot_ends = false,
                'v' => self.verbose = true,
                'f' | 'r' => self.sender = Some(sender(&value()?)),
                'F' => self.name = Some(value()?),
                'N' => self.notify = Some(notify(&value()?)?),
                'R' => self.ret = Some(ret(&value()?)?),
                'V' => self.envid = Some(envid(&value()?)?),
                'b' => self.mode = mode(attached),
                'q' => self.mode = Mode::Nothing,
                'o' if attached.starts_with('i') => self.dot_ends = false,
                'o' | 'e' | 'd' | 'M' => {}
                c if WITH_VALUE.contains(c) => drop(value()?),
                c if WITHOUT_VALUE.contains(c) => continue,
                c => {
                    self.unknown.push(format!("-{c}"));
                    continue;
                }
            }
            if !matches!(letter, 't' | 'i' | 'v') {
                break;
            }
        }
        Ok(())
    }
}

fn sender(value: &str) -> Sender {
    let address = value.trim().trim_start_matches('<').trim_end_matches('>');
    match super::message::addresses(address).into_iter().next() {
        Some(address) => Sender::Address(address),
        None => Sender::Null,
    }
}

fn mode(letter: &str) -> Mode {
    match letter {
        "m" | "" => Mode::Deliver,
        "p" => Mode::ShowQueue,
        "i" => Mode::Nothing,
        "s" => Mode::Refused(
            "-bs (SMTP on standard input) is not offered: speak SMTP to the relay's listener, 127.0.0.1:2525 by default".to_owned(),
        ),
        "d" | "D" => Mode::Refused(format!("-b{letter} is not offered: the relay is started with `xoauth2-relay run`")),
        other => Mode::Refused(format!("-b{other} is not offered")),
    }
}

/// RFC 3461 section 4.1: `never`, or some of the others.
fn notify(value: &str) -> Result<String, String> {
    let words: Vec<String> = value.split(',').map(str::to_ascii_lowercase).collect();
    let is_known = |word: &String| ["success", "failure", "delay"].contains(&word.as_str());
    if words == ["never"] || words.iter().all(is_known) {
        return Ok(words.join(","));
    }
    Err(format!("-N {value}: write never, or some of success, failure and delay with commas between them"))
}

/// RFC 3461 section 4.3.
fn ret(value: &str) -> Result<String, String> {
    match value.to_ascii_lowercase().as_str() {
        "full" => Ok("full".to_owned()),
        "hdrs" => Ok("hdrs".to_owned()),
        _ => Err(format!("-R {value}: write full or hdrs")),
    }
}

/// RFC 3461 section 4.4. Later nobody is there to be told, and the mail would be put aside.
fn envid(value: &str) -> Result<String, String> {
    match EnvelopeId::parse(value) {
        Some(envid) => Ok(envid.as_str().to_owned()),
        None => Err(format!(
            "-V {value}: write at most 100 printable characters, with +20 for a space, +2B for + and +3D for ="
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Options {
        Options::parse(line.split_whitespace().map(OsString::from)).unwrap()
    }

    #[test]
    fn what_programs_say_is_understood() {
        let to = |recipients: &[&str]| Options {
            dot_ends: true,
            recipients: recipients.iter().map(|&text| text.to_owned()).collect(),
            ..Options::default()
        };
        let cron = Options { dot_ends: false, name: Some("CronDaemon".to_owned()), ..to(&["root"]) };
        let php = Options { dot_ends: false, from_header: true, ..to(&[]) };
        let address = |text: &str| Some(Sender::Address(text.to_owned()));
        for (line, expected) in [
            ("-FCronDaemon -i -odi -oem -oi root", cron.clone()),
            ("-F CronDaemon -odi -oem -oi -- root", cron),
            ("-t -i", php.clone()),
            ("-ti", php.clone()),
            ("-oi -t -f lms@contoso.com", Options { sender: address("lms@contoso.com"), ..php.clone() }),
            ("-tifwww-data", Options { sender: address("www-data"), ..php.clone() }),
            ("-r <lms@contoso.com> -t -i", Options { sender: address("lms@contoso.com"), ..php.clone() }),
            ("-f <> -it", Options { sender: Some(Sender::Null), ..php }),
            ("-bm -B8BITMIME -Am -O DeliveryMode=b -h 3 -L tag -p SMTP:host a@b.example", to(&["a@b.example"])),
            (
                "-C /etc/passwd -X /tmp/log -oQ/tmp -oee -G -U -n a@b.example,c@d.example",
                to(&["a@b.example", "c@d.example"]),
            ),
            ("-- -odd@b.example", to(&["-odd@b.example"])),
            ("-v root", Options { verbose: true, ..to(&["root"]) }),
            ("-y root", Options { unknown: vec!["-y".to_owned()], ..to(&["root"]) }),
            ("--verbose root", Options { unknown: vec!["--verbose".to_owned()], ..to(&["root"]) }),
            ("-q", Options { mode: Mode::Nothing, ..to(&[]) }),
            ("-q30m", Options { mode: Mode::Nothing, ..to(&[]) }),
            ("-bp", Options { mode: Mode::ShowQueue, ..to(&[]) }),
        ] {
            assert_eq!(parse(line), expected, "{line}");
        }
        assert!(matches!(parse("-bs").mode, Mode::Refused(why) if why.contains("127.0.0.1:2525")));
        let empty = Options::parse(["-f", "", "root"].map(OsString::from)).unwrap();
        assert_eq!(empty.sender, Some(Sender::Null));
    }

    #[test]
    fn notices_are_asked_for_as_in_smtp() {
        let options = parse("-N success,FAILURE -R HDRS -V a+20b root");
        assert_eq!(options.notify.as_deref(), Some("success,failure"));
        assert_eq!((options.ret.as_deref(), options.envid.as_deref()), (Some("hdrs"), Some("a+20b")));
        for wrong in ["-N sometimes", "-N never,delay", "-R some", "-V a=b", "-V é", "-f"] {
            assert!(Options::parse(wrong.split(' ').map(OsString::from)).is_err(), "{wrong}");
        }
    }
}
