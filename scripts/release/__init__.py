"""Releases: wheel and sdist, the one-file `et`, an archive for every platform, and their check.

Everything is chosen from uv.lock, so a release holds the versions that were tested, and every fetched
file is compared with the lock's hash.
"""

from __future__ import annotations

__all__ = ["ReleaseError"]


class ReleaseError(Exception):
    """A release cannot be made; the message says why."""
