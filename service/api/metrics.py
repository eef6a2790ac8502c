"""`/metrics`: what Prometheus scrapes."""

from litestar import get

from service.metrics import MEDIA_TYPE, Metrics


@get(
    "/metrics",
    media_type=MEDIA_TYPE,
    tags=["operations"],
    operation_id="metrics",
    summary="Metrics over all workers, for Prometheus",
)
async def show_metrics(metrics: Metrics) -> bytes:
    """In the text format of Prometheus. Meant for the operator alone: a proxy in front should keep it back."""
    return await metrics.exposition()
