"""Models of the Hugging Face hub, without the hub."""

from pathlib import Path
from typing import Any

import pytest

from electrictown.errors import AuthError, ConnectError, ElectrictownError, ModelNotFoundError
from electrictown.llm.gguf import find_model, label

hub = pytest.importorskip("huggingface_hub", reason="the extra `hub` is not installed")
errors = pytest.importorskip("huggingface_hub.errors")  # which it does not import by itself
MODEL = "hf:owner/repo/sub/file.gguf"


class Hub:
    """What the hub's client does, in memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> None:
        self.asked: list[tuple[str, str]] = []
        self.cached: str | None = None
        self.error = error
        monkeypatch.setattr(hub, "try_to_load_from_cache", lambda repository, file: self.cached)
        monkeypatch.setattr(hub, "get_hf_file_metadata", self.metadata)
        monkeypatch.setattr(hub, "hf_hub_download", self.download)

    def metadata(self, url: str, *, timeout: float) -> None:
        if self.error is not None:
            raise self.error

    def download(self, repository: str, file: str) -> str:
        self.asked.append((repository, file))
        return "/cache/file.gguf"


async def test_a_file_of_the_hub_is_fetched_by_repository_and_path(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Hub(monkeypatch)
    assert await find_model(MODEL, ".") == Path("/cache/file.gguf")
    assert fake.asked == [("owner/repo", "sub/file.gguf")]
    assert label(MODEL) == "file"


async def test_a_file_that_was_fetched_before_needs_no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Hub(monkeypatch, raised("OfflineModeIsEnabled"))
    fake.cached = "/cache/before.gguf"
    assert await find_model(MODEL, ".") == Path("/cache/before.gguf")
    assert fake.asked == []


def raised(name: str) -> Exception:
    kind: Any = getattr(errors, name)
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
    Hub(monkeypatch, raised(error))
    with pytest.raises(expected, match=said) as caught:
        await find_model(MODEL, ".")
    assert "second line" not in str(caught.value)


async def test_a_hub_that_cannot_be_reached_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "hf_hub_url", lambda repository, file: f"http://127.0.0.1:9/{repository}/{file}")
    with pytest.raises(ConnectError, match="cannot be fetched"):
        await find_model(MODEL, ".")
