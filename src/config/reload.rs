//! What of a changed file takes effect in a relay that runs, and what needs a restart. Pure.

use std::sync::Arc;

use super::{Config, Listener, Log};

/// A changed configuration as far as a running relay can follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// What can be in force at once: the new values, save those that need a restart, which are as they were.
    pub config: Config,
    /// What waits for a restart, a line each, with the key.
    pub needs_restart: Vec<String>,
}

impl Config {
    /// This configuration for a relay that runs with `running`.
    ///
    /// Instance, sockets, data folder, key and log format stay as they were at the start. Nothing is in force by half: whatever cannot change keeps
    /// its old value as a whole, and is named.
    pub fn follow(self, running: &Self) -> Followed {
        let mut needs_restart = Vec::new();
        let mut keep = |key: &str, is_changed: bool| {
            if is_changed {
                needs_restart.push(key.to_owned());
            }
        };
        keep("instance", self.instance != running.instance);
        keep("data_dir", self.data_dir != running.data_dir);
        keep("key", self.key != running.key);
        keep("admin.address", self.admin.address != running.admin.address);
        keep("log_format", self.log.json != running.log.json);
        let listeners = follow_listeners(&self.listeners, &running.listeners, &mut needs_restart);
        let config = Self {
            instance: running.instance.clone(),
            data_dir: running.data_dir.clone(),
            key: running.key.clone(),
            admin: running.admin.clone(),
            log: Log { json: running.log.json, ..self.log },
            listeners,
            ..self
        };
        Followed { config, needs_restart }
    }
}

/// The running listeners, each with what can change of it. Listeners are the same when their address is.
fn follow_listeners(
    new: &[Arc<Listener>],
    running: &[Arc<Listener>],
    needs_restart: &mut Vec<String>,
) -> Vec<Arc<Listener>> {
    let mut unused: Vec<&Arc<Listener>> = new.iter().collect();
    let mut listeners = Vec::new();
    for old in running {
        let Some(n) = unused.iter().position(|listener| listener.address == old.address) else {
            needs_restart.push(format!("listener {}: it is gone from the file and goes on until then", old.address));
            listeners.push(Arc::clone(old));
            continue;
        };
        let wanted = unused.remove(n);
        let followed = changed(old, wanted);
        if wanted.tls != old.tls {
            needs_restart
                .push(format!("listener {}: its TLS is another one; nothing of it changes until then", old.address));
        } else if followed != **wanted {
            needs_restart.push(format!(
                "listener {}: max_connections and max_connections_per_address do not change without one",
                old.address
            ));
        }
        listeners.push(Arc::new(followed));
    }
    for listener in unused {
        needs_restart.push(format!("listener {}: it is new in the file", listener.address));
    }
    listeners
}

/// Adding a key of `[[listener]]`? It stays as it was until a restart, unless it is named here and in `docs/service.md`; then the entrance
/// has to ask for it at every connection.
fn changed(old: &Listener, new: &Listener) -> Listener {
    // Who may connect was checked together with what is asked of them: a wider network because of `require_tls` has to wait for it.
    if new.tls != old.tls {
        return old.clone();
    }
    Listener {
        allow: new.allow.clone(),
        password: new.password,
        proxy_protocol_from: new.proxy_protocol_from.clone(),
        max_message_size: new.max_message_size,
        max_recipients: new.max_recipients,
        idle_timeout: new.idle_timeout,
        // Matters at the start only.
        optional: new.optional,
        ..old.clone()
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Environment};

    const ACCOUNT: &str = "[[account]]\nmailbox = \"lms@contoso.com\"\ntenant = \"contoso.onmicrosoft.com\"\n\
        client_id = \"11111111-0000-0000-0000-000000000000\"\n";

    fn config(top: &str, tables: &str) -> Config {
        let text = format!("hostname = \"relay.test\"\n{top}\n{tables}\n{ACCOUNT}");
        Config::from_text(&text, "relay.toml", &Environment::default()).unwrap_or_else(|problems| panic!("{problems}"))
    }

    #[test]
    fn what_can_change_changes_and_nothing_is_said_of_it() {
        let running = config("", "");
        let text = "[[listener]]\naddress = \"127.0.0.1:2525\"\nallow = [\"127.0.0.1\"]\nmax_message_size = \"1 MiB\"\n\
            max_recipients = 7\nidle_timeout = \"6m\"\n[[listener]]\naddress = \"[::1]:2525\"\n\
            [queue]\nretry = [\"7m\"]\n[[account]]\nmailbox = \"erp@contoso.com\"\ntenant = \"contoso.onmicrosoft.com\"\n\
            client_id = \"00000000-0000-0000-0000-000000000000\"\n";
        let new = config("log = \"debug\"", text);
        let followed = new.clone().follow(&running);
        assert_eq!(followed.needs_restart, [""; 0]);
        assert_eq!(followed.config, new);
    }

    /// A listener that takes mail from `allow`, with these further keys.
    fn listener(allow: &str, keys: &str) -> Config {
        let app = "[[app]]\nname = \"moodle\"\npassword = \"long enough to be good\"";
        config("", &format!("[[listener]]\naddress = \"127.0.0.1:2525\"\nallow = [\"{allow}\"]\n{keys}\n{app}"))
    }

    #[test]
    fn a_wider_network_comes_into_force_together_with_the_password_that_it_was_checked_with() {
        let running = listener("10.0.0.0/8", "");
        let new = listener("0.0.0.0/0", "password = \"checked\"\nproxy_protocol_from = [\"10.0.0.5\"]");
        let followed = new.clone().follow(&running);
        assert_eq!((followed.config, followed.needs_restart.len()), (new, 0));
    }

    #[test]
    fn a_wider_network_waits_for_the_tls_that_it_was_checked_with() {
        let folder = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["relay.test".to_owned()]).unwrap().self_signed(&key).unwrap();
        let (of_certificate, of_key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        std::fs::write(&of_certificate, certificate.pem()).unwrap();
        std::fs::write(&of_key, key.serialize_pem()).unwrap();
        let tls = |require_tls| {
            format!(
                "password = \"checked\"\ntls = \"starttls\"\nrequire_tls = {require_tls}\ncertificate = {of_certificate:?}\nkey = {of_key:?}"
            )
        };
        let running = listener("10.0.0.0/8", &tls(false));
        let followed = listener("0.0.0.0/0", &tls(true)).follow(&running);
        assert_eq!(followed.config.listeners, running.listeners);
        assert!(followed.needs_restart[0].contains("its TLS is another one"), "{:?}", followed.needs_restart);
    }

    #[test]
    fn what_needs_a_restart_is_named_and_stays_as_it_was() {
        let running = config("", "");
        for (top, tables, named) in [
            ("instance = \"staging\"", "", "instance"),
            ("data_dir = \"/elsewhere\"", "", "data_dir"),
            ("key = { env = \"RELAY_KEY\" }", "", "key"),
            ("log_format = \"json\"", "", "log_format"),
            ("", "[admin]\naddress = \"127.0.0.1:8026\"", "admin.address"),
        ] {
            let followed = config(top, tables).follow(&running);
            assert_eq!(followed.needs_restart, [named]);
            assert_eq!(followed.config, running, "{named}");
        }
    }

    #[test]
    fn listeners_stay_where_they_are() {
        let running =
            config("", "[[listener]]\naddress = \"127.0.0.1:2525\"\n[[listener]]\naddress = \"127.0.0.1:2526\"");
        let new = config(
            "",
            "[[listener]]\naddress = \"127.0.0.1:2526\"\nmax_connections = 7\nallow = [\"10.0.0.0/8\"]\n\
             [[listener]]\naddress = \"127.0.0.1:2527\"",
        );
        let followed = new.follow(&running);
        let named = ["2525: it is gone", "2526: max_connections", "2527: it is new"];
        assert_eq!(followed.needs_restart.len(), 3, "{:?}", followed.needs_restart);
        for (line, part) in followed.needs_restart.iter().zip(named) {
            assert!(line.contains(part), "{line}");
        }
        let listeners = &followed.config.listeners;
        assert_eq!(listeners[0], running.listeners[0]);
        assert_eq!(listeners[1].address, running.listeners[1].address);
        assert_eq!(listeners[1].max_connections, running.listeners[1].max_connections);
        assert_eq!(listeners[1].allow, ["10.0.0.0/8".parse().unwrap()]);
    }
}
