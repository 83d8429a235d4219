"""The child process of the `local` provider: llama.cpp's HTTP server on loopback, and nothing else.

It is a program of its own (`python -m electrictown.llm.llama_child`), so that a crash of native code
ends it alone. One JSON line on stdin says what to load; one JSON line on stdout answers with the
address, or with the error. The key arrives on stdin because a command line and an environment can be
read by others. The end of stdin is the end of the process: a parent that was killed leaves no orphan.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any

__all__ = ["main"]

_WARNINGS = 2
"""llama.cpp's verbosity: errors and warnings."""

_CACHE_MIB = 512
"""Memory for the prompts of past requests; llama.cpp's own default would take 8 GiB."""


def main() -> None:
    """Serve until stdin ends."""
    # What native code prints on stdout must not be taken for our answer.
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    settings = json.loads(sys.stdin.readline())
    watch = threading.Thread(target=_leave_with_the_parent, daemon=True)
    watch.start()
    try:
        server = _serve(settings)
        reply = {"address": server.listening_address, "context": _context(server, settings["key"])}
    except Exception as error:  # whatever it is, the parent must hear of it
        reply = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(reply), file=answer, flush=True)
    if "address" in reply:
        watch.join()


def _leave_with_the_parent() -> None:
    while sys.stdin.read(4096):
        pass
    os._exit(0)


def _serve(settings: dict[str, Any]) -> Any:  # noqa: ANN401  (xllamacpp carries no types)
    from importlib import import_module

    llama: Any = import_module("xllamacpp")
    params: Any = llama.CommonParams()
    params.model.path = settings["path"]
    params.model_alias = {settings["label"]}
    # llama.cpp divides its context among the slots.
    params.n_ctx = settings["context"] * settings["slots"]
    params.n_parallel = settings["slots"]
    params.api_keys = [settings["key"]]  # without one, any page in a browser could ask
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.cpuparams.n_threads = settings["threads"]
    params.cpuparams_batch.n_threads = settings["threads"]
    params.cache_ram_mib = _CACHE_MIB
    params.verbosity = _WARNINGS
    params.endpoint_slots = False
    params.ui = False
    return llama.Server(params)


def _context(server: Any, key: str) -> int:  # noqa: ANN401
    """The window of a slot as the server has it: the model's own limit may be lower than was asked."""
    from http.client import HTTPConnection

    host, _, port = server.listening_address.removeprefix("http://").partition(":")
    connection = HTTPConnection(host, int(port), timeout=30)
    try:
        connection.request("GET", "/props", headers={"Authorization": f"Bearer {key}"})
        return json.load(connection.getresponse())["default_generation_settings"]["n_ctx"]
    finally:
        connection.close()


if __name__ == "__main__":
    main()
