"""Agents that many people have: how each is started, got and logged in to. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from msgspec import Struct, field

__all__ = ["PRESETS", "Preset"]


class Preset(Struct, frozen=True, kw_only=True):
    """What is known of an agent.

    `variables` are those of its own settings and login, passed on where they are set; `environ` is set for
    it always. `mode` is the session mode in which it asks before it acts, where its own one does not.
    """

    label: str
    command: tuple[str, ...]
    install: str
    login: str
    variables: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict[str, str])
    mode: str = ""


PRESETS: Final[Mapping[str, Preset]] = MappingProxyType(
    {
        "gemini": Preset(
            label="Gemini CLI",
            command=("gemini", "--acp"),
            install="npm install -g @google/gemini-cli",
            login="run `gemini` once and log in, or set GEMINI_API_KEY",
            variables=(
                *("GEMINI_API_KEY", "GEMINI_MODEL", "GEMINI_CLI_HOME", "GEMINI_CLI_TRUST_WORKSPACE"),
                *("GOOGLE_API_KEY", "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_GENAI_USE_VERTEXAI"),
                *("GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION", "GOOGLE_GEMINI_BASE_URL"),
                "GEMINI_CLI_NO_RELAUNCH",
            ),
        ),
        "opencode": Preset(
            label="opencode",
            command=("opencode", "acp"),
            install="npm install -g opencode-ai",
            login="run `opencode auth login`",
            variables=("OPENCODE_API_KEY", "OPENCODE_CONFIG", "OPENCODE_CONFIG_DIR"),
            # Of itself it asks for nothing: it edits and runs commands as it likes.
            environ={"OPENCODE_PERMISSION": '{"edit":"ask","bash":"ask","webfetch":"ask"}'},
        ),
        "claude-code": Preset(
            label="Claude Code",
            command=("claude-agent-acp",),
            install="npm install -g @agentclientprotocol/claude-agent-acp",
            login="run `claude /login`, or set ANTHROPIC_API_KEY",
            variables=(
                *("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "ANTHROPIC_MODEL"),
                *("CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CONFIG_DIR"),
            ),
        ),
        "codex": Preset(
            label="Codex",
            command=("codex-acp",),
            install="npm install -g @agentclientprotocol/codex-acp",
            login="run `codex login`, or set OPENAI_API_KEY",
            variables=("OPENAI_API_KEY", "CODEX_API_KEY", "CODEX_HOME"),
        ),
        "qwen": Preset(
            label="Qwen Code",
            command=("qwen", "--acp"),
            install="npm install -g @qwen-code/qwen-code",
            login="run `qwen` once and log in, or set OPENAI_API_KEY, OPENAI_BASE_URL and OPENAI_MODEL",
            variables=("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL", "DASHSCOPE_API_KEY"),
        ),
        "goose": Preset(
            label="goose",
            command=("goose", "acp"),
            install="install goose as its documentation says",
            login="run `goose configure`",
            variables=("GOOSE_PROVIDER", "GOOSE_MODEL"),
        ),
        "kimi": Preset(
            label="Kimi",
            command=("kimi", "acp"),
            install="install Kimi Code CLI as its documentation says",
            login="run `kimi` once and log in",
            variables=("KIMI_API_KEY", "KIMI_BASE_URL"),
        ),
        "vibe": Preset(
            label="Mistral Vibe",
            command=("vibe-acp",),
            install="uv tool install mistral-vibe",
            login="run `vibe` once and log in, or set MISTRAL_API_KEY",
            variables=("MISTRAL_API_KEY", "VIBE_HOME"),
            mode="ask",  # of itself it edits without a question
        ),
    }
)
