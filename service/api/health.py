"""`/health/live` and `/health/ready`."""

from litestar import Controller, get

from service.api.models import Health
from service.store import schema
from service.store.connections import Database


class HealthController(Controller):
    path = "/health"
    tags = ("operations",)

    @get("/live", operation_id="live", summary="Whether this process runs")
    async def live(self) -> Health:
        """For a supervisor that restarts what does not answer. The database is not asked."""
        return Health()

    @get(
        "/ready",
        operation_id="ready",
        summary="Whether the database answers and has the right schema",
    )
    async def ready(self, database: Database) -> Health:
        """For a load balancer that sends requests to those who can answer them."""
        await schema.check(database)
        return Health()
