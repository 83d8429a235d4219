"""What an agent is started with, and which of our variables it gets to see."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from msgspec import Struct, field

from electrictown.acp.policy import Permissions
from electrictown.redact import Secret

__all__ = ["MARK", "AgentSettings", "environ_of"]

MARK: Final = "ELECTRICTOWN_SESSION"
"""The variable by which the processes of a session are known, as in `sessions.registry`: a program gets ours,
whatever its environment says.
"""

_PASSED: Final = frozenset(
    {
        *("PATH", "HOME", "LANG", "LANGUAGE", "TERM", "USER", "LOGNAME", "SHELL", "TMPDIR", "TZ"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
        *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    }
)
_FAMILIES: Final = ("LC_", "XDG_", "NODE_")
_SECRET: Final = ("KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIALS", "PROXY")


class AgentSettings(Struct, frozen=True, kw_only=True):
    """An agent as it is configured.

    `environ` is all of its program's environment (`environ_of` makes it). `mode` is the session mode it is
    put into ("" for its own), `model` the model it is asked to use. It has `start` seconds to become ready,
    and its turn is given up after `silence` seconds without a word. `install` says how to get the program,
    `login` how to log in, `label` how people call it.
    """

    name: str
    command: tuple[str, ...]
    environ: Mapping[str, str | Secret] = field(default_factory=dict[str, "str | Secret"])
    permissions: Permissions = Permissions()
    model: str = ""
    mode: str = ""
    start: float = 60.0
    silence: float = 600.0
    label: str = ""
    install: str = ""
    login: str = ""

    @property
    def shown(self) -> str:
        """What it is called in messages."""
        return self.label or self.name


def environ_of(
    given: Mapping[str, str],
    variables: Collection[str] = (),
    more: Mapping[str, str | Secret] | None = None,
) -> dict[str, str | Secret]:
    """The environment of an agent's program: of `given` what every program needs and what `variables`
    name, and all of `more`. Values of variables that are named like secrets are secrets.
    """
    passed = {
        name: value
        for name, value in given.items()
        if name in _PASSED or name.startswith(_FAMILIES) or name in variables
    }
    kept: dict[str, str | Secret] = {**passed, **(more or {})}
    return {name: _kept(name, value) for name, value in kept.items()}


def _kept(name: str, value: str | Secret) -> str | Secret:
    secret = isinstance(value, str) and value and any(word in name.upper() for word in _SECRET)
    return Secret(value) if secret and isinstance(value, str) else value
