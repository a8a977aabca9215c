"""What Schemathesis does not know by itself: how to send sound."""

from typing import Any

import schemathesis


@schemathesis.serializer("audio/*")
def sound(_: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
