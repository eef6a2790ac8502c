"""`/health/live` and `/health/ready`."""

from litestar import Controller, get

from service.api.models import Health
from service.store import schema
from service.store.connections import Database


class HealthController(Controller):
    path = "/health"
    tags = ("health",)

    @get("/live", summary="Whether this process runs")
    async def live(self) -> Health:
        return Health()

    @get("/ready", summary="Whether the database can be asked and has the schema that this release needs")
    async def ready(self, database: Database) -> Health:
        await schema.check(database)
        return Health()
