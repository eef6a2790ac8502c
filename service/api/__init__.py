"""The HTTP API below `/api/` and the health checks."""
