"""`$VAR` and `${VAR}` in the entries of providers and agents, resolved from the environment."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

from electrictown.config.yaml_tree import Data, Key, is_table
from electrictown.redact import Secret

__all__ = ["Resolved", "literal", "resolve", "sensitive"]

# A value that is one name, in any case, as the Go original has it.
_WHOLE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")
# Inside a longer value a bare name counts in capitals only: passwords hold dollars too. $$ is a dollar.
_INSIDE = re.compile(r"(\$?)\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Z_][A-Z0-9_]*)(?![A-Za-z0-9_]))")
_SENSITIVE = re.compile(r"key|token|secret|passw|auth|credential|cookie", re.IGNORECASE)


class Resolved:
    """What resolving found: which variable fed which value, and which are not set."""

    def __init__(self) -> None:
        self.variables: dict[Key, str] = {}
        self.unset: dict[Key, str] = {}


def sensitive(name: str) -> bool:
    """Whether a header or key of this name is likely to hold a credential."""
    return _SENSITIVE.search(name) is not None and not name.endswith(("_tokens", "auth_type"))


def literal(text: str) -> str | None:
    """What `text` stands for where it wants no variable; None where it does."""
    found = Resolved()
    value = _text(text, {}, (), found)
    return None if found.variables else value


def resolve(data: Data, environ: Mapping[str, str], path: Key, found: Resolved) -> Data:
    """`data` with its variables replaced; a value that wants one that is not set, or empty, becomes "".

    What came from a variable, or stands under a name like a credential's, is remembered as a secret.
    """
    if is_table(data):
        return {name: resolve(value, environ, (*path, name), found) for name, value in data.items()}
    # Lists stay as they are: the replies of an inline script hold dollars of their own.
    if not isinstance(data, str):
        return data
    text = _text(data, environ, path, found)
    if path not in found.unset and any(sensitive(str(step)) for step in path[2:]):
        # A header's scheme is no secret: "Bearer abc" hides abc.
        Secret(text.rpartition(" ")[2])
    for credential in _in_address(text):
        Secret(credential)
    return text


def _in_address(text: str) -> Iterator[str]:
    """What an address carries that opens a door: its password, and values named like a credential."""
    if "://" not in text:
        return
    try:
        address = urlsplit(text)
    except ValueError:  # no address: said by whoever checks it
        return
    password = address.password or address.username or ""
    yield from (password, unquote(password))
    for name, value in parse_qsl(address.query):
        if sensitive(name):
            yield value


def _text(text: str, environ: Mapping[str, str], path: Key, found: Resolved) -> str:
    if "$" not in text:
        return text
    whole = _WHOLE.fullmatch(text)
    wanted = [whole[1]] if whole else [m[2] or m[3] for m in _INSIDE.finditer(text) if not m[1]]
    absent = [name for name in wanted if not environ.get(name, "").strip()]
    if wanted:
        found.variables[path] = ", ".join(f"${name}" for name in wanted)
    for name in wanted:
        if sensitive(name) or "headers" in path or any(sensitive(str(step)) for step in path[2:]):
            Secret(environ.get(name, ""))
    if absent:
        found.unset[path] = absent[0]
        return ""
    if whole:
        return environ[whole[1]]
    return _INSIDE.sub(lambda m: m[0][1:] if m[1] else environ[m[2] or m[3]], text)
