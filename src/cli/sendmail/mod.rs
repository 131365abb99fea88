//! `sendmail`: what cron, scripts and PHP's `mail()` call to send a mail. Also reached by that name, as a link to the program.
//!
//! It leaves the mail in the drop folder and needs neither a running relay nor a configuration that it may read. Exit codes are those of
//! `sysexits.h`, since that is what its callers know.

mod message;
mod options;

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;

use crate::config::{Environment, Glance};
use crate::message::Address;
use crate::pickup::{self, LeaveError, Letter, Sender};
use options::{Mode, Options};

const USAGE: u8 = 64;
const DATA: u8 = 65;
const UNAVAILABLE: u8 = 69;
const INPUT_OUTPUT: u8 = 74;
const TRY_AGAIN: u8 = 75;
const NOT_ALLOWED: u8 = 77;
const CONFIGURATION: u8 = 78;

const HELP: &str = "\
usage: sendmail [OPTIONS] [RECIPIENT…] < MESSAGE

  -t          recipients stand in To, Cc and Bcc too; Bcc is taken out
  -f ADDRESS  the sender; <> for none (also -r)
  -F NAME     the sender's name, for a message without From
  -i          a line with a lone dot does not end the message (also -oi)
  -N WORDS    when to send notices: never, or success,failure,delay
  -R PART     how much comes back with one: full or hdrs
  -V ID       the sender's own name for the message
  -v          say where the message was left

The message is left for the relay in the drop folder; the relay need not run. Other options of sendmail are taken
without effect. Exit codes are those of sysexits.h: 0 left, 64 usage, 65 data, 75 try again.
";

/// What to say, and with which code to end.
struct Failure(u8, String);

/// Whether the program was called by this name.
pub(super) fn is_called(program: Option<&OsString>) -> bool {
    program.and_then(|program| Path::new(program).file_name()).is_some_and(|name| name == "sendmail")
}

/// Takes the mail from standard input.
pub(super) fn run(config: &Path, arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let done = Options::parse(arguments).map_err(|why| Failure(USAGE, why)).and_then(|options| obey(config, options));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(code, why)) => {
            eprintln!("sendmail: {why}");
            ExitCode::from(code)
        }
    }
}

fn obey(config: &Path, options: Options) -> Result<(), Failure> {
    for option in &options.unknown {
        eprintln!("sendmail: {option} is not known and left out of account");
    }
    match options.mode {
        Mode::Deliver => deliver(config, options),
        Mode::Nothing => Ok(()),
        Mode::Help => {
            print!("{HELP}");
            Ok(())
        }
        Mode::ShowQueue => Err(Failure(UNAVAILABLE, "the queue is shown by: xoauth2-relay queue list".to_owned())),
        Mode::Refused(why) => Err(Failure(USAGE, why)),
    }
}

fn deliver(config: &Path, options: Options) -> Result<(), Failure> {
    let glance = Glance::at(config, &Environment::of_process());
    let mut raw = Vec::new();
    let limit = glance.max_message_size;
    let read = io::stdin().lock().take(limit.saturating_add(1)).read_to_end(&mut raw);
    read.map_err(|error| Failure(INPUT_OUTPUT, format!("cannot read the message: {error}")))?;
    if raw.len() as u64 > limit {
        return Err(Failure(DATA, format!("the message is larger than {limit} octets, the relay's max_message_size")));
    }
    let mut message = message::prepared(&raw, options.dot_ends);
    drop(raw);
    let mut recipients = options.recipients;
    if options.from_header {
        recipients.extend(message::take_recipients(&mut message));
    }
    check(&recipients, options.sender.as_ref(), glance.max_recipients)?;
    let Options { sender, name, notify, ret, envid, .. } = options;
    let letter = Letter { sender: sender.unwrap_or(Sender::Owner), recipients, name, notify, ret, envid };
    pickup::leave(&glance.data_dir, &letter, &mut message.as_slice())?;
    if options.verbose {
        eprintln!("sendmail: left for the relay in {}", glance.data_dir.join("drop").display());
    }
    Ok(())
}

/// Whoever called is there now; later nobody is.
fn check(recipients: &[String], sender: Option<&Sender>, most: usize) -> Result<(), Failure> {
    if recipients.is_empty() {
        let why = "there is no recipient: name one behind the options, or use -t and write To, Cc or Bcc";
        return Err(Failure(USAGE, why.to_owned()));
    }
    if recipients.len() > most {
        return Err(Failure(
            DATA,
            format!("{} recipients are more than the relay's max_recipients, {most}", recipients.len()),
        ));
    }
    let sender = if let Some(Sender::Address(sender)) = sender { Some(sender) } else { None };
    for address in recipients.iter().chain(sender) {
        let whole = if address.contains('@') { address.clone() } else { format!("{address}@localhost") };
        Address::parse(&whole).map_err(|error| Failure(DATA, error.to_string()))?;
    }
    Ok(())
}

impl From<LeaveError> for Failure {
    fn from(error: LeaveError) -> Self {
        let code = match &error {
            LeaveError::NoFolder(_) => TRY_AGAIN,
            LeaveError::NotAllowed(..) => NOT_ALLOWED,
            LeaveError::NotReadable(_) => CONFIGURATION,
            LeaveError::Failed(_, cause) => match cause.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => TRY_AGAIN,
                _ => INPUT_OUTPUT,
            },
        };
        Self(code, error.to_string())
    }
}
