"""PostgREST: its settings, its readiness, and the keys that it accepts."""

import base64
import hashlib
import hmac
import json
from pathlib import Path

from agg_pipeline.embedded.files import Layout, State
from agg_pipeline.embedded.ports import answers_ok
from agg_pipeline.embedded.postgres import url
from agg_pipeline.embedded.privilege import Identity, environment
from agg_pipeline.embedded.supervisor.protocol import ServiceOrder

# Fixed (2100-01-01), so that one secret always gives the same key and an .env file stays valid after a restart.
KEY_EXPIRES = 4_102_444_800
POOL = 10


def server_order(layout: Layout, identity: Identity, postgrest: Path, state: State) -> ServiceOrder:
    """Order for the supervisor. The password goes by environment: every user can read a command line."""
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
    # The unprivileged user may not reach root's cache. PostgREST, unlike PostgreSQL, runs as root too.
    reachable = identity.can_run(postgrest)
    return ServiceOrder(
        name="postgrest",
        argv=identity.argv([str(postgrest)]) if reachable else [str(postgrest)],
        env=env,
        log=str(layout.log("postgrest")),
        uid=identity.uid if reachable else None,
        gid=identity.gid if reachable else None,
        grace_s=3.0,
    )


def is_ready(state: State) -> bool:
    """Whether PostgREST has its connections and its schema cache; without a database the answer times out."""
    return answers_ok(state.admin_port, "/ready")


def sign_token(secret: str, claims: dict[str, object]) -> str:
    """A JWT with the given claims, signed with HS256."""
    signed = b".".join(_encode(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    return (signed + b"." + _encode(hmac.digest(secret.encode(), signed, hashlib.sha256))).decode()


def service_role_key(secret: str) -> str:
    """The key of role service_role. No iat claim: a clock set back would make the key invalid."""
    return sign_token(secret, {"iss": "agg-pipeline", "role": "service_role", "exp": KEY_EXPIRES})


def _encode(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")
