"""Which roles the clients of a scenario have, and what a run of it has to come to."""

from loadtest.roles import ApiCalls, Churn, Pages, Redirects, Role

SCENARIOS = {
    "redirects": {"redirects": 1},
    "api": {"api": 1},
    "pages": {"pages": 1, "churn": 1},
    "mixed": {"redirects": 8, "api": 4, "pages": 1, "churn": 1},
}
"""The roles of the clients, and how many of each there are to the others."""

ROLES: dict[str, type[Role]] = {"redirects": Redirects, "api": ApiCalls, "pages": Pages, "churn": Churn}


def in_turn(scenario: str) -> list[str]:
    """The roles of one client after the other, as many of each as it has shares: the first few have one each."""
    shares = SCENARIOS[scenario]
    turns = [(number / share, role) for role, share in shares.items() for number in range(share)]
    return [role for _, role in sorted(turns, key=lambda turn: turn[0])]


def promised(scenario: str) -> list[str]:
    """The checks that the clients of a scenario have to come to, each at least once."""
    return [check for role in SCENARIOS[scenario] for check in ROLES[role].CHECKS]
