"""Which host an address means: the same name wherever, and however, the same host is configured."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from urllib.parse import urlsplit

__all__ = ["DEFAULT_URLS", "identity"]

DEFAULT_URLS = {
    "openai": "https://api.openai.com",
    "anthropic": "https://api.anthropic.com",
    "gemini": "https://generativelanguage.googleapis.com",
    "ollama": "http://localhost:11434",
    "lmstudio": "http://localhost:1234",
}
"""Where a type of provider answers that has no `base_url`."""

_PORTS = {"http": 80, "https": 443}
_PROTOCOLS = ("/chat/completions", "/responses", "/models", "/messages", "/chat", "/api", "/v1beta", "/v1")


def identity(kind: str, base_url: str, account: str = "") -> str:
    """The name of the host that a provider of type `kind` asks, "" for one that only this process has.

    One server has one name, whatever protocol it is spoken to in: host, port and what of the path is
    not the protocol's. Loopback is this machine by its name, so that the loopbacks of two machines
    differ. `account` says where the key comes from (never the key): a vendor counts by account, and
    accounts are told apart over https; a box of one's own has none.
    """
    written = base_url.strip() or DEFAULT_URLS.get(kind, "")
    if not written:
        return ""
    if "://" not in written:
        written = f"http://{written}"
    try:
        url = urlsplit(written)
        name, port = (url.hostname or "").rstrip("."), url.port or _PORTS[url.scheme]
    except (ValueError, KeyError):
        return ""  # no address: whoever is to ask there says so
    path = url.path.rstrip("/")
    for ending in _PROTOCOLS:
        path = path.removesuffix(ending).rstrip("/")
    if _is_here(name):
        name = socket.gethostname().lower()
    who = f" {account}" if account and url.scheme == "https" else ""
    return f"{name}:{port}{path}{who}"


def _is_here(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
