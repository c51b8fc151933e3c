"""How much must be saved so that what was saved before has left Kvrocks's write buffers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_BUFFER_MIB = 64  # Kvrocks's own


def pushing_bytes(settings: Mapping[str, Any]) -> int:
    """Three write buffers and a little, for keys of kvrocks.conf (sizes there are in MiB).

    The one in use, and the two full ones that Kvrocks writes at a time.
    """
    return 3 * int(settings.get("rocksdb.write_buffer_size", _BUFFER_MIB)) + 1 << 20
