"""The programs that are compared: how each is configured and started. Every one of them syncs as it does by default."""

import os
import shutil
import subprocess
import sys

import process
from process import EXIM_USER, POSTDROP_GROUP, POSTFIX_USER, Running, clear, free_port

MAILBOX = "lms@contoso.com"
# As many sessions upstream as Postfix opens by default (default_destination_concurrency_limit).
UPSTREAM_SESSIONS = 20
# Mail of 20 MiB is refused by default by some of them.
SIZE_LIMIT = 60 * 1024 * 1024


class Peer:
    """One program to be measured. `begin` starts it with an empty queue in front of a sink."""

    # "user:password" if it does not take mail without.
    auth = None
    # Acknowledges before the upstream has the mail.
    queues = True

    def __init__(self, tree):
        self.tree = tree
        self.port = None

    def begin(self, sink, profile):
        folder = clear(self.tree.runs / self.name)
        self.port = free_port()
        running = self.start(folder, sink, profile)
        running.until_greeted(self.port)
        return running


class Relay(Peer):
    name, title = "relay", "xoauth2-relay"

    # What a configuration has beside what is needed anyway.
    PROFILES = {
        # The upstream has no limits, so the relay is told of none.
        "unlimited": f"messages_per_minute = 4000000\nrecipients_per_day = 4000000000\nconnections = {UPSTREAM_SESSIONS}\n",
        # Exchange's connections, which are the default; but not its 30 messages a minute, which would be all there is to see.
        "exchange": "messages_per_minute = 4000000\n",
        "defaults": "",
    }

    def start(self, folder, sink, profile):
        return Running([self.tree.relay, "--config", self.prepare(folder, sink, profile), "run"], folder)

    def prepare(self, folder, sink, profile):
        """Writes the configuration and signs in, once for each sink; returns the configuration's path."""
        config = folder / "relay.toml"
        config.write_text(f"""\
hostname = "relay.example"
data_dir = "{folder}/data"

[[listener]]
address = "127.0.0.1:{self.port}"
max_message_size = "60 MiB"

[[account]]
mailbox = "{MAILBOX}"
provider = "custom"
client_id = "compare"
token_url = "http://127.0.0.1:{sink.http}/token"
scopes = []
smtp = "127.0.0.1:{sink.smtp}"
ca_file = "{sink.certificate}"
{self.PROFILES[profile]}
[admin]
address = "127.0.0.1:{free_port()}"
""")
        signed_in = sink.folder / "signed-in"
        if not signed_in.exists():
            (folder / "data").mkdir(mode=0o700)
            token = sink.folder / "refresh-token"
            token.write_text("r" * 1000)
            login = [self.tree.relay, "--config", config, "login", MAILBOX, "--refresh-token-file", token]
            done = subprocess.run(login, capture_output=True, text=True)
            if done.returncode != 0:
                raise process.Failed(f"the relay's login: {done.stdout}{done.stderr}")
            shutil.copytree(folder / "data", signed_in)
        else:
            shutil.copytree(signed_in, folder / "data")
        return config


class Postfix(Peer):
    name, title = "postfix", "Postfix"
    tuning = ""

    def start(self, folder, sink, profile):
        program = self.tree.peers / "postfix"
        libraries = program / "usr/lib/postfix"
        etc, spool, data = folder / "etc", folder / "spool", folder / "data"
        for made in (etc, spool, data):
            made.mkdir()
        os.chown(data, POSTFIX_USER, POSTFIX_USER)
        for queue in "active bounce corrupt defer deferred flush hold incoming private saved trace".split():
            (spool / queue).mkdir(mode=0o700)
            os.chown(spool / queue, POSTFIX_USER, 0)
        (spool / "pid").mkdir()
        for queue, mode in (("maildrop", 0o1730), ("public", 0o2710)):
            (spool / queue).mkdir()
            os.chown(spool / queue, POSTFIX_USER, POSTDROP_GROUP)
            (spool / queue).chmod(mode)
        (etc / "passwords").write_text(f"[127.0.0.1]:{sink.smtp} {MAILBOX}:secret\n")
        (etc / "main.cf").write_text(f"""\
compatibility_level = 3.6
queue_directory = {spool}
data_directory = {data}
daemon_directory = {libraries}/sbin
shlib_directory = {libraries}
command_directory = {program}/usr/sbin
import_environment = MAIL_CONFIG={etc} LD_LIBRARY_PATH={libraries} SASL_PATH={self.tree.sasl} LANG=C
mail_owner = postfix
setgid_group = postdrop
myhostname = postfix.example
mydestination =
alias_maps =
mynetworks = 127.0.0.0/8
inet_protocols = ipv4
inet_interfaces = 127.0.0.1
smtpd_relay_restrictions = permit_mynetworks, reject
message_size_limit = {SIZE_LIMIT}
relayhost = [127.0.0.1]:{sink.smtp}
smtp_tls_security_level = encrypt
smtp_sasl_auth_enable = yes
smtp_sasl_security_options =
smtp_sasl_mechanism_filter = plain
smtp_sasl_password_maps = texthash:{etc}/passwords
{self.tuning}""")
        services = (program / "usr/share/postfix/master.cf.dist").read_text().splitlines()
        # Connections under TLS can only be kept by it.
        services.append("tlsproxy unix - - n - 0 tlsproxy")
        (etc / "master.cf").write_text("\n".join(map(self.service, services)) + "\n")
        environment = {"LD_LIBRARY_PATH": str(libraries), "SASL_PATH": str(self.tree.sasl), "MAIL_CONFIG": str(etc)}
        return Running([libraries / "sbin/master", "-c", etc, "-d"], folder, environment)

    def service(self, line):
        """A line of Debian's master.cf, without chroot and on our port."""
        words = line.split()
        if len(words) < 8 or line.startswith(("#", " ")):
            return line
        words[4] = "n"
        if words[:2] == ["smtp", "inet"]:
            words[0] = f"127.0.0.1:{self.port}"
        return " ".join(words)


class TunedPostfix(Postfix):
    name, title = "postfix-tuned", "Postfix tuned"
    tuning = "in_flow_delay = 0\nsmtp_tls_connection_reuse = yes\nqmgr_message_active_limit = 40000\n"


class Exim(Peer):
    name, title = "exim", "Exim"

    def start(self, folder, sink, profile):
        program = self.tree.peers / "exim4-daemon-light/usr/sbin/exim4"
        for made in ("spool", "log"):
            (folder / made).mkdir()
            os.chown(folder / made, EXIM_USER, EXIM_USER)
        config = folder / "exim.conf"
        # smtp_accept_queue_per_connection and the limits on connections would only stop its own clients; the retry rule is the one of
        # a queue run every 2 s.
        config.write_text(f"""\
exim_path = {program}
spool_directory = {folder}/spool
log_file_path = {folder}/log/%slog
pid_file_path = {folder}/spool/pid
primary_hostname = exim.example
local_interfaces = 127.0.0.1
daemon_smtp_ports = {self.port}
tls_advertise_hosts =
host_lookup =
message_size_limit = {SIZE_LIMIT}
smtp_accept_max = 200
smtp_connect_backlog = 200
smtp_accept_queue_per_connection = 0
deliver_drop_privilege = true
acl_smtp_rcpt = take
begin acl
take:
  accept
begin routers
upstream:
  driver = manualroute
  transport = upstream
  route_list = * 127.0.0.1::{sink.smtp}
  self = send
begin transports
upstream:
  driver = smtp
  hosts_require_tls = *
  tls_verify_hosts =
  tls_try_verify_hosts =
  hosts_require_auth = *
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  client_send = ^{MAILBOX}^secret
begin retry
* * F,1d,5s
""")
        return Running([program, "-C", config, "-bdf", "-q2s"], folder)


HARAKA_PLUGIN = """\
// Takes mail from everybody and sends it to the upstream of the comparison.
exports.hook_rcpt = function (next, connection) {
  connection.relaying = true
  next(OK)
}
exports.hook_get_mx = function (next) {
  next(OK, { priority: 0, exchange: '127.0.0.1', port: %d, auth_type: 'plain', auth_user: '%s', auth_pass: 'secret' })
}
"""


class Haraka(Peer):
    name, title = "haraka", "Haraka"

    def start(self, folder, sink, profile):
        package = self.tree.peers / "haraka/node_modules/Haraka"
        shutil.copytree(package / "config", folder / "config")
        for made in ("plugins", "queue"):
            (folder / made).mkdir()
        (folder / "plugins/upstream.js").write_text(HARAKA_PLUGIN % (sink.smtp, MAILBOX))
        for name, content in {
            "plugins": "upstream\n",
            "smtp.ini": f"listen=127.0.0.1:{self.port}\n",
            "me": "haraka.example\n",
            "loglevel": "ERROR\n",
            "outbound.ini": "enable_tls=true\nlocal_mx_ok=true\n",
        }.items():
            (folder / "config" / name).write_text(content)
        return Running(["node", package / "bin/haraka", "-c", folder], folder)


class EmailProxy(Peer):
    name, title = "emailproxy", "email-oauth2-proxy"
    auth = f"{MAILBOX}:secret"
    queues = False

    def start(self, folder, sink, profile):
        config = folder / "emailproxy.config"
        config.write_text(f"""\
[SMTP-{self.port}]
local_address = 127.0.0.1
server_address = 127.0.0.1
server_port = {sink.smtp}
server_starttls = True

[{MAILBOX}]
token_url = http://127.0.0.1:{sink.http}/token
oauth2_scope = compare
oauth2_flow = client_credentials
redirect_uri = http://localhost
client_id = compare
client_secret = secret
""")
        program = [sys.executable, "-m", "emailproxy", "--no-gui", "--config-file", config]
        program += ["--cache-store", folder / "cache", "--log-file", folder / "log"]
        environment = {"PYTHONPATH": str(self.tree.peers / "emailproxy"), "SSL_CERT_FILE": str(sink.certificate)}
        return Running(program, folder, environment)


ALL = [Relay, Postfix, TunedPostfix, Haraka, Exim, EmailProxy]
