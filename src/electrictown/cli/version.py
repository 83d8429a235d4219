"""`et version`: which build this is."""

from __future__ import annotations

__all__ = ["version", "version_line"]


def version() -> str:
    """The version written at build time from git's tags, or "unknown" in a tree that was never built."""
    try:
        from electrictown._version import __version__
    except ImportError:
        return "unknown"
    return __version__


def version_line() -> str:
    """The line that `et version` prints."""
    return f"et {version()}"
