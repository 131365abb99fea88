"""What the relay is to reach, as ratios within one run."""

import statistics


def median(results, scenario, peer, what):
    """The median over the repetitions; `None` if it was not measured."""
    values = [run[what] for run in results.get(scenario, {}).get(peer, []) if run and run.get(what) is not None]
    return statistics.median(values) if values else None


def ratio(results, scenario, what="rate", peer="postfix-tuned"):
    ours, theirs = median(results, scenario, "relay", what), median(results, scenario, peer, what)
    return ours / theirs if ours and theirs else None


class Goal:
    """One goal: what was reached, and whether that is enough."""

    def __init__(self, text, reached, is_enough, unit="×"):
        self.text, self.reached, self.unit = text, reached, unit
        self.is_reached = None if reached is None else is_enough(reached)

    def words(self):
        if self.reached is None:
            return "not measured"
        return f"{self.reached:,.2f} {self.unit}".replace(" ×", "×") if self.unit else f"{self.reached:,.2f}"

    def verdict(self):
        return {None: "-", True: "reached", False: "not reached"}[self.is_reached]


def at_least(limit):
    return lambda value: value >= limit


def at_most(limit):
    return lambda value: value <= limit


def goals(results, limits):
    """All of them; `limits` holds what the machine itself can do."""
    found = [
        Goal("10 sessions: at least 5 × tuned Postfix's messages/s", ratio(results, "ingest-10"), at_least(5)),
        Goal("50 sessions: at least 5 × tuned Postfix's", ratio(results, "ingest-50"), at_least(5)),
        Goal("1 session: at least 3 × tuned Postfix's", ratio(results, "ingest-1"), at_least(3)),
        Goal("a connection per message: at least 3 × tuned Postfix's", ratio(results, "connections-10"), at_least(3)),
        Goal(
            "final dot to 250, p99 with 10 sessions: at most ⅓ of tuned Postfix's",
            ratio(results, "ingest-10", "dot_p99"),
            at_most(1 / 3),
        ),
        Goal("end to end: at least 4 × the better Postfix's", end_to_end(results), at_least(4)),
        Goal("a mail by PHPMailer: at most 5 ms", median(results, "phpmailer", "relay", "p50"), at_most(5), "ms"),
        Goal("Exchange's limits: at least 95 % of what three sessions carry", share(results, limits), at_least(95), "%"),
        Goal("Exchange's limits: not one 432", median(results, "exchange", "relay", "refused"), at_most(0), ""),
        Goal("20 MiB × 4: at least Postfix's MB/s", large(results), at_least(1)),
        Goal("20 MiB × 4: memory grows by at most 4 MiB a session", growth(results), at_most(4), "MiB"),
        Goal("idle: at most 12 MiB PSS", median(results, "idle", "relay", "pss"), at_most(12), "MiB"),
        Goal("start to greeting: at most 40 ms", median(results, "start", "relay", "p50"), at_most(40), "ms"),
        Goal("100,000 queued: at least 85 % of the rate with none", queued(results), at_least(85), "%"),
    ]
    return found


def end_to_end(results):
    rates = [median(results, "end-to-end-10", peer, "rate") for peer in ("postfix", "postfix-tuned")]
    ours = median(results, "end-to-end-10", "relay", "rate")
    rates = [rate for rate in rates if rate]
    return ours / max(rates) if ours and rates else None


def large(results):
    rates = [median(results, "large", peer, "rate") for peer in ("postfix", "postfix-tuned")]
    ours = median(results, "large", "relay", "rate")
    rates = [rate for rate in rates if rate]
    return ours / max(rates) if ours and rates else None


def growth(results):
    return median(results, "large", "relay", "growth")


def share(results, limits):
    ours, most = median(results, "exchange", "relay", "rate"), limits.get("exchange")
    return 100 * ours / most if ours and most else None


def queued(results):
    shares = [100 * run["full"] / run["empty"] for run in results.get("queued", {}).get("relay", []) if run]
    return statistics.median(shares) if shares else None
