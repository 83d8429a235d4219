"""What `import electrictown` offers, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import electrictown
from electrictown.errors import ConfigError

HEAVY = ["aiohttp", "pydantic", "yaml", "rich", "click", "genai_prices", "xllamacpp", "huggingface_hub"]


def loaded_by(code: str) -> set[str]:
    """The top packages that a fresh Python has loaded after `code`."""
    ask = f"{code}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", ask], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert not loaded_by("import electrictown").intersection([*HEAVY, "msgspec", "asyncio"])


@pytest.mark.parametrize(
    "name", ["Mayor", "Polecat", "Witness", "Refinery", "Router", "CostTracker", "ChatRequest", "Plan"]
)
def test_a_public_name_loads_no_http_no_yaml_and_no_screen(name: str) -> None:
    assert not loaded_by(f"from electrictown import {name}").intersection(HEAVY)


@pytest.mark.parametrize("name", electrictown.__all__)
def test_a_public_name_resolves_and_says_what_it_is(name: str) -> None:
    value = getattr(electrictown, name)
    assert value.__doc__
    assert value.__name__ == name
    assert value is getattr(sys.modules[value.__module__], name)


def test_the_public_names_are_sorted_listed_and_each_has_one_home() -> None:
    assert list(electrictown.__all__) == sorted(set(electrictown.__all__))
    assert set(electrictown.__all__) <= set(dir(electrictown))
    star: dict[str, object] = {}
    exec("from electrictown import *", star)
    assert set(electrictown.__all__) == set(star) - {"__builtins__"}


def test_a_wrong_configuration_shows_every_problem_in_the_traceback() -> None:
    with pytest.raises(ConfigError) as caught:
        electrictown.parse_config(
            "providers:\n  a: {type: ollama}\nroles:\n  mayor: {modle: a/x}\nmodls: {}\n"
        )
    told = str(caught.value)
    assert len(caught.value.problems) > 1
    assert all(problem in told for problem in caught.value.problems)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Sheriff'"):
        _ = electrictown.Sheriff  # type: ignore[attr-defined]  # the point of the test
