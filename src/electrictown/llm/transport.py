"""HTTP, behind a seam of our own: one connection pool an event loop, four timeouts, our errors.

This module imports aiohttp, and nothing imports this module before the first request. It repeats no
question: that is the router's. (aiohttp itself repeats a GET once, on a kept connection that was dead.)
"""

from __future__ import annotations

import asyncio
import io
import math
import os
from collections.abc import AsyncGenerator, Awaitable, Mapping
from urllib.request import getproxies, proxy_bypass
from weakref import WeakKeyDictionary

import aiohttp
from msgspec import Struct
from multidict import CIMultiDict
from yarl import URL

from electrictown.errors import (
    BadReplyError,
    BadRequestError,
    ConnectError,
    FirstTokenTimeout,
    ProviderError,
)
from electrictown.llm.answer import Answer
from electrictown.llm.provider import Timeouts
from electrictown.llm.watch import Watch

__all__ = ["Destination", "Transport", "acquire", "destination"]


_NEVER = math.inf
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_UNSENT = (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError, aiohttp.InvalidURL)
_LARGE = 1 << 20  # aiohttp sends larger bodies piece by piece only when they come as a file


class Destination(Struct, frozen=True):
    """Where a kind of request goes and what goes with it; made once, used for many requests."""

    method: str
    url: URL
    headers: CIMultiDict[str]
    timeouts: Timeouts
    client_timeout: aiohttp.ClientTimeout
    proxy: URL | None

    @property
    def host(self) -> str:
        """Host and port, for messages: never path, query or credentials."""
        return f"{self.url.host}:{self.url.port}"

    def __repr__(self) -> str:
        return f"Destination({self.method} {self.host})"  # the headers hold the key


def destination(method: str, url: str, headers: Mapping[str, str], timeouts: Timeouts) -> Destination:
    """Prepares requests to `url`; a proxy comes from the environment, never for loopback.

    Raises:
        BadRequestError: when `url` is none.
    """
    try:
        parsed = URL(url, encoded=True)
        host = parsed.host  # a name that is none shows itself here
    except ValueError:
        parsed = host = None
    if parsed is None or not host:
        error = BadRequestError("the base URL is no address", "correct base_url")
        error.sent = False
        raise error
    return Destination(
        method,
        parsed,
        CIMultiDict(headers),
        timeouts,
        aiohttp.ClientTimeout(total=None, connect=timeouts.connect, sock_connect=timeouts.connect),
        _proxy(parsed),
    )


def _proxy(url: URL) -> URL | None:
    """The proxy that the environment names for `url`: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY."""
    proxies = getproxies()
    host = url.host or ""
    if not proxies or host in _LOOPBACK or host.startswith("127.") or proxy_bypass(host):
        return None
    found = proxies.get(url.scheme) or proxies.get("all")
    return URL(found if "://" in found else f"http://{found}") if found else None


class Transport:
    """The connection pool of one event loop, shared by its users and closed with the last of them.

    An owner that forgets `release` is made good when the loop shuts down its generators, as
    `asyncio.run` does. Get one with `acquire`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.lingering: set[Answer] = set()
        self._users = 0
        self._session = aiohttp.ClientSession(
            # Admission bounds how much is in flight; the pool need not.
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300, keepalive_timeout=30),
            cookie_jar=aiohttp.DummyCookieJar(),
            max_line_size=65536,
            max_field_size=65536,
        )
        self._keeper = self._keep()

    async def _keep(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            _transports.pop(self.loop, None)
            for answer in list(self.lingering):
                answer.close()
            await self._session.close()

    async def open(self) -> None:
        """Counts one more user."""
        if not self._users:
            await anext(self._keeper)
        self._users += 1

    async def release(self) -> None:
        """Counts one user less; the last one closes every connection."""
        self._users -= 1
        if not self._users:
            await self._keeper.aclose()

    async def send(self, to: Destination, body: bytes) -> Answer:
        """Sends a request and waits for the status and headers of its answer.

        Raises:
            ConnectError: refused, no such name, TLS failure, or lost before an answer came.
            FirstTokenTimeout: no answer in time.
            BadReplyError: what came is not HTTP.
        """
        start = self.loop.time()
        times = to.timeouts
        deadline = _NEVER if times.total is None else start + times.total
        first = _NEVER if times.first_token is None else start + times.first_token
        failure: ProviderError
        try:
            with Watch(self.loop, min(first, deadline), TimeoutError):
                try:
                    response = await self._request(to, body)
                except aiohttp.ClientOSError as error:
                    if isinstance(error, aiohttp.ClientConnectorError):
                        raise
                    # A kept connection that the server had closed: what could not be written was not
                    # read either, so this is no retry but the same request on a connection that stands.
                    response = await self._request(to, body)
        except TimeoutError as error:
            if isinstance(error, aiohttp.ClientError):
                failure = ConnectError(f"no connection to {to.host} within {times.connect:g} s")
                failure.sent = False
            elif deadline <= first:
                failure = FirstTokenTimeout(f"{to.host} had not answered when {times.total:g} s were over")
            else:
                failure = FirstTokenTimeout(f"{to.host} gave no answer within {times.first_token:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            failure = _unanswered(error, to)
            failure.sent = not isinstance(error, _UNSENT)
        else:
            return Answer(response, to, self, first, deadline)
        # Raised here, not in the handlers: aiohttp's errors know the headers that were sent.
        raise failure

    def _request(self, to: Destination, body: bytes) -> Awaitable[aiohttp.ClientResponse]:
        return self._session.request(
            to.method,
            to.url,
            data=io.BytesIO(body) if len(body) > _LARGE else body or None,
            headers=to.headers,
            timeout=to.client_timeout,
            proxy=to.proxy,
            allow_redirects=False,  # it would carry the key along
        )


_transports: WeakKeyDictionary[asyncio.AbstractEventLoop, Transport] = WeakKeyDictionary()


async def acquire() -> Transport:
    """The running loop's transport, with one more user; give it back with `release`."""
    loop = asyncio.get_running_loop()
    transport = _transports.get(loop)
    if transport is None:
        transport = _transports[loop] = Transport(loop)
    await transport.open()
    return transport


def _unanswered(error: Exception, to: Destination) -> ProviderError:
    """Why a request got no answer."""
    host = to.host
    kind, hint = ConnectError, ""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            what = f"the certificate of {host} is not trusted: {error.certificate_error}"
        case aiohttp.ClientConnectorError():
            return _unconnected(error, to)
        case aiohttp.ClientHttpProxyError():
            what = f"the proxy for {host} refused the connection: status {error.status}"
        case aiohttp.ServerDisconnectedError():
            what = f"{host} closed the connection without an answer"
        case aiohttp.ClientResponseError():
            kind, hint = BadReplyError, "check the port in base_url"
            what = f"what {host} answered is not HTTP"
        case OSError():
            what = f"the connection to {host} was lost before it answered ({error.strerror or error.errno})"
        case aiohttp.ClientConnectionError():
            what = f"the connection to {host} was lost before it answered"
        case _:
            kind = BadRequestError
            what = f"the request to {host} cannot be sent: {type(error).__name__}"
    return kind(what, hint)


def _unconnected(error: aiohttp.ClientConnectorError, to: Destination) -> ConnectError:
    """Why no connection could be made."""
    host = to.host
    cause = error.os_error
    # asyncio words a refusal as "Connect call failed" and the address; errno says it better.
    named = bool(cause.errno and cause.errno > 0) and not isinstance(error, aiohttp.ClientSSLError)
    reason = os.strerror(cause.errno or 0) if named else cause.strerror or str(cause)
    match error:
        case aiohttp.ClientConnectorDNSError():
            return ConnectError(f"there is no host named {to.url.host}", "check base_url and the network")
        case aiohttp.ClientConnectorSSLError():
            hint = "if it speaks plain HTTP, base_url must begin with http://"
            return ConnectError(f"no TLS with {host}: {reason}", hint)
        case aiohttp.ClientProxyConnectionError():
            return ConnectError(f"the proxy for {host} cannot be reached: {reason}")
        case _:
            return ConnectError(f"cannot connect to {host}: {reason}", "is the server running?")
