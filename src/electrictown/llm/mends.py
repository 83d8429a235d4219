"""Parameters that a model refuses: left out once named, remembered, and said aloud.

A vendor that answers 400 and names a parameter it does not take has told how to mend the request.
The field goes (or goes by its other name), the request is sent again, and the model never sees the
field again. The question itself (messages, model, tools) is never touched, and where a budget relies on
the limit of the reply's length, that is never left out either: the request is refused instead.
"""

from __future__ import annotations

import msgspec

from electrictown.errors import BadRequestError

__all__ = ["Mends"]

_QUESTION = frozenset(
    {"messages", "model", "tools", "stream", "input", "contents", "system", "systeminstruction"}
    | {"instructions", "prompt"}
)
_TWINS = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
# Vendors name the feature where they mean the field.
_MEANT = {
    "thinking": ("think", "thinkingconfig"),
    "think": ("thinking",),
    "effort": ("reasoningeffort", "outputconfig"),
    "reasoningeffort": ("reasoning",),
    "responseformat": ("format",),
    "maxoutputtokens": ("maxtokens", "maxcompletiontokens"),
}

_LIMITS = frozenset({"maxtokens", "maxcompletiontokens", "maxoutputtokens", "numpredict"})

_Body = dict[str, msgspec.Raw]
_Path = tuple[str, ...]


class Mends:
    """What the models of one provider have refused so far."""

    def __init__(self) -> None:
        self._known: dict[str, dict[_Path, str]] = {}  # model -> field -> its other name, "" to leave out

    def apply(self, model: str, body: bytes, *, capped: bool = False) -> bytes:
        """`body` as `model` takes it.

        Raises:
            BadRequestError: when it must be `capped` and the model takes no limit of the reply.
        """
        known = self._known.get(model)
        if not known:
            return body
        fields = msgspec.json.decode(body, type=_Body)
        for path, twin in known.items():
            if capped and _ends_nowhere(path, twin):
                error = BadRequestError(f"{model} does not take {_name(path)}", _uncapped(model))
                error.sent = False
                raise error
            _remove(fields, path, twin)
        return msgspec.json.encode(fields)

    def learn(
        self, model: str, refused: str, body: bytes, *, capped: bool = False
    ) -> tuple[bytes, str] | None:
        """The mended `body` and a sentence that says so; None when leaving `refused` out is no cure.

        It is none where the reply must be `capped`; what was learnt of a model's limits then is forgotten,
        since it may be their size that was refused.
        """
        fields = msgspec.json.decode(body, type=_Body)
        path = _find(fields, refused)
        if path is None:
            return None
        known = self._known.setdefault(model, {})
        name = _name(path)
        other = _TWINS.get(name, "")
        neither = (other,) in known
        twin = "" if neither or other in fields else other
        if capped and _ends_nowhere(path, twin):
            if neither:
                del known[(other,)]
            return None
        if neither:
            known[(other,)] = ""
        known[path] = twin
        _remove(fields, path, twin)
        said = f"sent as {twin}" if twin else "left out"
        return msgspec.json.encode(fields), f"{model} does not take the parameter {name}: {said}"

    @staticmethod
    def unlimited(model: str, error: BadRequestError) -> BadRequestError:
        """`error`, a refusal of the reply's limit that a budget relies on, with what to do about it."""
        if _plain(error.param.split(".")[-1]) in _LIMITS:
            error.hint = _uncapped(model)
        return error


def _ends_nowhere(path: _Path, twin: str) -> bool:
    """Whether a mend leaves the reply without a limit."""
    return not twin and _plain(path[-1]) in _LIMITS


def _uncapped(model: str) -> str:
    return (
        f"under a budget the length of a reply must be limited: set max_tokens of {model} to what it takes, "
        "or run it without a budget"
    )


def _name(path: _Path) -> str:
    return ".".join(path)


def _find(fields: _Body, refused: str) -> _Path | None:
    """Where the refused parameter stands in the body."""
    steps = refused.split(".")
    if "[" in refused or _plain(steps[0]) in _QUESTION or not steps[-1]:
        return None
    places: dict[str, _Path] = {}
    for key, raw in fields.items():
        if _plain(key) in _QUESTION:
            continue
        places[_plain(key)] = (key,)
        if bytes(raw)[:1] == b"{":
            for inner in msgspec.json.decode(raw, type=_Body):
                places.setdefault(_plain(inner), (key, inner))
                places[f"{_plain(key)}.{_plain(inner)}"] = (key, inner)
    asked = [_plain(step) for step in steps]
    last = asked[-1]
    names = [".".join(asked[-2:]), last, *_MEANT.get(last, ()), asked[0]]
    return next((places[name] for name in names if name in places), None)


def _plain(name: str) -> str:
    """A field's name without the accidents of spelling."""
    return name.replace("_", "").lower()


def _remove(fields: _Body, path: _Path, twin: str) -> None:
    if len(path) == 1:
        value = fields.pop(path[0], None)
        if twin and value is not None:
            fields.setdefault(twin, value)
        return
    outer = fields.get(path[0])
    if outer is not None and bytes(outer)[:1] == b"{":
        inner = msgspec.json.decode(outer, type=_Body)
        inner.pop(path[1], None)
        fields[path[0]] = msgspec.Raw(msgspec.json.encode(inner))
