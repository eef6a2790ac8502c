"""As per_request, but its pool cleans each session after use: asyncpg's own default."""

from loadtest.baselines.per_request import counting
from loadtest.baselines.pool import Pool
from loadtest.baselines.response import App


def create_app(dsn: str) -> App:
    return counting(Pool(dsn, reset=True))
