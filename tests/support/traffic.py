"""Clients that remember what they sent and what they received, link by link."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

import h11

_RECONNECT_SECONDS = 0.05


class Tally:
    """What was put on the wire, and what came back whole."""

    def __init__(self) -> None:
        self.sent: Counter[str] = Counter()
        self.redirected: Counter[str] = Counter()
        self.destinations: defaultdict[str, set[str]] = defaultdict(set)
        self.statuses: Counter[int] = Counter()

    @property
    def in_doubt(self) -> int:
        """Requests that ended without an answer."""
        return self.sent.total() - self.statuses.total()


async def drive(port: int, codes: Iterable[str], connections: int = 64, tally: Tally | None = None) -> Tally:
    """GET each of `codes` once, on keep-alive connections; nothing is ever sent twice.

    A connection that breaks or cannot be made is made again, for as long as there are codes left.
    """
    tally = Tally() if tally is None else tally
    queue = iter(codes)
    async with asyncio.TaskGroup() as clients:
        for _ in range(connections):
            clients.create_task(_client(port, queue, tally))
    return tally


async def _client(port: int, queue: Iterator[str], tally: Tally) -> None:
    code = next(queue, None)
    while code is not None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(_RECONNECT_SECONDS)
            continue
        connection = h11.Connection(h11.CLIENT)
        try:
            while code is not None:
                tally.sent[code] += 1
                asked, code = code, next(queue, None)
                request = h11.Request(method="GET", target=f"/{asked}", headers=[("host", "test")])
                writer.write((connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b""))
                response = await _response(reader, connection)
                if response is None:
                    break
                tally.statuses[response.status_code] += 1
                if response.status_code == 302:
                    tally.redirected[asked] += 1
                    tally.destinations[asked].add(dict(response.headers)[b"location"].decode())
                if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                    break
                connection.start_next_cycle()
        except OSError:
            pass
        finally:
            writer.close()


async def _response(reader: asyncio.StreamReader, connection: h11.Connection) -> h11.Response | None:
    """The next response, its body read; None where the connection broke before its end."""
    response = None
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return None
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(65536))
        elif isinstance(event, h11.Response):
            response = event
        elif isinstance(event, h11.EndOfMessage):
            return response
        elif isinstance(event, h11.ConnectionClosed):
            return None
