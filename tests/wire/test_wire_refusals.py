"""Errors as each vendor documents or sends them: `refusals.jsonl` holds one a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from decode_kit import decoded, record

LINES = (Path(__file__).parent / "refusals.jsonl").read_text().splitlines()
CASES: list[dict[str, Any]] = [json.loads(line) for line in LINES]


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['wire']}-{c['status']}-{c['type']}")
def test_a_vendors_error_has_its_type(case: dict[str, Any]) -> None:
    found = record(case["wire"], case["body"], status=case["status"], headers=case.get("headers"))
    error = decoded(found)["error"]
    assert (error["type"], error["status"]) == (case["type"], case["status"])
    assert error["retry_after"] == case.get("wait")
    assert error["message"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("<html><head><title>502 Bad Gateway</title></head></html>", "502 Bad Gateway"),
        ("error code: 524", "error code: 524"),
        ({"Message": "User is not authorized"}, "User is not authorized"),
        ({"foo": {"bar": 1}}, '{"foo":{"bar":1}}'),
        ("", "the provider answered with status 500 and no explanation"),
        ({}, "the provider answered with status 500 and no explanation"),
        (
            {
                "error": {
                    "message": "Provider error",
                    "metadata": {"raw": '{"error":{"message":"Overloaded"}}'},
                }
            },
            "Provider error: Overloaded",
        ),
    ],
)
def test_the_words_of_an_error_are_kept(body: object, message: str) -> None:
    assert decoded(record("chat", body, status=500))["error"]["message"] == message
