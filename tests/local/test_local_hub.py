"""Models of the Hugging Face hub, without the hub."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from electrictown.errors import AuthError, ConnectError, ElectrictownError, ModelNotFoundError
from electrictown.llm.gguf import find_model, label

hub = pytest.importorskip("huggingface_hub", reason="the extra `hub` is not installed")
MODEL = "hf:owner/repo/sub/file.gguf"


def answer(monkeypatch: pytest.MonkeyPatch, does: Callable[[str, str], str]) -> None:
    monkeypatch.setattr(hub, "hf_hub_download", does)


async def test_a_file_of_the_hub_is_fetched_by_repository_and_path(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def download(repository: str, file: str) -> str:
        asked.append((repository, file))
        return "/cache/file.gguf"

    answer(monkeypatch, download)
    assert await find_model(MODEL, ".") == Path("/cache/file.gguf")
    assert asked == [("owner/repo", "sub/file.gguf")]
    assert label(MODEL) == "file"


def raised(name: str) -> Exception:
    kind: Any = getattr(hub.errors, name)
    error: Exception = kind.__new__(kind)  # its constructor wants a response of the hub's HTTP client
    error.args = ("the hub says no\nwith a second line",)
    return error


@pytest.mark.parametrize(
    ("error", "expected", "said"),
    [
        ("GatedRepoError", AuthError, "HF_TOKEN"),
        ("RepositoryNotFoundError", ModelNotFoundError, "no sub/file.gguf in owner/repo"),
        ("EntryNotFoundError", ModelNotFoundError, "no sub/file.gguf in owner/repo"),
        ("HFValidationError", ModelNotFoundError, "no sub/file.gguf in owner/repo"),
        ("LocalEntryNotFoundError", ConnectError, "cannot be fetched"),
        ("OfflineModeIsEnabled", ConnectError, "give its path"),
        ("HfHubHTTPError", ConnectError, "cannot be fetched"),
    ],
)
async def test_the_hubs_errors_become_ours(
    monkeypatch: pytest.MonkeyPatch, error: str, expected: type[ElectrictownError], said: str
) -> None:
    def download(repository: str, file: str) -> str:
        raise raised(error)

    answer(monkeypatch, download)
    with pytest.raises(expected, match=said) as caught:
        await find_model(MODEL, ".")
    assert "second line" not in str(caught.value)


async def test_a_hub_that_cannot_be_reached_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = hub.hf_hub_download

    def download(repository: str, file: str) -> str:
        return real(repository, file, endpoint="http://127.0.0.1:9", cache_dir=tmp_path)

    answer(monkeypatch, download)
    with pytest.raises(ConnectError, match="cannot be fetched"):
        await find_model(MODEL, ".")
