"""No database at all: what the server and the protocol cost."""

from contextlib import nullcontext

from loadtest.baselines.response import App, application


def create_app(_dsn: str) -> App:
    async def answer(code: str) -> str:
        return f"https://example.org/{code}"

    return application(answer, nullcontext())
