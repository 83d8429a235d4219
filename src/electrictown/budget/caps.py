"""The most that a run may spend: the caps, how they are written in one line, and whether they can be kept."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from electrictown.errors import ConfigError, UsageError
from electrictown.llm.prices import Prices
from electrictown.llm.routes import Target

__all__ = ["DEAREST", "LARGEST", "UNASKED", "Cap", "Caps", "caps_of", "check_prices", "unpriced"]


class Cap(Struct, frozen=True):
    """The most that may be spent: US dollars and tokens, in and out together; None: no cap."""

    usd: float | None = None
    tokens: int | None = None

    def __bool__(self) -> bool:
        return self.usd is not None or self.tokens is not None


class Caps(Struct, frozen=True):
    """The caps of a run: of all of it, of each role by its name, and of every single subtask."""

    usd: float | None = None
    tokens: int | None = None
    per_role: Mapping[str, Cap] = field(default_factory=dict[str, Cap])
    per_subtask: Cap = Cap()

    @property
    def run(self) -> Cap:
        """The cap of the whole run."""
        return Cap(self.usd, self.tokens)

    def __bool__(self) -> bool:
        return bool(self.run or self.per_subtask or any(self.per_role.values()))

    def __str__(self) -> str:
        """As `caps_of` reads it: "500000t,2.5,mayor=1,subtask=0.2"; "none" without any."""
        named = [("", self.run), *self.per_role.items(), (_SUBTASK, self.per_subtask)]
        parts: list[str] = []
        for name, cap in named:
            before = f"{name}=" if name else ""
            # Tokens first: a 1 and 500t the other way round read like 1,500 tokens.
            parts += [f"{before}{cap.tokens}t"] if cap.tokens is not None else []
            parts += [f"{before}{cap.usd:.12g}"] if cap.usd is not None else []
        return ",".join(parts) or _NONE


UNASKED = Caps(usd=1.0)
"""What holds where nobody has said what may be spent and nobody has configured who is asked."""

DEAREST = 1e9
"""The largest cap, in US dollars: the journal counts billionths."""

LARGEST = 10**15
"""The largest cap, in tokens."""

_AS_THEY_ARE: Mapping[str, str] = {}
_SHOWN = 40
"""Characters of a wrong figure that are shown."""

_NONE = "none"
_SUBTASK = "subtask"
_PART = re.compile(r"(?:(?P<name>[^=]+)=)?\s*\$?\s*(?P<number>\d+(?:\.\d*)?|\.\d+)\s*(?P<unit>t|tokens?)?")
_THOUSANDS = re.compile(r"(?<![\d.])\d{1,3}(?:,\d{3})+(?![\d.])")
_TWICE = "write cents with a point (2.50), a comma only between caps, and each cap once"
_HINT = "write dollars (2.50), tokens (500000t), a role's (mayor=1) or each subtask's (subtask=0.2), or none"


def caps_of(
    text: str,
    caps: Caps = Caps(),  # noqa: B008  (frozen)
    roles: Collection[str] | None = None,
    spend_as: Mapping[str, str] = _AS_THEY_ARE,
) -> Caps:
    """`caps` with what `text` says instead: "2.50", "500000t", "2.50,mayor=1,subtask=0.2", "none".

    `spend_as` says of names that are none of `roles` as which of them they spend.

    Raises:
        UsageError: when it says nothing of that kind, too much, or the same cap twice, or names a role
            that is not among `roles`.
    """
    if text.strip().lower() == _NONE:
        return Caps()
    if (grouped := _THOUSANDS.search(text)) is not None:
        plain = grouped[0].replace(",", "")
        raise UsageError(
            f"{grouped[0]!r} can be read in two ways", f"write {plain}, or a space after the comma"
        )
    said: dict[tuple[str, str], str] = {}
    for part in map(str.strip, text.split(",")):
        name, change = _read(part)
        (unit,) = change
        if (before := said.get((name, unit))) is not None:
            raise UsageError(f"the same cap is said twice: {before!r} and {part!r}", _TWICE)
        said[name, unit] = part
        if not name:
            caps = replace(caps, **change)
        elif name == _SUBTASK:
            caps = replace(caps, per_subtask=replace(caps.per_subtask, **change))
        elif roles is not None and name not in roles:
            raise _nobody(name, part, roles, spend_as)
        else:
            cap = replace(caps.per_role.get(name, Cap()), **change)
            caps = replace(caps, per_role={**caps.per_role, name: cap})
    return caps


def _read(part: str) -> tuple[str, dict[str, float]]:
    """Whose cap `part` says, and the figure by its unit."""
    found = _PART.fullmatch(part)
    number = float(found["number"]) if found else 0.0
    tokens = found is not None and found["unit"] is not None
    if number > (LARGEST if tokens else DEAREST):
        shown = part if len(part) <= _SHOWN else f"{part[:_SHOWN]}..."
        raise UsageError(
            f"the budget {shown!r} is more than can be counted",
            f"the most is ${DEAREST:,.0f} or {LARGEST:,} tokens; none is no cap",
        )
    if found is None or round(number, 9) <= 0 or (tokens and number != int(number)):
        raise UsageError(f"{part!r} is no budget", _HINT)
    return (found["name"] or "").strip(), {"tokens": int(number)} if tokens else {"usd": number}


def _nobody(name: str, part: str, roles: Collection[str], spend_as: Mapping[str, str]) -> UsageError:
    """The error of a cap for a role that spends nothing."""
    hint = f"roles: {', '.join(roles)}"
    if (other := spend_as.get(name)) is not None:
        hint = f"{name} spends as {other}: write {other}={part.partition('=')[2].strip()}"
    return UsageError(f"there is no role {name!r} to give a budget", hint)


async def check_prices(targets: Mapping[str, Iterable[Target]], caps: Caps, prices: Prices) -> None:
    """See to it that a cap in dollars can be kept: `targets` are all that a run could ask, by role.

    Raises:
        ConfigError: when the price of one is unknown, with each of them by name and what to do about it.
    """
    everybody = caps.usd is not None or caps.per_subtask.usd is not None
    capped = {role for role, cap in caps.per_role.items() if cap.usd is not None}
    asked = {t.label: t for role, them in targets.items() if everybody or role in capped for t in them}
    if any(not prices.ready(target) for target in asked.values()):
        await prices.load()
    unknown = [target for target in asked.values() if prices.highest(target, 1, 1) is None]
    if unknown:
        raise unpriced(*unknown)


def unpriced(*targets: Target) -> ConfigError:
    """The error of models that no budget can hold, since nobody knows what they cost."""
    which = "a model has" if len(targets) == 1 else f"{len(targets)} models have"
    return ConfigError(
        f"there is a budget in US dollars, and {which} no known price: {', '.join(t.label for t in targets)}",
        "a price of 0 is one too; or run it without a budget in dollars: --budget none",
        problems=[_remedy(target) for target in targets],
    )


def _remedy(target: Target) -> str:
    price = "price: {input: ..., output: ...} (US dollars per million tokens)"
    where = f"{target.model} on {target.provider}"
    if target.alias:
        return f"{target.alias} ({where}): add {price} to models.{target.alias}"
    return f"{where}: give it an alias under models: with {price}, and name that"
