"""How text becomes a field's value: what is taken for a number or a boolean, what is kept as it stands."""

import json
import subprocess
import sys
from typing import Any

import pytest

from electrictown.config import Config, ProviderConfig, parse_config
from electrictown.config.reference import json_schema
from electrictown.errors import ConfigError
from electrictown.wiring import Routes


def town(provider: str = "", model: str = "", rest: str = "") -> Config:
    return parse_config(
        f"providers:\n  box: {{type: ollama{provider}}}\n"
        f"models:\n  m: {{provider: box, model: x{model}}}\n{rest}\n",
        "town.yaml",
        {},
    )


def problem(**where: str) -> str:
    with pytest.raises(ConfigError) as caught:
        town(**where)
    (said,) = caught.value.problems
    return said


@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize(
    ("text", "value"),
    [("5", 5), ("+5", 5), ("007", 7), ("1_000", 1000), ("5.0", 5), ("5.000", 5), ("9" * 30, int("9" * 30))],
)
def test_a_whole_number_is_read_quoted_or_not(quote: str, text: str, value: int) -> None:
    assert town(model=f", max_tokens: {quote}{text}{quote}").models["m"].max_tokens == value


@pytest.mark.parametrize(
    "text", ["5.", "5.5", "5e1", "0x10", "1__0", "_1", "1_", "\u0665", "-", "true", "''"]
)
def test_what_is_no_whole_number_is_said(text: str) -> None:
    said = problem(model=f", max_tokens: {text}")
    assert said == "town.yaml:4: models.m.max_tokens is of the wrong kind; it should be a whole number"


def test_a_number_of_more_digits_than_python_reads_is_no_crash() -> None:
    assert problem(model=f", max_tokens: {'9' * 5000}").endswith("it should be a smaller whole number")


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1.0), (".5", 0.5), ("5.", 5.0), ("+2", 2.0), ("1e1", 10.0), ("1_0", 10.0), ("' 7 '", 7.0)],
)
def test_a_number_is_read(text: str, value: float) -> None:
    idle = town(provider=f", timeouts: {{idle: {text}}}").providers["box"].timeouts.idle
    assert (type(idle), idle) == (float, value)


@pytest.mark.parametrize("text", ["inf", "-inf", "nan", "1e999", "\u0665", "5s", "''", "yes"])
def test_what_is_no_finite_number_is_said(text: str) -> None:
    for where in ({"provider": f", timeouts: {{idle: {text}}}"}, {"model": f", temperature: {text}"}):
        assert problem(**where).endswith("it should be a number")


@pytest.mark.parametrize("text", ["true", "True", "TRUE", "yes", "On", "1", "t", "y", "'true'"])
def test_a_yes_is_read_in_every_way_of_yaml(text: str) -> None:
    assert town(provider=f", allow_incomplete: {text}").providers["box"].allow_incomplete is True


@pytest.mark.parametrize("text", ["false", "no", "OFF", "0", "f", "n"])
def test_a_no_is_read_in_every_way_of_yaml(text: str) -> None:
    assert town(provider=f", allow_incomplete: {text}").providers["box"].allow_incomplete is False


@pytest.mark.parametrize("text", ["2", "1.0", "maybe", "''", "' true'", "[true]"])
def test_what_is_neither_is_said(text: str) -> None:
    assert problem(provider=f", allow_incomplete: {text}").endswith("it should be true or false")


@pytest.mark.parametrize("text", ["4.10", "1e3", "007", "true", "0x10"])
def test_text_stays_as_it_was_written(text: str) -> None:
    config = town(provider=f", headers: {{{text}: {text}}}", model=f", effort: {text}")
    ((name, value),) = config.providers["box"].headers.items()
    assert [(type(kept), kept) for kept in (name, value, config.models["m"].effort)] == [(str, text)] * 3


def test_a_value_of_few_choices_names_them() -> None:
    said = problem(provider=", auth_type: digest")
    assert said.endswith("auth_type has a value that is not known; one of: 'bearer', 'basic' or 'none'")


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ({"rest": "budget: {per_role: {mayor: {per_role: 1}}}"}, "budget.per_role.mayor; known: usd, tokens"),
        ({"rest": "  price: {provider: box, model: x, provide: y}"}, "did you mean 'provider'?"),
        ({"provider": ", api_key: a-key-of-mine, org: [a-key-of-mine]"}, "org is of the wrong kind"),
        ({"rest": "  n: {provider: box}"}, "town.yaml:5: models.n has no model; add `model: ...` there"),
    ],
)
def test_a_problem_knows_the_mapping_it_is_in(where: dict[str, str], says: str) -> None:
    assert says in problem(**where)


def test_a_provider_prints_no_headers_and_no_keys_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("electrictown.llm.provider.provider_types", lambda: {"acme": "acme:Acme"})
    text = "providers: {x: {type: acme, api_key: k-1, headers: {A: h-2}, word: w-3}}"
    config = parse_config(text, "town.yaml", {})
    entry = config.providers["x"]
    assert entry.extra == {"word": "w-3"}
    shown = repr(config) + repr(entry) + repr(entry.__rich_repr__())
    assert "ProviderConfig(type='acme'" in shown
    assert not any(value in shown for value in ("k-1", "h-2", "w-3", text))


def test_a_configuration_is_frozen() -> None:
    entry: Any = ProviderConfig(type="ollama")
    with pytest.raises(AttributeError):
        entry.type = "openai"


@pytest.mark.parametrize(
    ("provider", "model", "limit"),
    [("", "", 1), (", max_in_flight: 4", "", 4), (", max_in_flight: 4", ", max_in_flight: 1", 1)],
)
def test_a_model_that_says_nothing_takes_as_many_calls_as_its_provider(
    provider: str, model: str, limit: int
) -> None:
    config = town(provider=provider, model=model)
    assert Routes(config).table().aliases["m"].limit == limit


def test_the_schema_takes_a_bare_number_in_the_place_of_a_cap() -> None:
    schema = json.loads(json_schema())
    bare = {"exclusiveMinimum": 0, "maximum": 1e9, "type": "number"}
    assert schema["properties"]["budget"]["anyOf"] == [bare, {"$ref": "#/$defs/BudgetConfig"}]
    assert schema["$defs"]["BudgetConfig"]["properties"]["per_role"]["additionalProperties"] == {
        "anyOf": [bare, {"$ref": "#/$defs/CapConfig"}]
    }
    assert [name for name, part in schema["$defs"].items() if part["additionalProperties"]] == [
        "ProviderConfig"
    ]


def test_reading_a_configuration_loads_no_validation_library() -> None:
    code = (
        "import sys; from electrictown.config import parse_config; "
        "parse_config('providers: {a: {type: ollama}}').origins; "
        "print([m for m in ('pydantic', 'pydantic_core', 'genai_prices') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
