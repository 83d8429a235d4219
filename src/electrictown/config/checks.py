"""What one field alone cannot know: references, fallbacks, keys, and keys that a type does not have.

Works on the plain data, so that it finds everything even where a field has the wrong type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from electrictown.config.agent_checks import AgentChecks, engages
from electrictown.config.checking import Checking, dotted, export
from electrictown.config.compat import COMPATIBLE, RENAMED
from electrictown.config.origin import Source
from electrictown.config.parts import keys_of
from electrictown.config.reading import suggest
from electrictown.config.schema import ProviderConfig
from electrictown.config.variables import Resolved
from electrictown.config.yaml_tree import Data, Key, Problem, as_json, is_list, is_table

__all__ = ["BUILT_IN", "check"]

BUILT_IN: Mapping[str, tuple[str, ...]] = {
    "openai": (),
    "anthropic": (),
    "gemini": (),
    "ollama": (),
    "lmstudio": (),
    "local": ("slots", "threads"),
    "scripted": ("script", "models"),
}
"""The types that ship with the program, and the keys that only they understand."""

_VENDOR = {
    "openai": ("api.openai.com", "OPENAI_API_KEY"),
    "anthropic": ("api.anthropic.com", "ANTHROPIC_API_KEY"),
    "gemini": ("generativelanguage.googleapis.com", "GEMINI_API_KEY"),
}
"""Types whose own host answers nobody without a key, and the variable that usually holds it."""

_ONLY_FOR = {
    "auth_type": ("ollama",),
    "org": ("openai", "lmstudio"),
    "api": ("openai", "lmstudio"),
    "num_ctx": ("ollama", "local"),
}
_SPENDERS = ("mayor", "polecat", "witness", "refinery")
_RESERVED = ("mayor", "polecat", "witness", "refinery", "reviewer", "tester")


def check(
    data: dict[str, Any], found: Resolved, source: Source, problems: list[Problem], *, require_keys: bool
) -> None:
    """Append every problem of `data` to `problems`; complete `data` with what it leaves to the defaults."""
    checks = _Checks(data, found, source, problems)
    checks.providers()
    checks.models()
    checks.roles()
    AgentChecks(data, found, source, problems).all(require=require_keys)
    checks.cluster(require=require_keys)
    checks.budget()
    checks.keys(require=require_keys)


class _Checks(Checking):
    def __init__(
        self, data: dict[str, Any], found: Resolved, source: Source, problems: list[Problem]
    ) -> None:
        super().__init__(data, found, source, problems)
        self._used: set[str] = set()

    def providers(self) -> None:
        """Types, addresses, authentication, and the keys that an entry may have."""
        entries = self.data.get("providers")
        if not entries or not is_table(entries):
            if (entries is None or entries == {}) and not engages(self.data):
                remedy = (
                    "add one under `providers:`, or let `et init` write a file for what is on this machine"
                )
                self.add((), "no providers are defined", remedy)
            return
        for name, entry in self.tables("providers"):
            at = ("providers", name)
            if not name.strip() or "/" in name:
                self.add(at, f"the provider name {name!r} cannot be used", "use letters, digits and dashes")
            kind = entry.get("type")
            if kind == "":
                self.add(
                    (*at, "type"), f"provider {name!r} has an empty type", f"one of: {', '.join(BUILT_IN)}"
                )
            elif isinstance(kind, str):
                self._type(at, kind, entry)
            self._address(at, entry)
            self._authentication(at, entry)

    def _type(self, at: Key, kind: str, entry: dict[str, Any]) -> None:
        fields = keys_of(ProviderConfig)
        if kind not in BUILT_IN:
            from electrictown.llm.provider import provider_types

            types = [*provider_types(), *COMPATIBLE]
            if kind not in types:
                remedy = f"{suggest(kind, types)} (a server that speaks OpenAI's protocol is `type: openai`)"
                self.add((*at, "type"), f"provider {at[1]!r} has the unknown type {kind!r}", remedy)
                return
        for key in list(entry):
            if key in fields:
                allowed = _ONLY_FOR.get(key)
                as_is = entry[key] == "bearer" and kind in ("openai", "lmstudio")
                if allowed and kind in BUILT_IN and kind not in allowed and not as_is:
                    self.source.notes.append(f"{dotted((*at, key))} has no effect: it is for {allowed[0]}")
            elif kind in BUILT_IN and key not in BUILT_IN[kind]:
                known = [*fields, *BUILT_IN[kind]]
                self.add((*at, key), f"unknown key {key!r} in {dotted(at)}", suggest(key, known))
            else:
                entry[key] = as_json(entry[key])

    def _address(self, at: Key, entry: dict[str, Any]) -> None:
        url = entry.get("base_url")
        if not url or not isinstance(url, str):
            return
        try:
            parts = urlsplit(url)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            good = False
        if not good:
            what = f"base_url of provider {at[1]!r} is no address"
            self.add((*at, "base_url"), what, "write it as http://host:port or https://host/path")

    def _authentication(self, at: Key, entry: dict[str, Any]) -> None:
        auth, key, name = entry.get("auth_type"), entry.get("api_key"), at[1]
        if auth not in ("bearer", "basic") or (*at, "api_key") in self.found.unset:
            return
        if not key:
            what = f"provider {name!r} has auth_type {auth} but no api_key"
            self.add((*at, "auth_type"), what, "add api_key: $YOUR_VARIABLE, or set auth_type: none")
        elif auth == "basic" and isinstance(key, str) and ":" not in key:
            what = f"provider {name!r} has auth_type basic but its api_key holds no ':'"
            self.add((*at, "api_key"), what, "basic wants user:password")

    def models(self) -> None:
        """Every alias leads to a provider."""
        providers = dict(self.tables("providers"))
        for alias, entry in self.tables("models"):
            at = ("models", alias)
            provider, model = entry.get("provider"), entry.get("model")
            for field, value in (("provider", provider), ("model", model)):
                if isinstance(value, str) and not value.strip():
                    self.add((*at, field), f"model {alias!r} has an empty {field}", f"name the {field}")
            if isinstance(provider, str) and provider.strip() and provider not in self.names("providers"):
                what = f"model {alias!r} references the unknown provider {provider!r}"
                self.add((*at, "provider"), what, suggest(provider, self.names("providers")))
            kind = str(providers.get(str(provider), {}).get("type"))
            if "num_ctx" in entry and kind in BUILT_IN and kind not in _ONLY_FOR["num_ctx"]:
                self.source.notes.append(f"{dotted((*at, 'num_ctx'))} has no effect: it is for ollama")

    def roles(self) -> None:
        """Roles, specialists and defaults: every reference leads to a model, no fallback is pointless."""
        defaults = self.data.get("defaults")
        defaults = defaults if is_table(defaults) else {}
        for section in ("roles", "specialists"):
            for name, entry in list(self.tables(section)):
                at = (section, name)
                if section == "specialists" and name in _RESERVED:
                    self.add(at, f"specialist {name!r} has the name of a role", "give it another name")
                if not self._complete(at, entry, defaults):
                    continue
                self._route(at, entry, strict=section == "roles")
        if defaults:
            self._route(("defaults",), defaults, strict=False)
            if defaults.get("fallbacks") and not defaults.get("model"):
                self.source.notes.append("defaults.fallbacks has no effect without defaults.model")

    def _complete(self, at: Key, entry: dict[str, Any], defaults: dict[str, Any]) -> bool:
        """Give an entry without a model its pool's first, or that of the defaults; False where none is.

        An agent needs no model, and none but those of its own entry take over where it fails.
        """
        if entry.get("model") == "":
            self.add((*at, "model"), f"{dotted(at)} has an empty model", "name a model alias")
            return False
        if entry.get("model"):
            return True
        pool = entry.get("pool")
        if is_list(pool) and pool:
            entry["model"] = pool[0]
            self.source.filled[(*at, "model")] = f"{dotted(at)}.pool"
        elif entry.get("agent"):
            if is_list(last := entry.get("fallbacks")) and last:
                entry["model"], *entry["fallbacks"] = last
                self.source.filled[(*at, "model")] = f"{dotted(at)}.fallbacks"
        elif defaults.get("model"):
            entry["model"] = defaults["model"]
            self.source.filled[(*at, "model")] = "defaults.model"
            if is_list(defaults.get("fallbacks")) and "fallbacks" not in entry:
                entry["fallbacks"] = [*defaults["fallbacks"]]
                self.source.filled[(*at, "fallbacks")] = "defaults.fallbacks"
        else:
            self.add(at, f"{dotted(at)} has no model", "add model: ALIAS, or set defaults.model")
            return False
        return True

    def _route(self, at: Key, entry: dict[str, Any], *, strict: bool) -> None:
        primary = self._reference((*at, "model"), entry.get("model"), "model")
        pool = entry.get("pool")
        for i, name in enumerate(pool if is_list(pool) else ()):
            self._reference((*at, "pool", i), name, "pool member")
        given = entry.get("fallbacks")
        if not is_list(given):
            return
        seen: dict[tuple[str, str], str] = {primary: str(entry["model"])} if primary else {}
        kept: list[Any] = []
        for i, name in enumerate(given):
            here = (*at, "fallbacks", i)
            target = self._reference(here, name, "fallback")
            if target is None or target not in seen:
                kept.append(name)
            elif strict:
                what = f"fallback {name!r} of {dotted(at)} is the same provider and model as {seen[target]!r}"
                self.add(here, what, "remove it, or name a model elsewhere")
            else:
                # The Go original checks roles only, and files written for it go on working.
                self.source.notes.append(f"{dotted(here)} has no effect: it is the same as {seen[target]!r}")
            if target:
                seen.setdefault(target, str(name))
        entry["fallbacks"] = kept

    def _reference(self, at: Key, name: Data, what: str) -> tuple[str, str] | None:
        """The provider and model that `name` means; a problem where it means nothing."""
        if not isinstance(name, str) or (at[-1] == "model" and not name):
            return None
        aliases, providers = self.data.get("models"), self.names("providers")
        if is_table(aliases) and name in aliases:
            entry: Any = aliases[name]
            provider, model = (entry.get("provider"), entry.get("model")) if is_table(entry) else ("", "")
            self._used.add(str(provider))
            return (str(provider), str(model))
        provider, slash, model = name.partition("/")
        if slash and model and provider in providers:
            self._used.add(provider)
            return (provider, model)
        where = at[:-1] if at[-1] == "model" else at[:-2]
        if not name.strip():
            self.add(at, f"{dotted(where)} has an empty {what}", "name a model alias, or remove it")
        else:
            known = [*self.names("models"), *(f"{p}/{model or 'MODEL'}" for p in providers)]
            text = f"the {what} {name!r} of {dotted(where)} is no model alias and no provider/model"
            self.add(at, text, suggest(name, known))
        return None

    def cluster(self, *, require: bool) -> None:
        """The database is one, and its variable is set."""
        at = ("cluster", "db")
        section = self.data.get("cluster")
        url = section.get("db") if is_table(section) else None
        if (variable := self.found.unset.get(at)) is not None:
            what = f"cluster.db wants ${variable}, which is not set or empty"
            if require:
                self.add(at, what, export(variable))
            else:
                self.source.notes.append(what)
        elif isinstance(url, str) and not url.startswith(("postgresql://", "postgres://")):
            self.add(at, "cluster.db is no address of a PostgreSQL", "write postgresql://user@host/database")

    def budget(self) -> None:
        """A cap is for a role that spends."""
        budget = self.data.get("budget")
        caps = budget.get("per_role") if is_table(budget) else None
        roles = list(dict.fromkeys((*_SPENDERS, *self.names("roles"))))
        for name in caps if is_table(caps) else ():
            if name in roles:
                continue
            what = f"budget.per_role has a cap for {name!r}, which is no role"
            if name in RENAMED:
                remedy = f"it is called {RENAMED[name]!r}"
            elif name in self.names("specialists"):
                remedy = "specialists spend as 'polecat'"
            else:
                remedy = suggest(name, roles)
            self.add(("budget", "per_role", name), what, remedy)

    def keys(self, *, require: bool) -> None:
        """A provider that a role needs must have its key; one that nobody needs is noted."""
        for name, entry in self.tables("providers"):
            at = ("providers", name)
            unset = {path: var for path, var in self.found.unset.items() if path[:2] == at}
            lacks = [
                (path, f"provider {name!r} wants ${var}, which is not set or empty", export(var))
                for path, var in unset.items()
            ]
            vendor = self._vendor(entry)
            if vendor and not entry.get("api_key") and (*at, "api_key") not in unset:
                lacks.append(
                    (
                        at,
                        f"provider {name!r} has no api_key, and {vendor[0]} wants one",
                        f"add api_key: ${vendor[1]} and set that variable",
                    )
                )
            if not lacks:
                continue
            self.source.missing[name] = tuple(f"${var}" for var in unset.values()) or ("",)
            for path, what, remedy in lacks:
                if require and name in self._used:
                    self.add(path, what, remedy)
                else:
                    unused = "" if name in self._used else "; no role uses it"
                    self.source.notes.append(f"{what}{unused}")

    def _vendor(self, entry: dict[str, Any]) -> tuple[str, str] | None:
        vendor = _VENDOR.get(str(entry.get("type")))
        url = entry.get("base_url")
        return vendor if vendor and (not url or vendor[0] in str(url)) else None
