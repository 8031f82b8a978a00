"""Database functions over Supabase's REST API (PostgREST), through supabase-py."""

import datetime as dt
import email.utils
import functools
import json
import ssl
import threading
from typing import Any

import httpx
from postgrest import APIError
from supabase import Client, create_client
from supabase.lib.client_options import SyncClientOptions

from agg_pipeline.errors import PermanentError, TransientError, error_for

_CLIENT_PREFIX = "/rest/v1"


@functools.cache
def _tls_context() -> ssl.SSLContext:
    """One for the process: to read the certificates takes 30 ms, and each run connects anew."""
    return httpx.create_ssl_context()


class _RestPath(httpx.HTTPTransport):
    """Replaces the path /rest/v1, which supabase-py always uses, by ``rest_path``: PostgREST itself serves at /."""

    def __init__(self, rest_path: str) -> None:
        super().__init__(verify=_tls_context())
        self._rest_path = rest_path.rstrip("/")

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode()
        if path.startswith(_CLIENT_PREFIX):
            request.url = request.url.copy_with(raw_path=(self._rest_path + path.removeprefix(_CLIENT_PREFIX)).encode())
        return super().handle_request(request)


class RestTransport:
    """Calls over one httpx client, which keeps its connections."""

    def __init__(self, url: str, key: str, *, rest_path: str, timeout_s: float) -> None:
        self._address = url.rpartition("@")[2]  # for messages: without the password
        self._base = f"{url.rstrip('/')}{_CLIENT_PREFIX}/"
        self._key = key
        self._headers = {"apikey": key, "authorization": f"Bearer {key}"}
        self._last = threading.local()  # last response: the client's errors lack status and headers
        self._http = httpx.Client(
            verify=_tls_context(),
            transport=None if rest_path.rstrip("/") == _CLIENT_PREFIX else _RestPath(rest_path),
            timeout=httpx.Timeout(timeout_s, connect=min(10.0, timeout_s)),
            event_hooks={"response": [self._store_response]},
        )
        try:
            if not (key.isascii() and key.isprintable() and " " not in key):
                # Checked here, since the HTTP client's error would show the whole header.
                raise ValueError("the key contains a line break, a space or a character that is not ASCII")
            self._client: Client = create_client(
                url,
                key,
                SyncClientOptions(
                    httpx_client=self._http,
                    # supabase-py does not retry function calls and sleeps up to 7 s for others; see retries.py.
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
                f"{self._address} cannot be used: {exc}",
                "Check SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY.",
            ) from None

    def _store_response(self, response: httpx.Response) -> None:
        self._last.response = response

    def call(self, function: str, params: dict[str, object]) -> object:
        self._last.response = None
        try:
            data: object = self._client.rpc(function, params).execute().data
            if self._contains_key():
                data = json.loads(self._without_key(json.dumps(data)))
        except APIError as exc:
            raise self._error_for(function, exc) from None  # the text of APIError contains rows
        except (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError) as exc:
            raise TransientError(
                function,
                type(exc).__name__,
                f"no answer from {self._address}: {str(exc) or 'all connections were busy'}",
                "Check the address and that the service is up.",
            ) from exc
        except (httpx.HTTPError, httpx.InvalidURL, TypeError, ValueError, RuntimeError) as exc:
            raise PermanentError(
                function, type(exc).__name__, f"the call cannot be sent to {self._address}: {exc}"
            ) from exc
        if isinstance(data, str) and not self._is_json():
            # supabase-py accepts any body with status 200, such as the login page of a proxy.
            raise TransientError(function, "shape", f"{self._address} did not answer with JSON")
        return data

    def get(self, path: str, **query: str) -> Any:
        """Read the JSON of a table or view; with path "", the OpenAPI description of the API."""
        self._last.response = None
        resource = path or "the description of the API"
        try:
            response = self._http.get(self._base + path, params=query, headers=self._headers)
            body: Any = response.json() if self._is_json() else None
        except httpx.HTTPError as exc:
            raise TransientError(resource, type(exc).__name__, f"no answer from {self._address}: {exc}") from None
        if response.is_success and body is not None:
            return body
        error = body if isinstance(body, dict) else {}
        message = self._without_key(error.get("message") or f"HTTP {response.status_code} from {self._address}")
        hint = self._without_key(error.get("hint") or "") or None
        raise error_for(resource, error.get("code"), message, hint=hint, status=response.status_code)

    def functions(self) -> frozenset[str]:
        described = self.get("")
        paths = described.get("paths", {}) if isinstance(described, dict) else {}  # a proxy may answer with anything
        return frozenset(path.removeprefix("/rpc/") for path in paths if "/rpc/" in path)

    def _contains_key(self) -> bool:
        """Whether the response contains our key, as an error page that shows the request headers does."""
        response: httpx.Response | None = self._last.response
        return response is not None and self._key.encode() in response.content

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "[key]")

    def _is_json(self) -> bool:
        response: httpx.Response | None = self._last.response
        return response is not None and "json" in response.headers.get("content-type", "")

    def _error_for(self, function: str, exc: APIError) -> Exception:
        response: httpx.Response | None = self._last.response
        status = response.status_code if response is not None else None
        message = exc.message or f"HTTP {status} from {self._address}"
        if status is not None and not self._is_json():
            message = f"HTTP {status} from {self._address}"  # HTML of a proxy, of no use in a message
        elif exc.code == "" and not exc.message:
            message = f"HTTP {status} from {self._address}: its connection to the database broke"
        elif (exc.code or "").startswith("PGRST00") and exc.details:
            message = f"{message.rstrip('.')}: {exc.details}"  # the reason why PostgREST cannot reach its database
        # PostgREST adds its own header to one that the function sets.
        values = response.headers.get_list("retry-after") if response is not None else []
        retry_after_s = max((seconds for value in values if (seconds := _seconds(value)) is not None), default=None)
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
    """Seconds from now of a Retry-After header, a number or a date; None if it is neither."""
    if retry_after.isdecimal():
        return float(retry_after)
    try:
        at = email.utils.parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=dt.UTC)
    return max(0.0, (at - dt.datetime.now(dt.UTC)).total_seconds())
