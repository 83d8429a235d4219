"""Looks like xllamacpp to the child process; the model's file says how it behaves."""

import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace


def CommonParams() -> SimpleNamespace:
    params = SimpleNamespace(model=SimpleNamespace())
    params.cpuparams, params.cpuparams_batch = SimpleNamespace(), SimpleNamespace()
    return params


class Server:
    def __init__(self, params: SimpleNamespace) -> None:
        print("native noise on stdout", flush=True)
        print("llama says: loading", file=sys.stderr, flush=True)
        match Path(params.model.path).read_text():
            case "bad":
                raise RuntimeError("Failed to init server")
            case "libgomp":
                raise ImportError("libgomp.so.1: cannot open shared object file")
            case "abort":
                os.kill(os.getpid(), signal.SIGABRT)
            case "slow":
                time.sleep(0.5)
            case _:
                pass

        class Handler(_Handler):
            settings = params

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.listening_address = f"http://127.0.0.1:{server.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    settings: SimpleNamespace

    def do_GET(self) -> None:
        assert self.headers["Authorization"] == "Bearer " + self.settings.api_keys[0]
        window = self.settings.n_ctx // self.settings.n_parallel
        self.answer({"default_generation_settings": {"n_ctx": window}})

    def do_POST(self) -> None:
        assert self.headers["Authorization"] == "Bearer " + self.settings.api_keys[0]
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = asked["messages"][-1]["content"]
        if prompt == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if prompt == "wait":
            time.sleep(30)
        text = f"{sorted(self.settings.model_alias)} {os.getpid()} {prompt}"
        message = {"role": "assistant", "content": text}
        self.answer(
            {
                "object": "chat.completion",
                "model": asked["model"],
                "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
            }
        )

    def answer(self, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if self.close_connection:  # as llama.cpp says it, when it was asked to
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass
