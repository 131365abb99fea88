//! Sockets that the service manager has bound before we were started (`sd_listen_fds(3)`).
//!
//! While we are restarted it keeps them open, so that a program that connects just then waits a moment instead of being refused.

use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;

/// The sockets that nobody has taken yet.
#[derive(Debug, Default)]
pub struct Inherited(Vec<(SocketAddr, TcpListener)>);

/// A socket was passed that is of no use.
#[derive(Debug, thiserror::Error)]
pub enum InheritedError {
    /// It is something else.
    #[error(
        "the service manager passed something that is no listening TCP socket ({0}): the socket unit may have ListenStream= with an \
         address and a port, and Accept=no"
    )]
    NotListening(String),
    /// Whoever connects to it would wait for ever.
    #[error(
        "the service manager passed a socket for {0}, but no [[listener]] has that address: write one, or take the address out of the \
         socket unit (`systemctl edit xoauth2-relay.socket`)"
    )]
    Unused(SocketAddr),
}

impl Inherited {
    /// Takes over what the service manager has passed to this process, if it has.
    ///
    /// Takes `LISTEN_FDS` and `LISTEN_PID` out of the environment, which no other thread may read at that moment: to be called before
    /// any is started.
    ///
    /// # Errors
    /// When one of them cannot be listened on.
    pub fn of_process() -> Result<Self, InheritedError> {
        let mut passed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for n in 0..passed.len() {
            let socket = passed.take_tcp_listener(n).and_then(|socket| socket.map(usable).transpose());
            sockets.extend(socket.map_err(|error| InheritedError::NotListening(error.to_string()))?);
        }
        Ok(Self(sockets))
    }

    /// The socket that is bound to this address.
    pub fn take(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let n = self.0.iter().position(|(bound, _)| *bound == address)?;
        Some(self.0.swap_remove(n).1)
    }

    /// Every socket has been taken.
    ///
    /// # Errors
    /// Names one that has not.
    pub fn used_up(self) -> Result<(), InheritedError> {
        self.0.first().map_or(Ok(()), |(address, _)| Err(InheritedError::Unused(*address)))
    }
}

fn usable(socket: TcpListener) -> io::Result<(SocketAddr, TcpListener)> {
    let address = socket.local_addr()?;
    if !rustix::net::sockopt::socket_acceptconn(&socket)? {
        return Err(io::Error::other(format!("{address} is not listened on")));
    }
    socket.set_nonblocking(true)?;
    Ok((address, socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_found_by_its_address_and_one_that_nobody_wants_is_named() {
        let socket = || usable(TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
        let (first, second) = (socket(), socket());
        let (wanted, unwanted) = (first.0, second.0);
        let mut inherited = Inherited(vec![first, second]);
        assert!(inherited.take("127.0.0.2:2525".parse().unwrap()).is_none());
        assert_eq!(inherited.take(wanted).unwrap().local_addr().unwrap(), wanted);
        assert!(inherited.take(wanted).is_none());
        let told = inherited.used_up().unwrap_err().to_string();
        assert!(told.contains(&format!("a socket for {unwanted}, but no [[listener]]")), "{told}");
        Inherited::default().used_up().unwrap();
    }
}
