"""The tables: for the terminal and, in Markdown, for docs/performance.md."""

import os
import platform
import re
import subprocess
from datetime import date
from pathlib import Path

from goals import median

# A row: its title, the scenario, the figure, how it is written.
ROWS = [
    ("1 session, msg/s", "ingest-1", "rate", "{:,.0f}"),
    ("**10 sessions, msg/s**", "ingest-10", "rate", "{:,.0f}"),
    ("50 sessions, msg/s", "ingest-50", "rate", "{:,.0f}"),
    ("a connection per message, 10 at once, msg/s", "connections-10", "rate", "{:,.0f}"),
    ("10 sessions, all of it sent on at once, msg/s", "busy-10", "rate", "{:,.0f}"),
    ("transaction p50, 1 session, ms", "ingest-1", "transaction_p50", "{:.2f}"),
    ("transaction p50, 10 sessions, ms", "ingest-10", "transaction_p50", "{:.2f}"),
    ("final dot → 250, p50, 10 sessions, ms", "ingest-10", "dot_p50", "{:.2f}"),
    ("**final dot → 250, p99, 10 sessions, ms**", "ingest-10", "dot_p99", "{:.2f}"),
    ("**end to end, 10 sessions, msg/s**", "end-to-end-10", "rate", "{:,.0f}"),
    ("connections upstream for those", "end-to-end-10", "connections", "{:,.0f}"),
    ("20 MiB, 4 sessions, MB/s", "large", "rate", "{:,.0f}"),
    ("20 MiB, end to end, MB/s", "large", "end_to_end", "{:,.0f}"),
    ("20 MiB, memory at most (PSS), MiB", "large", "memory", "{:,.1f}"),
    ("a 4 KB mail by PHPMailer, ms", "phpmailer", "p50", "{:.1f}"),
    ("Exchange's limits: msg/s", "exchange", "rate", "{:.1f}"),
    ("Exchange's limits: arrived of 150", "exchange", "arrived", "{:.0f}"),
    ("Exchange's limits: told 432", "exchange", "refused", "{:.0f}"),
    ("smtp-source, connection per message, msg/s", "smtp-source", "connections", "{:,.0f}"),
    ("smtp-source, kept, msg/s", "smtp-source", "kept", "{:,.0f}"),
    ("idle (PSS, all processes), MiB", "idle", "pss", "{:.1f}"),
    ("idle after a load, MiB", "idle", "pss_after", "{:.1f}"),
    ("start to greeting, ms", "start", "p50", "{:.0f}"),
    ("100,000 queued: msg/s empty", "queued", "empty", "{:,.0f}"),
    ("100,000 queued: msg/s full", "queued", "full", "{:,.0f}"),
]
# In these less is better.
LESS_IS_BETTER = re.compile(r"p50|p99|memory|pss|refused|connections$")
BEGIN, END = "<!-- written by benches/compare/run -->", "<!-- end of what benches/compare/run writes -->"


def cell(results, scenario, peer, what, form):
    value = median(results, scenario, peer, what)
    return "-" if value is None else form.format(value)


def figures(results, peers):
    """Rows of text, the head first."""
    rows = [["median", *(peer.title for peer in peers)]]
    for title, scenario, what, form in ROWS:
        cells = [cell(results, scenario, peer.name, what, form) for peer in peers]
        if any(entry != "-" for entry in cells):
            rows.append([title, *cells])
    return rows


def ratios(results, peers):
    """How many times better the relay is than each of them."""
    others = [peer for peer in peers if peer.name != "relay"]
    rows = [["relay ÷ peer", *(peer.title for peer in others)]]
    for title, scenario, what, _ in ROWS:
        ours = median(results, scenario, "relay", what)
        theirs = [median(results, scenario, peer.name, what) for peer in others]
        if ours is None or not any(theirs):
            continue
        rows.append([title, *(f"{ours / value:.2f}" if value else "-" for value in theirs)])
    return rows


def table(rows):
    """For the terminal."""
    rows = [[entry.replace("**", "") for entry in row] for row in rows]
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    lines = []
    for row in rows:
        first, *rest = (entry.ljust(width) if n == 0 else entry.rjust(width) for n, (entry, width) in enumerate(zip(row, widths)))
        lines.append("  ".join([first, *rest]))
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join(lines)


def markdown(rows):
    head, *rest = rows
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rest])


def goal_rows(goals):
    return [["goal", "reached", ""], *([goal.text, goal.words(), goal.verdict()] for goal in goals)]


def limit_lines(limits):
    names = {
        "sink-1": "load client → sink, no disk, 1 session: {:,.0f} msg/s",
        "sink-10": "load client → sink, no disk, 10 sessions: {:,.0f} msg/s",
        "sink-connections-10": "load client → sink, a connection per message: {:,.0f} msg/s",
        "fdatasync": "4 KiB append + fdatasync, one at a time: {:,.0f} per s",
        "exchange": "three kept sessions under Exchange's limits carry {:.1f} msg/s",
    }
    return [text.format(limits[name]) for name, text in names.items() if limits.get(name)]


def machine(folder):
    """What this was measured on."""
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    memory = int(next(line for line in open("/proc/meminfo") if line.startswith("MemTotal")).split()[1]) / 1024 / 1024
    mount = subprocess.run(["findmnt", "-no", "FSTYPE,OPTIONS", "-T", folder], capture_output=True, text=True).stdout
    distribution = next((l.split("=")[1].strip('"\n') for l in open("/etc/os-release") if l.startswith("PRETTY_NAME")), "?")
    filesystem = " ".join(mount.split()[:1])
    return (
        f"{os.cpu_count()} × {cpu}, {memory:.0f} GiB, {filesystem}, Linux {platform.release()}, {distribution}; "
        f"load average at the start {os.getloadavg()[0]:.1f}"
    )


def write_docs(path, text):
    """Puts the text between the markers of the document."""
    document = Path(path).read_text()
    before, rest = document.split(BEGIN, 1)
    _, after = rest.split(END, 1)
    Path(path).write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def document(command, machine_line, versions, results, peers, goals, limits, repetitions):
    programs = ", ".join(f"{name} {version}" for name, version in versions.items())
    parts = [
        f"{date.today()}, `{command}`: {repetitions} repetitions. {machine_line}. Peers: {programs}.",
        markdown(goal_rows(goals)),
        markdown(figures(results, peers)),
        "Ratios, the relay's figure by the peer's:\n\n" + markdown(ratios(results, peers)),
        "Physical limits in the same run: " + "; ".join(limit_lines(limits)) + ".",
    ]
    return "\n\n".join(parts)
