"""Peers that misbehave below HTTP: plain sockets on loopback."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

Behave = Callable[[socket.socket], None]


@contextlib.contextmanager
def peer(behave: Behave) -> Iterator[int]:
    """A server that handles each connection with ``behave``, then closes it; its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []
        thread = threading.Thread(target=_serve, args=(server, behave, held))
        thread.start()
        try:
            yield int(server.getsockname()[1])
        finally:
            server.shutdown(socket.SHUT_RDWR)  # ends accept
            thread.join()
            for connection in held:
                connection.close()


def _serve(server: socket.socket, behave: Behave, held: list[socket.socket]) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = server.accept()
            held.append(connection)
            with contextlib.suppress(OSError):
                behave(connection)


def says_nothing(connection: socket.socket) -> None:
    """Accept and never answer; the connection stays open until the end."""


def resets(connection: socket.socket) -> None:
    """Send RST instead of a response, after the whole request has arrived."""
    connection.settimeout(0.2)
    with contextlib.suppress(TimeoutError):
        while connection.recv(65536):
            pass
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def dribbles(connection: socket.socket) -> None:
    """Send a byte now and then for two seconds, without completing the response."""
    for byte in b"HTTP/1.1 200 " + b"O" * 7:
        connection.send(bytes([byte]))
        time.sleep(0.1)


def answers(raw: bytes) -> Behave:
    """Send these bytes as the response, then close."""

    def behave(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_RDWR)

    return behave


def http_answer(status: int, body: bytes, kind: str = "application/json", *headers: str) -> bytes:
    lines = [
        f"HTTP/1.1 {status} x",
        f"content-type: {kind}",
        f"content-length: {len(body)}",
        "connection: close",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@contextlib.contextmanager
def full_backlog() -> Iterator[int]:
    """A port whose queue of connections is full: the kernel drops the next SYN."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield int(server.getsockname()[1])
