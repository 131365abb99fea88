"""What is measured of each peer. Each scenario starts its peer anew with an empty queue, and throws all of it away afterwards."""

import json
import os
import statistics
import subprocess
import threading
import time
import urllib.request

import process
from process import Failed, memory, status

# What performance.md of Exchange Online says about its pace, in milliseconds and sessions.
EXCHANGE = {"connect-ms": 20, "command-ms": 10, "auth-ms": 50, "data-ms": 150, "limit": 3}
EXCHANGE_MESSAGES = 150
# How long nothing may arrive; who was refused by then waits for minutes.
EXCHANGE_PATIENCE = 15
LARGE = 20 * 1024 * 1024
QUEUED = 100_000


class Sink:
    """The upstream that takes everything."""

    def __init__(self, tree, name, options=None):
        self.folder = process.clear(tree.runs / f"sink-{name}")
        self.certificate = self.folder / "certificate.pem"
        command = [*process.DIES_WITH_US, tree.load, "sink", "--certificate", self.certificate]
        for option, value in (options or {}).items():
            command += [f"--{option}", str(value)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        said = self.process.stdout.readline()
        if not said:
            raise Failed("the sink did not start")
        self.smtp, self.http = (json.loads(said)[name] for name in ("smtp", "http"))

    def counters(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/counters", timeout=10) as answer:
            return json.load(answer)

    def reset(self):
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}/reset", method="POST")
        urllib.request.urlopen(request, timeout=10).close()

    def until(self, messages, patience):
        """Waits until the sink has so many messages; returns its counters then, or when for `patience` seconds none has come."""
        last, since = -1, time.monotonic()
        while (seen := self.counters())["messages"] < messages and time.monotonic() < since + patience:
            if seen["messages"] > last:
                last, since = seen["messages"], time.monotonic()
            time.sleep(0.05)
        return seen

    def stop(self):
        self.process.kill()
        self.process.wait()


def load(tree, peer, **options):
    """Runs the load client against a peer; returns its figures."""
    command = [tree.load, "load", "--to", f"127.0.0.1:{peer.port}"]
    if peer.auth:
        command += ["--auth", peer.auth]
    for option, value in options.items():
        command.append(f"--{option.replace('_', '-')}")
        if value is not True:
            command.append(str(value))
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"the load client: {done.stderr}")
    figures = json.loads(done.stdout)
    if figures["failures"]:
        print(f"      {peer.title}: {figures['failures']} failures, such as: {figures['failure']}", flush=True)
    return figures


class Scenario:
    """Something measured of one peer, as a dictionary of numbers."""

    profile = "unlimited"
    sink = "free"
    # How often it is measured: every repetition, or only in the first one.
    once = False

    def measure(self, tree, peer, sink):
        # What the peer before has left: data on its way to the disk, and sessions on their way out of the sink.
        os.sync()
        time.sleep(0.3)
        sink.reset()
        running = peer.begin(sink, self.profile)
        try:
            return self.run(tree, peer, sink, running)
        finally:
            running.stop()


class Ingest(Scenario):
    """Acknowledged messages in a second, for a fixed time, while the upstream takes what Exchange Online would."""

    profile, sink = "exchange", "exchange"

    def __init__(self, sessions, per_connection=False):
        self.sessions, self.per_connection = sessions, per_connection
        self.name = f"connections-{sessions}" if per_connection else f"ingest-{sessions}"
        self.title = f"a connection per message, {sessions} at once" if per_connection else f"{sessions} sessions"

    def run(self, tree, peer, sink, running):
        options = {"per_connection": True} if self.per_connection else {}
        figures = load(tree, peer, sessions=self.sessions, seconds=tree.seconds, **options)
        return {
            "rate": figures["rate"],
            "transaction_p50": figures["transaction"]["p50"],
            "transaction_p99": figures["transaction"]["p99"],
            "dot_p50": figures["dot"]["p50"],
            "dot_p99": figures["dot"]["p99"],
            "failures": figures["failures"],
        }


class Busy(Ingest):
    """The same while the upstream takes everything at once: who is quick at sending has less time for taking."""

    profile, sink = "unlimited", "free"

    def __init__(self, sessions):
        super().__init__(sessions)
        self.name, self.title = f"busy-{sessions}", f"{sessions} sessions, all of it sent on at once"


class EndToEnd(Scenario):
    """Messages by the time until the upstream has them all."""

    name, title = "end-to-end-10", "end to end, 10 sessions"

    def run(self, tree, peer, sink, running):
        figures = load(tree, peer, sessions=10, messages=tree.messages)
        seen = sink.until(tree.messages, patience=10)
        if seen["messages"] < tree.messages:
            print(f"      {peer.title}: only {seen['messages']} of {tree.messages} arrived", flush=True)
        took = seen["last_at"] - figures["began_at"]
        return {"rate": seen["messages"] / took if seen["messages"] else None, "connections": seen["connections"], "arrived": seen["messages"]}


class Large(Scenario):
    """Messages of 20 MiB over 4 sessions: octets in a second, and how the memory grows."""

    name, title = "large", "20 MiB over 4 sessions"
    sessions = 4

    def run(self, tree, peer, sink, running):
        load(tree, peer, sessions=1, messages=1, size=4096)
        before = memory(running.processes())
        watch = MemoryWatch(running)
        figures = load(tree, peer, sessions=self.sessions, messages=tree.large, size=LARGE)
        highest = watch.end()
        seen = sink.until(tree.large + 1, patience=10)
        sent = figures["messages"] * LARGE / 1e6
        measured = {
            "rate": sent / figures["seconds"],
            "end_to_end": sent / (seen["last_at"] - figures["began_at"]) if seen["messages"] > tree.large else None,
            "memory": highest,
            "growth": (highest - before) / self.sessions,
        }
        return measured


class MemoryWatch:
    """The most memory that a server's processes have at once (PSS), looked at while something else is done."""

    PAUSE = 0.05

    def __init__(self, running):
        self.running, self.highest, self.stopped = running, 0.0, threading.Event()
        self.thread = threading.Thread(target=self.look)
        self.thread.start()

    def look(self):
        while not self.stopped.wait(self.PAUSE):
            self.highest = max(self.highest, memory(self.running.processes()))

    def end(self):
        self.stopped.set()
        self.thread.join()
        return self.highest


class Exchange(Scenario):
    """The limits of Exchange Online: how many messages leave in a second, and how often somebody is told 432."""

    name, title = "exchange", "Exchange's limits, 150 messages"
    profile, sink, once = "exchange", "exchange", True

    def run(self, tree, peer, sink, running):
        sessions = 10 if peer.queues else EXCHANGE["limit"]
        figures = load(tree, peer, sessions=sessions, messages=EXCHANGE_MESSAGES)
        seen = sink.until(EXCHANGE_MESSAGES, patience=EXCHANGE_PATIENCE)
        # Who has not sent all of it has no rate to speak of: the rest waits for minutes.
        all_of_it = seen["messages"] >= EXCHANGE_MESSAGES
        return {
            "rate": seen["messages"] / (seen["last_at"] - figures["began_at"]) if all_of_it else None,
            "arrived": seen["messages"],
            "refused": seen["refused"],
            "connections": seen["connections"],
        }


class PhpMailer(Scenario):
    """A mail of 4 KB from connect to QUIT, by PHPMailer."""

    name, title = "phpmailer", "a mail by PHPMailer"
    WARM_UP, MAILS = 5, 40

    def run(self, tree, peer, sink, running):
        script = [tree.php, tree.source / "mail.php", tree.phpmailer, str(peer.port), str(self.WARM_UP + self.MAILS)]
        done = subprocess.run(script + ([peer.auth] if peer.auth else []), capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(f"PHPMailer: {done.stdout}{done.stderr}")
        times = sorted(json.loads(done.stdout)[self.WARM_UP :])
        return {"p50": statistics.median(times), "p90": times[len(times) * 9 // 10]}


class SmtpSource(Scenario):
    """Postfix's own load client, as a check on ours: 10 sessions, a connection for each message and kept."""

    name, title, once = "smtp-source", "smtp-source, 10 sessions", True

    def run(self, tree, peer, sink, running):
        if peer.auth:
            return None
        program = tree.peers / "postfix/usr/sbin/smtp-source"
        environment = {"LD_LIBRARY_PATH": str(tree.peers / "postfix/usr/lib/postfix")}
        measured = {}
        for name, options, messages in (("connections", [], tree.messages // 4), ("kept", ["-d"], tree.messages)):
            command = [program, *options, "-s", "10", "-m", str(messages), "-l", "4096"]
            command += ["-f", "lms@contoso.com", "-t", "student@example.com", f"127.0.0.1:{peer.port}"]
            begun = time.monotonic()
            subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120)
            measured[name] = messages / (time.monotonic() - begun)
        return measured


class Idle(Scenario):
    """Memory when there is nothing to do, after a first mail has left, and again after the load of a run."""

    name, title, once = "idle", "idle", True

    def run(self, tree, peer, sink, running):
        load(tree, peer, sessions=1, messages=1)
        sink.until(1, patience=10)
        time.sleep(2)
        idle = memory(running.processes())
        load(tree, peer, sessions=10, seconds=tree.seconds)
        time.sleep(2)
        return {"pss": idle, "pss_after": memory(running.processes()), "processes": len(running.processes())}


class Start(Scenario):
    """From starting the program to its greeting; without the namespace that everything else runs in."""

    name, title = "start", "start to greeting"
    profile, once = "defaults", True
    TIMES = 10

    def measure(self, tree, peer, sink):
        times = []
        for _ in range(self.TIMES if isinstance(peer, tree.relay_class) else 1):
            times.append(self.time_relay(tree, peer, sink) if isinstance(peer, tree.relay_class) else self.time(peer, sink))
        return {"p50": statistics.median(times), "max": max(times)}

    def time(self, peer, sink):
        begun = time.monotonic()
        peer.begin(sink, self.profile).stop()
        return (time.monotonic() - begun) * 1000

    def time_relay(self, tree, peer, sink):
        folder = process.clear(tree.runs / peer.name)
        peer.port = process.free_port()
        config = peer.prepare(folder, sink, self.profile)
        with open(folder / "output", "wb") as output:
            begun = time.monotonic()
            running = subprocess.Popen([tree.relay, "--config", config, "run"], stdout=output, stderr=output)
            try:
                while not process.greeted(peer.port):
                    if running.poll() is not None or time.monotonic() > begun + process.START_DEADLINE:
                        raise Failed("the relay did not start")
                    time.sleep(0.0005)
                return (time.monotonic() - begun) * 1000
            finally:
                running.kill()
                running.wait()


class Queued(Scenario):
    """Acknowledged messages in a second with an empty queue, and once 100,000 wait; 30 a minute leave meanwhile."""

    name, title = "queued", "100,000 queued"
    profile, once = "defaults", True

    def run(self, tree, peer, sink, running):
        empty = load(tree, peer, sessions=10, seconds=tree.seconds)
        left = QUEUED - empty["messages"]
        filled = load(tree, peer, sessions=50, messages=left) if left > 0 else {"messages": 0}
        full = load(tree, peer, sessions=10, seconds=tree.seconds)
        return {
            "empty": empty["rate"],
            "full": full["rate"],
            "queued": empty["messages"] + filled["messages"],
            "memory": memory(running.processes()),
        }


class SinkAlone:
    """The load client and the sink without anything in between: what the machine can do with no disk."""

    name, title, auth, queues = "sink", "the sink alone", None, False

    def __init__(self, sink):
        self.port = sink.smtp


def sink_alone(tree, sink, sessions, **options):
    return load(tree, SinkAlone(sink), sessions=sessions, seconds=min(tree.seconds, 1.5), **options)["rate"]


def carried_by_three(tree, sink):
    """What three kept sessions with PIPELINING carry under Exchange's limits: messages in a second."""
    figures = load(tree, SinkAlone(sink), sessions=3, messages=60, pipelining=True, auth="u:p")
    return figures["rate"]


def all_of_them():
    ingest = [Ingest(1), Ingest(10), Ingest(50), Ingest(10, per_connection=True)]
    return [*ingest, Busy(10), EndToEnd(), Large(), PhpMailer(), Exchange(), SmtpSource(), Idle(), Start(), Queued()]
