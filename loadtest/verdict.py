"""The verdict on a run: what clients received against what the service counted.

For each link, 302s received <= count <= requests sent (after the counter checker of Jepsen: each value lies
between the increments that were acknowledged and those that were attempted).
"""

from collections.abc import Collection, Mapping
from typing import Literal

import msgspec

from loadtest.tally import Tally

NAMED = 10
"""Links that a verdict names, at most."""

Outcome = Literal["exact", "in doubt", "broken", "undetermined"]


class Fault(msgspec.Struct, frozen=True):
    """A promise that was broken for one link."""

    short_code: str
    what: str


class Verdict(msgspec.Struct, frozen=True):
    """What came of a run.

    exact: every count equals the 302s. in doubt: no promise is broken, but some requests ended without a
    redirect and may or may not be counted. broken: `faults` says where. undetermined: something that
    the verdict needs is missing.
    """

    outcome: Outcome
    links: int = 0
    sent: int = 0
    redirected: int = 0
    counted: int = 0
    lost: int = 0
    """Redirects that were received and not counted."""
    over: int = 0
    """Counts beyond the requests that were sent."""
    in_doubt: int = 0
    """Requests that ended without a redirect, and counts that go with them."""
    cut_off: int = 0
    """Requests that the generator itself broke off at its end: so many more may be counted."""
    stale: int = 0
    """Redirects to a destination that was not the link's."""
    faults: list[Fault] = msgspec.field(default_factory=list)
    reason: str | None = None

    @property
    def kept(self) -> bool:
        """Whether every promise was kept, as far as can be told."""
        return self.outcome in ("exact", "in doubt")

    def __str__(self) -> str:
        text = (
            f"verdict: {self.outcome}; {self.redirected:,} redirects, {self.counted:,} counted, "
            f"lost {self.lost:,}, over {self.over:,}, in doubt {self.in_doubt:,}, stale {self.stale:,}"
        )
        if self.cut_off:
            text += f", cut off {self.cut_off:,}"
        if self.reason is not None:
            text += f" ({self.reason})"
        return "\n".join([text, *(f"  {fault.short_code}: {fault.what}" for fault in self.faults)])


def undetermined(reason: str) -> Verdict:
    return Verdict("undetermined", reason=reason)


def judge(
    tally: Tally, rise: Mapping[str, int], rows: Mapping[str, int] | None = None, promised: Collection[str] = ()
) -> Verdict:
    """The verdict on `tally`, where `rise` is by how much the count of each link went up.

    `rows` is by how much its rows in `clicks` went up, where these can be seen; `promised` are the checks that
    clients must have come to, each at least once.
    """
    lost = over = 0
    faults: list[Fault] = []
    codes = (tally.sent.keys() | rise.keys()) - tally.gone.keys()
    for code in codes:
        sent, received, counted = tally.sent[code], tally.redirected[code], rise.get(code, 0)
        if counted < received:
            lost += received - counted
            faults.append(Fault(code, f"{received:,} redirects received, {counted:,} counted"))
        if counted > sent:
            over += counted - sent
            faults.append(Fault(code, f"{sent:,} requests sent, {counted:,} counted"))
        if rows is not None and rows.get(code, 0) != counted:
            faults.append(Fault(code, f"{counted:,} counted, {rows.get(code, 0):,} rows in clicks"))
    faults += [Fault(code, f"{number:,} redirects elsewhere") for code, number in tally.wrong.items()]
    faults += [Fault(code, f"{number:,} times not found") for code, number in tally.not_found.items()]
    seen = [Fault("seen by a client", f"{what} ({number:,} times)") for what, number in tally.faults.items()]
    faults = seen + sorted(faults, key=lambda fault: fault.short_code)
    sent, redirected = (sum(counter[code] for code in codes) for counter in (tally.sent, tally.redirected))
    unchecked = [check for check in promised if not tally.checks[check]]
    if sent and not redirected:
        unchecked.append("a redirect received")
    return Verdict(
        "broken" if faults else "undetermined" if unchecked else "exact" if sent == redirected else "in doubt",
        links=len(codes),
        sent=sent,
        redirected=redirected,
        counted=sum(rise.values()),
        lost=lost,
        over=over,
        in_doubt=sent - redirected,
        stale=tally.wrong.total(),
        faults=faults[:NAMED],
        reason=f"not once: {', '.join(unchecked)}" if unchecked else None,
    )


def judge_totals(
    checked: Verdict, redirected: int, failed: int, cut_off: int, rise: int, rows_differ: int
) -> Verdict:  # fmt: skip
    """The verdict where the generator knows only totals.

    `checked` is the verdict on what another one sent to the same server just before, link by link; `failed` were
    not redirected, and `cut_off` broken off by the generator at its end; the count of `rows_differ` links is not
    the number of their rows.
    """
    if not checked.kept:
        return checked
    lost, over = max(0, redirected - rise), max(0, rise - redirected - failed - cut_off)
    faults = []
    if lost:
        faults.append(Fault("all links", f"{redirected:,} redirects received, {rise:,} counted"))
    if over:
        faults.append(Fault("all links", f"{redirected + failed + cut_off:,} requests sent, {rise:,} counted"))
    if rows_differ:
        faults.append(Fault("all links", f"the count of {rows_differ:,} links is not the number of their rows"))
    reason = f"link by link over {checked.redirected:,} redirects before these, which are compared by their total"
    return Verdict(
        "broken" if faults else "undetermined" if not redirected else "in doubt" if failed else checked.outcome,
        links=checked.links,
        sent=redirected + failed + cut_off,
        redirected=redirected,
        counted=rise,
        lost=lost,
        over=over,
        in_doubt=failed,
        cut_off=cut_off,
        faults=faults,
        reason=reason,
    )
