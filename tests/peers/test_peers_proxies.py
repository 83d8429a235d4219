"""A real Caddy and a real nginx in front of an Ollama, configured as docs/reverse-proxy.md says."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from electrictown.cli.app import app
from electrictown.config import parse_config
from electrictown.errors import AuthError, ServerError
from electrictown.llm.messages import ChatRequest, TextDelta, user
from electrictown.town import Town
from fakes.fake_server import FakeModel, FakeServer, Reply
from fakes.town_kit import serving

_SBIN = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
PROGRAMS = {name: shutil.which(name, path=_SBIN) for name in ("caddy", "nginx")}
PAGE = Path(__file__).parents[2] / "docs" / "reverse-proxy.md"
TOKEN, PASSWORD = "T0ken-of-the-workshop", "correct horse:battery"
LOGIN = f"et:{PASSWORD}"
MODEL = FakeModel(id="qwen3-coder:7b", loaded=True)

pytestmark = pytest.mark.peer


def block(heading: str) -> str:
    """The first fenced block under a heading of the page."""
    found = re.search(rf"^### {re.escape(heading)}$.*?^```\w+$(.*?)^```$", PAGE.read_text(), re.M | re.S)
    assert found, heading
    return found[1]


@dataclass(frozen=True)
class Proxied:
    """A proxy with an Ollama behind it, and the YAML that reaches it."""

    ollama: FakeServer
    yaml: str
    variable: str
    right: str


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@contextmanager
def running(command: list[str], port: int, folder: Path, **environ: str) -> Generator[None]:
    log = folder / "log"
    environ = {
        "PATH": _SBIN,
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
        **environ,
    }
    with log.open("wb") as out, subprocess.Popen(command, env=environ, stdout=out, stderr=out) as process:
        try:
            end = time.monotonic() + 20
            while True:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    time.sleep(0.02)
            yield
        finally:
            process.terminate()
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:  # Caddy waits for every stream to end
                process.kill()


def caddy(way: str, ollama: FakeServer, folder: Path, port: int) -> list[str]:
    text = block(f"Caddy with a {way}")
    text = text.replace("ollama.example.com", f"http://127.0.0.1:{port}")
    text = text.replace("localhost:11434", f"127.0.0.1:{ollama.port}")
    file = folder / "Caddyfile"
    file.write_text(f"{{\n\tadmin off\n}}\n{text}")
    return [str(PROGRAMS["caddy"]), "run", "--config", str(file), "--adapter", "caddyfile"]


def nginx(way: str, ollama: FakeServer, folder: Path, port: int) -> list[str]:
    text = block(f"nginx with a {way}").replace("listen 443 ssl;", f"listen 127.0.0.1:{port};")
    text = re.sub(r"^ *ssl_.*\n", "", text, flags=re.M)
    text = text.replace("localhost:11434", f"127.0.0.1:{ollama.port}").replace("/etc/nginx/", f"{folder}/")
    (folder / "ollama-tokens").write_text(f'"~^Bearer {TOKEN}$" 1;\n')
    digest = base64.b64encode(hashlib.sha1(PASSWORD.encode(), usedforsecurity=False).digest()).decode()
    (folder / "ollama-users").write_text(f"et:{{SHA}}{digest}\n")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    user_line = "user root;\n" if os.geteuid() == 0 else ""
    file = folder / "nginx.conf"
    file.write_text(
        f"{user_line}daemon off;\nworker_processes 1;\npid {folder}/pid;\nerror_log stderr;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{text}\n}}\n"
    )
    return [str(PROGRAMS["nginx"]), "-c", str(file), "-e", "stderr"]


def _hash() -> str:
    """What `caddy hash-password` prints, of the password above."""
    command = [str(PROGRAMS["caddy"]), "hash-password", "--plaintext", PASSWORD]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


WAYS = {"bearer token": ("OLLAMA_TOKEN", TOKEN), "user and a password": ("OLLAMA_LOGIN", LOGIN)}
WORDS = Reply(text="one two three four five six", pause=0.002)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(
            (program, way), id=f"{program}-{way[:6]}", marks=pytest.mark.xdist_group(f"{program}-{way[:6]}")
        )
        for program in ("caddy", "nginx")
        for way in WAYS
    ],
)
def proxied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    program, way = request.param
    if PROGRAMS[program] is None:
        pytest.skip(f"{program} is not installed (scripts/debian-packages.sh test)")
    folder, port = tmp_path_factory.mktemp(program), free_port()
    variable, right = WAYS[way]
    with serving(WORDS, models=[MODEL], version="0.15.2") as ollama:
        command = {"caddy": caddy, "nginx": nginx}[program](way, ollama, folder, port)
        environ = {"OLLAMA_TOKEN": TOKEN}
        if program == "caddy" and variable == "OLLAMA_LOGIN":
            environ = {"OLLAMA_PASSWORD_HASH": _hash()}
        with running(command, port, folder, **environ):
            text = block(f"electrictown with a {way}").replace(
                "https://ollama.example.com", f"http://127.0.0.1:{port}"
            )
            model = f"workshop/{MODEL.id}"
            yield Proxied(
                ollama,
                f"{text}roles: {{mayor: {{model: {model}}}, polecat: {{model: {model}}}}}\n",
                variable,
                right,
            )


@pytest.fixture(autouse=True)
def forget(proxied: Proxied) -> None:
    proxied.ollama.reply = WORDS
    proxied.ollama.journal.clear()


def wrong(right: str) -> list[str]:
    """Nothing, something else, and the same in capitals."""
    return ["et:guessed" if right == LOGIN else "guessed-token", right.swapcase()]


async def test_what_the_proxy_lets_in_reaches_ollama_without_the_password(proxied: Proxied) -> None:
    ask = ChatRequest(model=MODEL.id, messages=(user("count"),))
    async with Town.open(parse_config(proxied.yaml, environ={proxied.variable: proxied.right})) as town:
        provider = town.providers["workshop"]
        assert [model.id for model in await provider.list_models()] == [MODEL.id]
        assert (await provider.chat_completion(ask)).text == "one two three four five six"
        async with provider.stream_chat_completion(ask) as reply:
            text = "".join([c.text async for c in reply if isinstance(c, TextDelta)])
    assert text == "one two three four five six"
    assert len(proxied.ollama.journal) >= 3
    for seen in proxied.ollama.journal:
        assert "authorization" not in seen.headers
        assert seen.headers["host"] == f"127.0.0.1:{proxied.ollama.port}"


async def test_no_stream_is_cut_that_begins_at_once(proxied: Proxied) -> None:
    ask = ChatRequest(model=MODEL.id, messages=(user("count"),))
    async with Town.open(parse_config(proxied.yaml, environ={proxied.variable: proxied.right})) as town:
        for _ in range(25):
            async with town.providers["workshop"].stream_chat_completion(ask) as reply:
                text = "".join([c.text async for c in reply if isinstance(c, TextDelta)])
            assert text == "one two three four five six"


async def test_a_stream_is_not_buffered_on_its_way(proxied: Proxied) -> None:
    """Ollama says two words and then nothing: they arrive all the same."""
    proxied.ollama.reply = Reply(text="one two three four", stall=2)
    ask = ChatRequest(model=MODEL.id, messages=(user("count"),))
    said = ""
    async with (
        Town.open(parse_config(proxied.yaml, environ={proxied.variable: proxied.right})) as town,
        town.providers["workshop"].stream_chat_completion(ask) as reply,
    ):
        async for chunk in reply:
            assert isinstance(chunk, TextDelta)
            said += chunk.text
            if said == "one two":
                break
    assert said == "one two"


async def test_wrong_credentials_are_an_auth_error_that_names_the_variable(proxied: Proxied) -> None:
    for key in wrong(proxied.right):
        async with Town.open(parse_config(proxied.yaml, environ={proxied.variable: key})) as town:
            with pytest.raises(AuthError) as caught:
                await town.providers["workshop"].list_models()
        assert caught.value.status == 401
        assert proxied.variable in caught.value.hint
        assert key not in str(caught.value)
    assert proxied.ollama.journal == [], "the proxy let nothing through"


def et(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = app(arguments)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_et_works_through_it_and_leaves_with_4_where_the_key_is_wrong(
    proxied: Proxied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "electrictown.yaml").write_text(proxied.yaml)
    monkeypatch.setenv(proxied.variable, proxied.right)
    assert et(capsys, "run", "count to six")[:2] == (0, "one two three four five six\n")
    code, out, _ = et(capsys, "nodes")
    assert code == 0
    assert "0.15.2" in out
    for key in wrong(proxied.right):
        monkeypatch.setenv(proxied.variable, key)
        code, out, err = et(capsys, "run", "count to six")
        assert (code, out) == (4, "")
        assert f"set {proxied.variable} to a valid key" in err
        assert key not in err
        code, out, _ = et(capsys, "models")
        assert code == 4
        assert re.search(r"^workshop +- +- +down: ", out, re.M)


async def test_an_ollama_that_is_away_is_the_hosts_failure_and_not_the_keys(proxied: Proxied) -> None:
    """The proxy answers for it with 502."""
    proxied.ollama.reply = Reply(raw=b"")
    ask = ChatRequest(model=MODEL.id, messages=(user("count"),))
    async with Town.open(parse_config(proxied.yaml, environ={proxied.variable: proxied.right})) as town:
        with pytest.raises(ServerError) as caught:
            await town.providers["workshop"].chat_completion(ask)
    assert caught.value.status == 502
