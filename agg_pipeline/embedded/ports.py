"""TCP ports on this machine: a free one, and whether a service answers at one."""

import contextlib
import http.client
import socket
from collections.abc import Collection


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
