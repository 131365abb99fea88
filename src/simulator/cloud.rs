//! What Entra ID and Exchange share: who exists, what was issued, what was accepted, what is at fault, who watches.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::{broadcast, watch};

use super::certificate::Identity;
use super::entra::{Ledger, Registration};
use super::event::{Accepted, Event, Statistics};
use super::exchange::Limits;
use super::fault::Faults;
use super::options::{Mailbox, Options};

/// Where the page for device codes is.
pub(super) const DEVICE_PAGE: &str = "/common/oauth2/deviceauth";
/// Events that a slow watcher may lag behind before it loses some.
const EVENTS: usize = 4096;

/// The state of one simulator.
pub(super) struct Cloud {
    pub(super) options: Options,
    pub(super) identity: Identity,
    /// The name by which Exchange introduces itself.
    pub(super) host: String,
    pub(super) faults: Faults,
    http: SocketAddr,
    ledger: Mutex<Ledger>,
    registration: Mutex<Registration>,
    limits: Mutex<Limits>,
    kept: Mutex<VecDeque<Accepted>>,
    accepted: watch::Sender<usize>,
    events: broadcast::Sender<Event>,
    statistics: Mutex<Statistics>,
}

impl Cloud {
    pub(super) fn new(options: Options, identity: Identity, http: SocketAddr) -> Self {
        let registration = Mutex::new(Registration::of(&options));
        Self {
            options,
            registration,
            identity,
            host: "SIM1P281CA0440.outlook.office365.test".to_owned(),
            faults: Faults::default(),
            http: reachable(http),
            ledger: Mutex::new(Ledger::new()),
            limits: Mutex::new(Limits::default()),
            kept: Mutex::new(VecDeque::new()),
            accepted: watch::Sender::new(0),
            events: broadcast::Sender::new(EVENTS),
            statistics: Mutex::new(Statistics::default()),
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        (self.options.now)()
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn registration(&self) -> MutexGuard<'_, Registration> {
        self.registration.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn limits(&self) -> MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `http://127.0.0.1:8026`, without a slash at the end.
    pub(super) fn http_base(&self) -> String {
        format!("http://{}", self.http)
    }

    pub(super) fn device_page(&self) -> String {
        format!("{}{DEVICE_PAGE}", self.http_base())
    }

    /// Tells who watches. Nobody watching costs next to nothing.
    pub(super) fn emit(&self, event: impl FnOnce() -> Event) {
        if self.events.receiver_count() > 0 {
            // Fails only if the last watcher has just gone.
            let _ = self.events.send(event());
        }
    }

    pub(super) fn watch(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Statistics)) {
        change(&mut self.statistics.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn statistics(&self) -> Statistics {
        self.statistics.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps a message and tells everybody about it.
    pub(super) fn accept(&self, accepted: Accepted) {
        self.count(|statistics| {
            statistics.accepted += 1;
            statistics.recipients += accepted.recipients.len() as u64;
        });
        self.emit(|| Event::MessageAccepted {
            session: accepted.session.clone(),
            mailbox: accepted.mailbox.clone(),
            mail_from: accepted.mail_from.clone(),
            recipients: accepted.recipients.clone(),
            size: accepted.bytes.len(),
            reply: accepted.reply.clone(),
            notice: accepted.notice.clone(),
        });
        if self.options.keep > 0 {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() >= self.options.keep {
                kept.pop_front();
            }
            kept.push_back(accepted);
        }
        self.accepted.send_modify(|count| *count += 1);
    }

    pub(super) fn accepted(&self) -> Vec<Accepted> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// How many were accepted, and a way to wait for more.
    pub(super) fn accepted_count(&self) -> watch::Receiver<usize> {
        self.accepted.subscribe()
    }

    /// A person types the code in and agrees as `mailbox`.
    pub(super) fn approve(&self, user_code: &str, mailbox: &str) -> bool {
        let Some(mailbox) = self.options.mailbox(mailbox) else { return false };
        let approved = self.ledger().decide(user_code, Some(&mailbox.address), self.now());
        if approved {
            let (user_code, mailbox) = (user_code.to_owned(), mailbox.address.clone());
            self.emit(|| Event::CodeApproved { user_code, mailbox });
        }
        approved
    }

    /// A person types the code in and says no.
    pub(super) fn deny(&self, user_code: &str) -> bool {
        let denied = self.ledger().decide(user_code, None, self.now());
        if denied {
            self.emit(|| Event::CodeDenied { user_code: user_code.to_owned() });
        }
        denied
    }
}

impl Options {
    /// The mailbox of this address.
    pub(super) fn mailbox(&self, address: &str) -> Option<&Mailbox> {
        self.mailboxes.iter().find(|mailbox| mailbox.is(address))
    }
}

/// How a client on this machine reaches a listener that may be bound to every address.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
