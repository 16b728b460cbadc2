"""How is a server asked: politely, over proxies, and without telling a secret to another one?"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.parse import SplitResult, urljoin, urlsplit

import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from datamodules.errors import InputError

MAX_REDIRECTS = 10
CHUNK = 1 << 16
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

Result = TypeVar("Result")


class WebError(InputError):
    """A server cannot be reached, refuses, or sends something else than what was asked for."""


class TryAgain(Exception):
    """A failure that may pass.

    Args:
        reason: What happened, in a few words.
        after: Seconds that the server asks to wait; None where it asks for nothing.
        is_unreachable: No connection came about.
        status: HTTP status, where there was one.
    """

    def __init__(
        self, reason: str, after: float | None = None, *, is_unreachable: bool = False, status: int = 0
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = after
        self.is_unreachable = is_unreachable
        self.status = status


@dataclass(frozen=True, slots=True)
class Patience:
    """How often to try, and how long to wait.

    Attributes:
        attempts: Tries in all.
        connections: Tries in all where no connection comes about.
        first_wait: Seconds before the second try; doubled from try to try, times 0.5 to 1.5.
        longest_wait: Seconds; a server that asks for more ends the fetch.
        connect: Seconds until a connection stands.
        stall: Seconds without a byte.
    """

    attempts: int = 5
    connections: int = 3
    first_wait: float = 1.0
    longest_wait: float = 120.0
    connect: float = 15.0
    stall: float = 60.0


@dataclass(frozen=True, slots=True)
class Web:
    """What asking needs: a session, patience, a place to say what is waited for, and time and chance (for tests)."""

    session: requests.Session
    patience: Patience
    say: Callable[[str], None]
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random


@dataclass(frozen=True, slots=True)
class Address:
    """Where one thing lies.

    Attributes:
        url: Its URL.
        mirror_variable: Environment variable that names another server for it.
        token_variable: Environment variable with a token for this server; empty where it takes none.
        token: That token; sent to the server of `url` and to no other.
    """

    url: str
    mirror_variable: str
    token_variable: str = ""
    token: str = ""

    @property
    def host(self) -> str:
        """Name of the server."""
        return urlsplit(self.url).hostname or ""

    @property
    def place(self) -> str:
        """The URL without a query, which may hold a signature."""
        return self.url.partition("?")[0]

    def authorization(self, url: str) -> dict[str, str]:
        """Return the header that tells the token, where `url` is on the server that it is for and nobody listens."""
        own, asked = urlsplit(self.url), urlsplit(url)
        is_private = asked.scheme == "https" or asked.hostname in LOOPBACK
        return {"Authorization": f"Bearer {self.token}"} if self.token and _is_same(own, asked) and is_private else {}


def _is_same(one: SplitResult, other: SplitResult) -> bool:
    return (one.scheme, one.hostname, one.port) == (other.scheme, other.hostname, other.port)


def persistently(attempt: Callable[[], Result], address: Address, web: Web) -> Result:
    """Call `attempt` until it does not raise `TryAgain`, a few times, with growing pauses.

    Raises:
        WebError: The last try failed, or the server asks for a longer wait than patience has.
    """
    patience = web.patience
    for number in range(1, patience.attempts + 1):
        try:
            return attempt()
        except TryAgain as failure:
            pause = min(patience.first_wait * 2 ** (number - 1) * (0.5 + web.chance()), patience.longest_wait)
            if failure.after is not None:
                pause = failure.after
            limit = min(patience.connections, patience.attempts) if failure.is_unreachable else patience.attempts
            if number >= limit or pause > patience.longest_wait:
                raise _given_up(failure, number, address) from failure
            web.say(f"  {address.host}: {failure.reason}; try {number + 1} of {limit} in {pause:.1f} s")
            web.sleep(pause)
    raise AssertionError("at least one attempt")


def _given_up(failure: TryAgain, tries: int, address: Address) -> WebError:
    mirror = f"set {address.mirror_variable} to a mirror"
    if failure.is_unreachable:
        return WebError(
            f"no connection to {address.host} ({failure.reason})",
            "a network that reaches it (HTTPS_PROXY, HTTP_PROXY and NO_PROXY are honoured)",
            f"mend the network or those settings, {mirror}",
        )
    token = f"set {address.token_variable}, " if failure.status == 429 and address.token_variable else ""
    wait = f", which asks to wait {failure.after:.0f} s" if failure.after is not None else ""
    return WebError(
        f"{failure.reason} from {address.place}, {tries} tries{wait}",
        "an answer",
        f"fetch again later (what has arrived is kept), {token}{mirror}",
    )


@contextmanager
def opened(address: Address, web: Web, headers: dict[str, str] | None = None) -> Iterator[requests.Response]:
    """Yield the answer, 200 or 206, to one request; redirects are followed, the body is not read yet.

    Raises:
        TryAgain: A failure that may pass, such as no connection, 429 or 5xx.
        WebError: A failure that will not.
    """
    url = address.url
    for _ in range(MAX_REDIRECTS + 1):
        with _ask(url, address, web, headers or {}) as response:
            if not response.is_redirect:
                _require_success(response, address)
                yield response
                return
            url = _redirected(url, response.headers["Location"], address)
    raise WebError(
        f"more than {MAX_REDIRECTS} redirects from {address.place}",
        "an answer",
        f"check {address.mirror_variable} and the proxy",
    )


def _ask(url: str, address: Address, web: Web, headers: dict[str, str]) -> requests.Response:
    # Bytes as they lie upstream: a .gz file stays one, and lengths and ranges mean what they say.
    sent = {"Accept-Encoding": "identity", **headers, **address.authorization(url)}
    patience = web.patience
    try:
        return web.session.get(
            url,
            headers=sent,
            stream=True,
            allow_redirects=False,
            timeout=(patience.connect, patience.stall),
            # Keeps requests from looking up credentials in .netrc.
            auth=lambda request: request,
        )
    except requests.exceptions.SSLError as error:
        raise WebError(
            f"no secure connection to {urlsplit(url).hostname} ({_why(error)})",
            "https with a certificate that is trusted here",
            "set REQUESTS_CA_BUNDLE to your network's certificates",
        ) from error
    except requests.exceptions.ProxyError as error:
        raise TryAgain(f"the proxy does not answer: {_why(error)}", is_unreachable=True) from error
    except requests.exceptions.ReadTimeout as error:
        raise TryAgain(f"no answer for {patience.stall:g} s") from error
    except requests.exceptions.ConnectTimeout as error:
        raise TryAgain(f"no connection within {patience.connect:g} s", is_unreachable=True) from error
    except requests.exceptions.ConnectionError as error:
        raise TryAgain(_why(error), is_unreachable=True) from error
    except (requests.exceptions.RequestException, ValueError) as error:
        found = f"the address {url.partition('?')[0]!r}, which cannot be asked ({type(error).__name__})"
        raise WebError(found, "an http or https address", f"check {address.mirror_variable} and the proxies") from error


def _why(error: BaseException) -> str:
    """Return the innermost system error of a chain; messages of the layers above hold addresses with secrets."""
    why = "the connection broke off"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            why = cause.strerror
        cause = cause.__cause__ or cause.__context__
    return why


def _redirected(url: str, location: str, address: Address) -> str:
    target = urljoin(url, location)
    scheme = urlsplit(target).scheme
    if scheme != "https" and (scheme != "http" or urlsplit(url).scheme == "https"):
        found = f"a redirect of {address.place} to {target.partition('?')[0]}"
        raise WebError(found, "https all the way", f"check {address.mirror_variable} and the proxy")
    return target


def _require_success(response: requests.Response, address: Address) -> None:
    status = response.status_code
    if status in (200, 206):
        return
    asked = f"HTTP {status} from {address.place}"
    is_used_up = status in (403, 429) and response.headers.get("X-RateLimit-Remaining") == "0"
    if is_used_up and address.token_variable and not address.token:
        found = f"{asked}: no requests are left for this hour"
        raise WebError(
            found, "requests that are left", f"set {address.token_variable} to a token, or fetch again later"
        )
    if status in PASSING or status == 416:
        raise TryAgain(f"HTTP {status}", retry_after(response), status=status)
    mirror = f"set {address.mirror_variable} to a mirror"
    if status in (401, 403):
        token = "check the token in" if address.token else "set to a token that may read it:"
        fix = f"{token} {address.token_variable}, or {mirror}" if address.token_variable else mirror
        raise WebError(asked, "leave to read it", fix)
    if status in (404, 410, 451):
        fix = f"look for it upstream (--update takes another commit where none is pinned), or {mirror}"
        raise WebError(asked, "a file that is there", fix)
    raise WebError(asked, "an answer", f"check {address.mirror_variable} and the proxy")


def retry_after(response: requests.Response) -> float | None:
    """Return the seconds of a Retry-After header, given as a number or as a date."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def body(response: requests.Response, web: Web) -> Iterator[bytes]:
    """Yield the bytes of an answer as they arrive.

    Raises:
        TryAgain: The body ends early, or stalls.
    """
    try:
        while piece := response.raw.read1(CHUNK, decode_content=False):
            yield piece
    except ReadTimeoutError as error:
        raise TryAgain(f"no bytes for {web.patience.stall:g} s") from error
    except HTTPError as error:
        raise TryAgain("the connection broke off") from error
