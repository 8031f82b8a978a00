"""A TCP proxy that breaks what goes through it, in a thread of its own; for the pipeline's hop and for PostgREST's."""

import asyncio
import re
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

Kind = Literal["refuse", "reset", "hold", "swallow", "stall", "drop", "cut", "answer"]
_REQUEST = re.compile(rb"(?:GET|POST) /(?:rpc/)?(\w*)\S* HTTP/1\.1\r\n")
_RST = struct.pack("ii", 1, 0)  # SO_LINGER of no seconds: close sends RST instead of FIN


@dataclass
class Fault:
    """What happens to an exchange, a request and its response; to a packet where the traffic is not HTTP.

    refuse: no connection is accepted, those that are open are reset. reset: RST as soon as it begins. hold: passed on
    when the fault is over, though the caller may have left. swallow: never passed on nor answered. stall: passed on,
    the response held until the fault is over. drop: passed on, the response thrown away and the connection closed.
    cut: only the first ``size`` bytes of the response, all but the last if negative. answer: the proxy answers, and the
    server never hears of it.
    """

    kind: Kind
    on: str = ""  # only calls of functions with this in their name
    skip: int = 0  # so many of them pass first
    times: int | None = None  # None: until healed
    size: int = 100
    answer: bytes = b""
    hits: int = 0
    has_hit: threading.Event = field(default_factory=threading.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def takes(self, called: str) -> bool:
        """Whether this exchange is one to break; counts it."""
        if self.on not in called or self.over.is_set() or self.hits == self.times:
            return False
        is_counted = bool(self.skip) or self.times is not None
        if called == "ops_heartbeat" and is_counted and not self.on:
            return False  # comes at any moment, from a thread of its own
        if self.skip:
            self.skip -= 1
            return False
        self.hits += 1
        self.has_hit.set()
        return True


def http_answer(status: int, reason: str, body: str, *headers: str) -> bytes:
    """An answer as a gateway before the API gives it."""
    lines = [f"HTTP/1.1 {status} {reason}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", body]
    return "\r\n".join(lines).encode()


class Proxy:
    """Listens on a port of its own as long as it is entered, and passes everything on until told otherwise."""

    def __init__(self, target: int) -> None:
        """Pass on to a port of this machine."""
        self.target, self.port = target, 0
        self.calls: list[str] = []  # functions called over HTTP, whatever became of the call
        self.opened = 0  # connections so far
        self._fault: Fault | None = None
        self._server: asyncio.Server | None = None
        self._live: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.heal()
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @contextmanager
    def broken(self, fault: Fault) -> Iterator[Fault]:
        """The fault is on inside the block, if its ``times`` are not over before."""

        async def begin() -> None:
            self._fault = fault
            if fault.kind == "refuse":
                await self._close()
                fault.hits = self._abort()

        self._do(begin())
        try:
            yield fault
        finally:
            self.heal()

    def heal(self) -> None:
        """End the fault; what it held goes on."""

        async def end() -> None:
            if self._fault is not None:
                self._fault.over.set()
            self._fault = None
            if self._server is None:
                await self._listen()

        self._do(end())

    def reset_live(self) -> int:
        """RST on every open connection, on both sides; how many there were."""

        async def reset() -> int:
            return self._abort()

        count: int = self._do(reset())
        return count

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, reuse_address=True)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _end(self) -> None:
        await self._close()
        self._abort()
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}), return_exceptions=True)

    def _abort(self) -> int:
        for writer in self._live:
            _reset(writer)
        return len(self._live) // 2

    async def _serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            return _reset(to_client)
        self.opened += 1
        ends = {to_client, to_server}
        self._live |= ends
        link = _Link(self, to_client, to_server)
        # Whichever side ends first takes the other one along.
        ways = {asyncio.ensure_future(way) for way in (link.up(from_client), link.down(from_server))}
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        self._live -= ends
        for writer in ends:
            writer.close()
        return None

    def fault_for(self, packet: bytes) -> Fault | None:
        """The fault that breaks the exchange which this packet of a client begins."""
        request = _REQUEST.match(packet)
        called = request[1].decode() if request else ""
        if request:
            self.calls.append(called)
        return self._fault if self._fault is not None and self._fault.takes(called) else None


class _Link:
    """One connection through the proxy, and the fault of the exchange that is under way."""

    def __init__(self, proxy: Proxy, to_client: asyncio.StreamWriter, to_server: asyncio.StreamWriter) -> None:
        self.proxy, self.to_client, self.to_server = proxy, to_client, to_server
        self.fault: Fault | None = None
        self.speaks_http = False

    async def up(self, client: asyncio.StreamReader) -> None:
        while packet := await client.read(65536):
            begins = _REQUEST.match(packet) is not None
            self.speaks_http |= begins
            if begins or not self.speaks_http:  # else it is the rest of a request
                self.fault = self.proxy.fault_for(packet)
            kind = self.fault.kind if self.fault else None
            if kind == "reset":
                return _reset(self.to_client)
            if self.fault and kind == "answer" and begins:
                self.to_client.write(self.fault.answer)
            if self.fault and kind == "hold":
                await self.fault.over.wait()
            if kind not in ("answer", "swallow"):
                self.to_server.write(packet)
                await self.to_server.drain()
        return None

    async def down(self, server: asyncio.StreamReader) -> None:
        while packet := await server.read(65536):
            kind = self.fault.kind if self.fault else None
            if kind == "drop":
                return
            if self.fault and kind == "stall":
                await self.fault.over.wait()
            self.to_client.write(packet[: self.fault.size] if self.fault and kind == "cut" else packet)
            await self.to_client.drain()
            if kind == "cut":
                return


def _reset(writer: asyncio.StreamWriter) -> None:
    connection: socket.socket | None = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
    writer.transport.abort()
