"""The PostgREST part: its settings, its readiness, and the keys that it accepts."""

import base64
import hashlib
import hmac
import http.client
import json
import signal
from pathlib import Path

from agg_pipeline.embedded.files import Layout, State
from agg_pipeline.embedded.postgres import url
from agg_pipeline.embedded.privilege import Identity, environment

# A fixed moment (2100-01-01), so that one secret gives one key: an .env file stays right after a restart.
KEY_EXPIRES = 4_102_444_800
POOL = 10


def server_order(layout: Layout, identity: Identity, postgrest: Path, state: State) -> dict[str, object]:
    """Order for the supervisor. The password goes by environment: a command line is readable by everyone."""
    env = environment() | {
        "PGRST_DB_URI": url(state, user="authenticator"),
        "PGRST_DB_SCHEMAS": "public",
        "PGRST_DB_ANON_ROLE": "anon",
        "PGRST_DB_POOL": str(POOL),
        "PGRST_DB_POOL_ACQUISITION_TIMEOUT": "10",
        "PGRST_JWT_SECRET": state.jwt_secret,
        "PGRST_SERVER_HOST": "127.0.0.1",
        "PGRST_SERVER_PORT": str(state.api_port),
        "PGRST_ADMIN_SERVER_PORT": str(state.admin_port),
        "PGRST_LOG_LEVEL": "error",
    }
    # Root's cache may be closed to the unprivileged user; PostgREST, unlike PostgreSQL, runs as root too.
    reachable = identity.can_run(postgrest)
    argv = identity.argv([str(postgrest)]) if reachable else [str(postgrest)]
    return {
        "name": "postgrest",
        "argv": argv,
        "env": env,
        "log": str(layout.log("postgrest")),
        "uid": identity.uid if reachable else None,
        "gid": identity.gid if reachable else None,
        "stop": int(signal.SIGTERM),
        "grace_s": 3.0,
    }


def is_ready(state: State) -> bool:
    """Whether PostgREST has its connections and its schema cache. http.client, since it knows of no proxy."""
    connection = http.client.HTTPConnection("127.0.0.1", state.admin_port, timeout=2)  # without a database it hangs
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def sign_token(secret: str, claims: dict[str, object]) -> str:
    """A JWT (HS256) with the given claims."""
    signed = b".".join(_encode(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    return (signed + b"." + _encode(hmac.digest(secret.encode(), signed, hashlib.sha256))).decode()


def service_role_key(secret: str) -> str:
    """The key of role service_role. No iat claim: a clock set back would make the key invalid."""
    return sign_token(secret, {"iss": "agg-pipeline", "role": "service_role", "exp": KEY_EXPIRES})


def _encode(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")
