"""One HTTP exchange with a total deadline, and typed errors. With timed_http.py the only home of requests.

No retries, no redirects, no cookies, no environment (.netrc would overwrite our header): policy belongs to the callers.
Errors are raised ``from None``, because an exception of requests carries the request with its headers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
import urllib3

from prefect_runtime.client.credentials import Credentials, proxies_for
from prefect_runtime.client.retry import Deadline
from prefect_runtime.client.transport.timed_http import Sending, TimedAdapter, current, longest_silence
from prefect_runtime.wire.errors import AnswerLostError, ConfigurationError, ConnectFailedError, ProtocolError
from prefect_runtime.wire.json_text import read_json
from prefect_runtime.wire.redaction import clean

MAX_ANSWER_BYTES = 1024 * 1024 * 1024
MAX_REFUSAL_BYTES = 64 * 1024
"""Of an answer that refuses, no more is read."""
_CHUNK = 256 * 1024
_POOL = 32  # connections kept per host: threads that submit or fetch at the same time


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: status, headers (names lower-case), and the body.

    `complete` is False where the body ended with the connection, and nothing says whether that was all of it.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    complete: bool = True

    @property
    def text(self) -> str:
        """The body as text. Always UTF-8: requests would read text/plain without a charset as Latin-1."""
        return self.body.decode("utf-8", errors="replace")

    def json(self) -> Any:
        """Return the body's JSON value.

        Raises:
            ProtocolError: The body is not JSON, or such as nobody means (`read_json`).
        """
        try:
            return read_json(self.body)
        except (ValueError, RecursionError):
            raise ProtocolError(f"The server's answer ({self.status}) should be JSON and is not.") from None


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002
        """Say that there is none: to see where a redirect leads, requests would read its whole body, however long."""
        return


class Transport:
    """A pool of connections with one account's TLS and proxy settings. Safe to share between threads.

    Args:
        credentials: The account.
        max_answer_bytes: Of a longer answer nothing is handed on.
    """

    def __init__(self, credentials: Credentials, *, max_answer_bytes: int = MAX_ANSWER_BYTES) -> None:
        session = _Session()
        session.trust_env = False
        session.verify = credentials.verify
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = TimedAdapter(_POOL)
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        # identity: a cut gzip stream raises nothing, and a small one can hide any size.
        session.headers.update({"Accept-Encoding": "identity", "Accept": "application/json"})
        self._session = session
        self._max_answer_bytes = max_answer_bytes
        self._proxies = credentials.proxies
        self._secrets = credentials.secrets

    def close(self) -> None:
        """Close all connections."""
        self._session.close()

    def exchange(
        self,
        method: str,
        url: str,
        *,
        deadline: Deadline,
        headers: Mapping[str, str],
        params: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        keep: Callable[[bytes], object] | None = None,
    ) -> Answer:
        """Send one request and return the answer, whatever its status.

        `keep` is called with each piece of an answer that says 200, as soon as it has come.

        Raises:
            ConnectFailedError: Nothing was sent.
            AnswerLostError: Sent, but no whole answer came in time.
            ProtocolError: An answer that is no answer, or too large.
            ConfigurationError: The URL or a header cannot be sent at all.
        """
        where = f"{method} {_without_query(url)}"
        left = deadline.remaining()
        if left <= 0:
            raise ConnectFailedError(f"{where}: no time was left to send the request.")
        _check_characters(url, params, headers, where)
        limits = urllib3.Timeout(total=left, read=longest_silence(deadline))  # for connecting: see timed_http
        sending = Sending(deadline)
        reset = current.set(sending)
        try:
            response = self._session.request(
                method,
                url,
                params=list(params),
                data=body,
                headers=dict(headers),
                proxies=proxies_for(url, self._proxies),
                timeout=limits,  # type: ignore[arg-type]  # requests hands urllib3's own class through
                allow_redirects=False,
                stream=True,
            )
            with response:
                return self._read(response, deadline, where, keep if response.status_code == 200 else None)
        except requests.RequestException as error:
            raise self._translate(error, where, sending) from None
        except UnicodeError:
            raise AnswerLostError(f"{where}: sent, and the answer's head cannot be read. {_TRY}") from None
        except OSError as error:  # requests' own word for a CA bundle that is not there
            raise ConfigurationError(f"{where}: cannot be sent ({type(error).__name__}). Check verify.") from None
        finally:
            current.reset(reset)

    def _read(
        self, response: requests.Response, deadline: Deadline, where: str, keep: Callable[[bytes], object] | None
    ) -> Answer:
        """Read the body piece by piece: a server that drips cannot hold us past the deadline."""
        headers = {name.lower(): value for name, value in response.headers.items()}
        length = self._check_head(response.status_code, headers, where)
        refused = response.status_code >= 300
        body = bytearray()
        try:
            while chunk := response.raw.read1(_CHUNK):
                body += chunk
                if keep is not None:
                    keep(chunk)
                if refused and len(body) > MAX_REFUSAL_BYTES:
                    return Answer(response.status_code, headers, bytes(body[:MAX_REFUSAL_BYTES]), False)
                if len(body) > self._max_answer_bytes:
                    raise ProtocolError(f"{where}: the answer is larger than {self._max_answer_bytes} bytes.")
                if deadline.expired:
                    raise AnswerLostError(f"{where}: the answer had not come whole when the time was up.")
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise AnswerLostError(f"{where}: the answer broke off ({type(error).__name__}). {_TRY}") from None
        if length is not None and response.request.method != "HEAD" and len(body) < length:
            raise AnswerLostError(f"{where}: the answer broke off after {len(body)} of {length} bytes. {_TRY}")
        complete = length is not None or "transfer-encoding" in headers or not body
        return Answer(response.status_code, headers, bytes(body), complete)

    def _check_head(self, status: int, headers: Mapping[str, str], where: str) -> int | None:
        """Refuse what says that the body is not what it looks like; return its length, where that is said.

        We ask for neither compression nor a switch of protocols; a body whose end is not certain may be cut.
        """
        if status < 200:
            raise ProtocolError(f"{where}: an answer of status {status} is none.")
        if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            raise ProtocolError(f"{where}: the answer came compressed, which was not asked for.")
        if headers.get("transfer-encoding", "chunked").strip().lower() != "chunked":
            raise ProtocolError(f"{where}: the answer has a transfer encoding that was not asked for.")
        length = headers.get("content-length")
        if length is None or "transfer-encoding" in headers:
            return None
        if not _LENGTH.fullmatch(length.strip()):
            raise ProtocolError(f"{where}: the answer does not say how long it is.")
        return int(length)

    def _translate(self, error: requests.RequestException, where: str, sending: Sending) -> Exception:
        name = type(_innermost(error)).__name__
        if isinstance(_innermost(error), urllib3.exceptions.InvalidHeader):  # of the answer: lengths that contradict
            return ProtocolError(f"{where}: the answer does not say how long it is.")
        if isinstance(error, ValueError):  # InvalidURL, InvalidHeader, MissingSchema, …
            return ConfigurationError(f"{where}: cannot be sent ({name}).")
        if not sending.begun:  # no name, connection, tunnel or TLS
            why = clean(str(_innermost(error)), self._secrets)
            return ConnectFailedError(f"{where}: no connection ({name}: {why}). {_TRY}")
        if isinstance(error, requests.exceptions.Timeout):
            return AnswerLostError(f"{where}: sent, but no answer came in time ({name}). {_TRY}")
        return AnswerLostError(f"{where}: sent, but the connection broke before an answer came ({name}). {_TRY}")


_LENGTH = re.compile(r"[0-9]{1,18}")
_TRY = "Is the server up, and the url right? Trying again is safe: a request never makes a second job."


def _check_characters(url: str, params: Sequence[tuple[str, str]], headers: Mapping[str, str], where: str) -> None:
    """Refuse what cannot be written as bytes, before anything is sent; later, it would look like a lost answer."""
    try:
        for text in (url, *(part for pair in params for part in pair)):
            text.encode()
        for value in headers.values():
            value.encode("latin-1")
    except UnicodeError:
        raise ConfigurationError(f"{where}: cannot be sent, there is a character in it that may not be.") from None


def _innermost(error: BaseException) -> BaseException:
    """Return the urllib3 or system error that a requests error stands for."""
    inner = error.args[0] if error.args else None
    if isinstance(inner, urllib3.exceptions.MaxRetryError) and inner.reason is not None:
        return inner.reason
    return inner if isinstance(inner, BaseException) else error


def _without_query(url: str) -> str:
    return url.partition("?")[0]
