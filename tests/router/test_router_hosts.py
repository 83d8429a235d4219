"""Which addresses mean the same host."""

from __future__ import annotations

import socket

import pytest

from electrictown.llm.hosts import identity

HERE = socket.gethostname().lower()


@pytest.mark.parametrize(
    ("kind", "url"),
    [
        ("ollama", ""),
        ("ollama", "http://localhost:11434"),
        ("ollama", "http://localhost:11434/"),
        ("ollama", "LocalHost:11434"),
        ("ollama", "http://127.0.0.1:11434/api"),
        ("ollama", "http://user:password@127.0.1.1:11434/api/chat"),
        ("openai", "http://[::1]:11434/v1/"),
        ("openai", "http://0.0.0.0:11434/v1/chat/completions"),
        ("anthropic", f"http://{HERE}:11434/v1/messages"),
    ],
)
def test_this_machines_ollama_has_one_name_however_it_is_written(kind: str, url: str) -> None:
    assert identity(kind, url, account="$KEY") == f"{HERE}:11434"


def test_ports_paths_and_names_tell_hosts_apart() -> None:
    urls = [
        "http://a",
        "https://a",
        "http://a:8080",
        "http://a/gpu1",
        "http://a/gpu2/v1",
        "http://b",
        "http://A./v1",
    ]
    assert [identity("openai", url) for url in urls] == [
        "a:80",
        "a:443",
        "a:8080",
        "a:80/gpu1",
        "a:80/gpu2",
        "b:80",
        "a:80",
    ]


def test_a_vendor_counts_by_account_and_no_key_is_in_the_name() -> None:
    one, other = (identity("openai", "", account=f"${name}") for name in ("WORK_KEY", "OWN_KEY"))
    assert one == identity("openai", "https://api.openai.com/v1", account="$WORK_KEY")
    assert one == "api.openai.com:443 $WORK_KEY"
    assert one != other


@pytest.mark.parametrize(
    ("kind", "url"), [("scripted", ""), ("local", ""), ("openai", "http://a:no"), ("openai", "ftp://a")]
)
def test_what_has_no_address_belongs_to_its_process(kind: str, url: str) -> None:
    assert identity(kind, url) == ""
