"""The system's certificates are read at the first handshake, and then a host is trusted as ever."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from electrictown.llm.certificates import read_when_needed

_ASK = """
import asyncio, sys
from electrictown.errors import ProviderError
from electrictown.llm.provider import ProviderSettings, make_provider
from electrictown.redact import Secret

async def main():
    provider = make_provider(
        ProviderSettings(name="p", type="openai", base_url=sys.argv[1], api_key=Secret("sk-test"))
    )
    try:
        print([model.id for model in await provider.list_models()])
    except ProviderError as error:
        print(error.message)
    await provider.aclose()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost that signs itself, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("certificate")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    made = [*("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")]
    made += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=localhost"]
    made += ["-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([openssl, *made], check=True, capture_output=True)
    return certificate, key


@asynccontextmanager
async def _server(pair: tuple[Path, Path]) -> AsyncGenerator[str]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b'{"data": [{"id": "m1"}]}'
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}/v1"


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_host_is_trusted_by_the_systems_certificates_alone(
    pair: tuple[Path, Path], trusted: bool
) -> None:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("SSL_CERT")}
    if trusted:
        environ["SSL_CERT_FILE"] = str(pair[0])
    async with _server(pair) as url:
        asked = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _ASK, url, stdout=asyncio.subprocess.PIPE, env=environ
        )
        said, _ = await asked.communicate()
    assert said.decode().strip() == "['m1']" if trusted else b"is not trusted" in said


def test_a_context_reads_at_its_first_handshake_and_others_at_once(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(pair[0]))
    with read_when_needed():
        context = ssl.create_default_context()
    assert context.cert_store_stats()["x509"] == 0
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")
    assert context.cert_store_stats()["x509"] > 0
    assert "wrap_bio" not in vars(context)
    assert ssl.create_default_context().cert_store_stats()["x509"] > 0


def test_certificates_for_a_second_purpose_are_not_forgotten(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(pair[0]))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with read_when_needed():
        context.load_default_certs()
        assert context.cert_store_stats()["x509"] == 0
        context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        assert context.cert_store_stats()["x509"] > 0
