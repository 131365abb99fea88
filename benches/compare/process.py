"""Starts programs so that they can be measured, and ended whatever happens.

Every server runs in a PID namespace of its own: all of its processes are found there, and all of them end with it, even if this script
is killed. Its mount namespace has two more users, which Postfix and Exim ask for by name; the machine's own /etc/passwd is not touched.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

POSTFIX_USER, POSTDROP_GROUP, EXIM_USER = 64001, 64002, 64003
PASSWD = f"postfix:x:{POSTFIX_USER}:{POSTFIX_USER}::/:/bin/false\nDebian-exim:x:{EXIM_USER}:{EXIM_USER}::/:/bin/false\n"
GROUP = f"postfix:x:{POSTFIX_USER}:\npostdrop:x:{POSTDROP_GROUP}:\nDebian-exim:x:{EXIM_USER}:\n"
# The first process of the namespace only collects the orphans.
INIT = 'mount --bind "$1/passwd" /etc/passwd && mount --bind "$1/group" /etc/group && shift && { "$@" & wait $!; }'

# Even if nobody is left to end it.
DIES_WITH_US = ["setpriv", "--pdeathsig", "KILL"]
# A server that has not greeted by then has failed.
START_DEADLINE = 20


class Failed(Exception):
    """A server did not do what it was started for."""


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def clear(folder):
    """An empty folder that every user may enter."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    return folder


def greeted(port):
    """Whether somebody greets on this port now."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.settimeout(5)
            return connection.recv(512).startswith(b"220")
    except OSError:
        return False


class Running:
    """A server and all its processes."""

    def __init__(self, command, folder, environment=None):
        (folder / "passwd").write_text(Path("/etc/passwd").read_text() + PASSWD)
        (folder / "group").write_text(Path("/etc/group").read_text() + GROUP)
        namespace = [*DIES_WITH_US, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        self.log = folder / "output"
        with open(self.log, "wb") as output:
            self.process = subprocess.Popen(
                [*namespace, "sh", "-c", INIT, "init", folder, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(environment or {})},
            )

    def until_greeted(self, port):
        deadline = time.monotonic() + START_DEADLINE
        while not greeted(port):
            if time.monotonic() > deadline or self.process.poll() is not None:
                said = self.log.read_text(errors="replace")[-2000:]
                self.stop()
                raise Failed(f"no greeting on port {port}:\n{said}")
            time.sleep(0.002)

    def processes(self):
        """The ids of the server's processes, as this namespace sees them."""
        children = children_of(self.process.pid)
        if not children:
            return []
        try:
            namespace = os.readlink(f"/proc/{children[0]}/ns/pid")
        except OSError:
            return []
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == children[0]:
                continue
            try:
                if os.readlink(f"/proc/{entry}/ns/pid") == namespace:
                    found.append(int(entry))
            except OSError:
                pass
        return found

    def stop(self):
        """Ends all of it at once: what it leaves behind is thrown away."""
        # With its first process the whole namespace ends, and only then does what began it.
        for child in children_of(self.process.pid):
            kill(child)
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            kill(self.process.pid)
            self.process.wait()


def children_of(pid):
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def memory(pids, field="Pss"):
    """Mebibytes of /proc/PID/smaps_rollup, of all these processes together."""
    total = 0
    for pid in pids:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith(field + ":")), 0)
    return total / 1024


def status(pid, field):
    """Mebibytes of a field of /proc/PID/status, such as VmHWM."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    return 0.0
