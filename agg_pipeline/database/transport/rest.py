"""Database functions over Supabase's REST API (PostgREST), through supabase-py."""

import datetime as dt
import email.utils
import json
import threading
from typing import Any

import httpx
from postgrest import APIError
from supabase import Client, create_client
from supabase.lib.client_options import SyncClientOptions

from agg_pipeline.errors import PermanentError, TransientError, error_for

_CLIENT_PREFIX = "/rest/v1"


class _RestPath(httpx.HTTPTransport):
    """Sends what the client addresses to /rest/v1 to another path: a bare PostgREST answers at /."""

    def __init__(self, rest_path: str) -> None:
        super().__init__()
        self._rest_path = rest_path.rstrip("/")

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode()
        if path.startswith(_CLIENT_PREFIX):
            request.url = request.url.copy_with(raw_path=(self._rest_path + path.removeprefix(_CLIENT_PREFIX)).encode())
        return super().handle_request(request)


class RestTransport:
    """One httpx client for the life of the transport: a new one costs a TLS context each time."""

    def __init__(self, url: str, key: str, *, rest_path: str, timeout_s: float) -> None:
        self._where = url.rpartition("@")[2]  # for messages: without a password in it
        self._base = f"{url.rstrip('/')}{_CLIENT_PREFIX}/"
        self._key = key
        self._headers = {"apikey": key, "authorization": f"Bearer {key}"}
        self._answer = threading.local()  # the client hides status and headers of a failure; the hook keeps them
        self._http = httpx.Client(
            transport=None if rest_path.rstrip("/") == _CLIENT_PREFIX else _RestPath(rest_path),
            timeout=httpx.Timeout(timeout_s, connect=min(10.0, timeout_s)),
            event_hooks={"response": [self._remember]},
        )
        try:
            if not (key.isascii() and key.isprintable() and " " not in key):
                # Found here, since the HTTP client would name the header in full.
                raise ValueError("the key has a line break, a space or a letter that no key has")
            self._client: Client = create_client(
                url,
                key,
                SyncClientOptions(
                    httpx_client=self._http,
                    # Its retries leave out calls of functions, and sleep up to 7 s elsewhere; ours are in the gateway.
                    postgrest_client_retry=False,
                    auto_refresh_token=False,
                    persist_session=False,
                ),
            )
        except Exception as exc:
            self._http.close()
            raise PermanentError(
                "connect",
                type(exc).__name__,
                f"{self._where} cannot be used: {exc}",
                "Check SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY.",
            ) from None

    def _remember(self, response: httpx.Response) -> None:
        self._answer.response = response

    def call(self, function: str, params: dict[str, object]) -> object:
        self._answer.response = None
        try:
            data: object = self._client.rpc(function, params).execute().data
            if self._is_told():
                data = json.loads(self._without_key(json.dumps(data)))
        except APIError as exc:
            raise self._refused(function, exc) from None  # its own text shows rows
        except (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError) as exc:
            raise TransientError(
                function,
                type(exc).__name__,
                f"no answer from {self._where}: {str(exc) or 'all connections were busy'}",
                "Is the address right and the service up?",
            ) from exc
        except (httpx.HTTPError, httpx.InvalidURL, TypeError, ValueError, RuntimeError) as exc:
            raise PermanentError(
                function, type(exc).__name__, f"the call cannot be sent to {self._where}: {exc}"
            ) from exc
        if isinstance(data, str) and not self._is_json():
            # The client takes any 200 for an answer, a login page too.
            raise TransientError(function, "shape", f"{self._where} did not answer with JSON")
        return data

    def get(self, path: str, **query: str) -> Any:
        """JSON of a table, view or, with path "", the API's description of itself (OpenAPI)."""
        self._answer.response = None
        about = path or "the API's description"
        try:
            response = self._http.get(self._base + path, params=query, headers=self._headers)
            body: Any = response.json() if self._is_json() else None
        except httpx.HTTPError as exc:
            raise TransientError(about, type(exc).__name__, f"no answer from {self._where}: {exc}") from None
        if response.is_success and body is not None:
            return body
        told = body if isinstance(body, dict) else {}
        message = self._without_key(told.get("message") or f"HTTP {response.status_code} from {self._where}")
        hint = self._without_key(told.get("hint") or "") or None
        raise error_for(about, told.get("code"), message, hint=hint, status=response.status_code)

    def functions(self) -> frozenset[str]:
        return frozenset(path.removeprefix("/rpc/") for path in self.get("").get("paths", {}) if "/rpc/" in path)

    def _is_told(self) -> bool:
        """Whether the answer repeats our key, as an error report with the headers of the request in it does."""
        response: httpx.Response | None = self._answer.response
        return response is not None and self._key.encode() in response.content

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "[key]")

    def _is_json(self) -> bool:
        response: httpx.Response | None = self._answer.response
        return response is not None and "json" in response.headers.get("content-type", "")

    def _refused(self, function: str, exc: APIError) -> Exception:
        response: httpx.Response | None = self._answer.response
        status = response.status_code if response is not None else None
        message = exc.message or f"HTTP {status} from {self._where}"
        if status is not None and not self._is_json():
            message = f"HTTP {status} from {self._where}"  # a proxy's page of HTML says nothing more
        elif exc.code == "" and not exc.message:
            message = f"HTTP {status} from {self._where}: its connection to the database broke"
        elif (exc.code or "").startswith("PGRST00") and exc.details:
            message = f"{message.rstrip('.')}: {exc.details}"  # why it cannot reach its database
        # PostgREST sends its own beside that of a function.
        wishes = response.headers.get_list("retry-after") if response is not None else []
        retry_after_s = max((seconds for wish in wishes if (seconds := _seconds(wish)) is not None), default=None)
        return error_for(
            function,
            exc.code,
            self._without_key(message),
            hint=self._without_key(exc.hint or "") or None,
            status=status,
            retry_after_s=retry_after_s,
        )

    def close(self) -> None:
        self._http.close()


def _seconds(retry_after: str) -> float | None:
    """Seconds from now that a Retry-After asks for, in either of its forms; None if it is neither."""
    if retry_after.isdecimal():
        return float(retry_after)
    try:
        at = email.utils.parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=dt.UTC)
    return max(0.0, (at - dt.datetime.now(dt.UTC)).total_seconds())
