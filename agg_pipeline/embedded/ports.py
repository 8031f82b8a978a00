"""TCP ports on this machine: a free one, and whether a service answers at one."""

import contextlib
import errno
import http.client
import socket
from collections.abc import Collection

from agg_pipeline.embedded.errors import EmbeddedError


def free_port(wanted: int = 0, taken: Collection[int] = ()) -> int:
    """The wanted port if it is free on loopback and not taken, otherwise a free one that is not taken."""
    for port in (wanted, 0):
        # Without the option a port whose last connections still linger in TIME_WAIT would count as taken.
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            found: int = probe.getsockname()[1]
            if found not in taken:
                return found
    return free_port(0, taken)


def check_is_free(port: int, host: str, *, port_option: str, host_option: str) -> None:
    """Refuse a port at which this process could not listen, before anything is started that needs it; 0 is any.

    Args:
        port_option, host_option: what the reader sets them with, for the error.

    Raises:
        EmbeddedError: the port is taken or not allowed, or this machine does not have the address.
    """
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as exc:
        raise EmbeddedError(f"{host} is no address: {exc.strerror or exc}.", remedy=f"Correct {host_option}.") from None
    for family, kind, protocol, _, address in addresses:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as in free_port
                probe.bind(address)
        except OSError as exc:
            if exc.errno == errno.EADDRNOTAVAIL:
                raise EmbeddedError(
                    f"{host} is no address of this machine.", remedy=f"Correct {host_option}."
                ) from None
            why = {errno.EADDRINUSE: "taken by another process", errno.EACCES: "reserved for root"}
            raise EmbeddedError(
                f"Port {port} of {host} is {why.get(exc.errno or 0, f'not to be had ({exc.strerror})')}.",
                remedy=f"Choose another with {port_option}; {port_option} 0 takes a free one. Nothing was started.",
            ) from None


def accepts_connections(port: int, host: str = "127.0.0.1") -> bool:
    """Whether something listens at the port."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
        return True
    return False


def answers_ok(port: int, path: str, host: str = "127.0.0.1") -> bool:
    """Whether GET of the path gives status 200. http.client, because it ignores proxy settings."""
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
