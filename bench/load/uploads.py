"""Large uploads, all at once: `python -m bench.load.uploads URL KEY COUNT MEGABYTES`, the result as JSON on stdout.

Each is sent as a form by a connection of its own, and sent again after as many seconds as the service says when it is
refused for the moment (429, 503). The answer may come before the body has been sent: then the rest is not.
"""

from __future__ import annotations

import asyncio
import io
import json
import resource
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import soundfile

NAME = "bench.load.uploads: asyncio streams, a connection for each try"
RATE, CHANNELS, FRAME_BYTES = 44_100, 2, 4
CHUNK = 256 * 1024
LIMIT_SECONDS = 240.0
PAUSE_SECONDS = 1.0
BOUNDARY = "rootnote-bench-load"
LATER = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


def recording(megabytes: float) -> bytes:
    """Return a stereo WAV of noise of about that size (1 MB = 10⁶ bytes)."""
    frames = int(megabytes * 1e6) // FRAME_BYTES
    noise = np.random.default_rng(0).integers(-8_000, 8_000, (frames, CHANNELS), dtype=np.int16)
    file = io.BytesIO()
    soundfile.write(file, noise, RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()


@dataclass
class Upload:
    """One upload: the status of each try (0: the connection broke), when it began and ended (Unix)."""

    number: int
    began: float = 0.0
    ended: float = 0.0
    tries: list[int] = field(default_factory=list)
    untold: int = 0
    id: str | None = None


@dataclass(frozen=True)
class Sender:
    """Sends one recording to a service under many names; each differs in its last bytes, or storage would see one."""

    url: str
    sound: bytes
    key: str | None = None

    async def carry(self, upload: Upload) -> None:
        """Send until it is accepted, refused for good, or LIMIT_SECONDS have passed."""
        upload.began = time.time()
        while time.time() - upload.began < LIMIT_SECONDS:
            status, told, body = await self._try(upload.number)
            upload.tries.append(status)
            if status == HTTPStatus.ACCEPTED:
                upload.id = json.loads(body)["id"]
            if status and status not in LATER:
                break
            upload.untold += bool(status) and told is None
            await asyncio.sleep(PAUSE_SECONDS if told is None else told)
        upload.ended = time.time()

    async def _try(self, number: int) -> tuple[int, float | None, bytes]:
        where = urlsplit(self.url)
        try:
            reader, writer = await asyncio.open_connection(where.hostname, where.port)
        except OSError:
            return 0, None, b""
        answer = asyncio.create_task(_answer(reader))
        with suppress(OSError):
            await self._send(writer, answer, where.netloc, number)
        try:
            return await asyncio.wait_for(answer, LIMIT_SECONDS)
        except (OSError, EOFError, TimeoutError):
            return 0, None, b""
        finally:
            writer.close()

    async def _send(self, writer: asyncio.StreamWriter, answer: asyncio.Task[Any], host: str, number: int) -> None:
        head, tail = _form(number)
        length = len(head) + len(self.sound) + len(tail)
        kind = f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {length}"
        name = f"Idempotency-Key: load-{number}" + (f"\r\nAuthorization: Bearer {self.key}" if self.key else "")
        writer.write(f"POST /v1/attributions HTTP/1.1\r\nHost: {host}\r\n{kind}\r\n{name}\r\n\r\n".encode() + head)
        ending = number.to_bytes(4, "little")
        view = memoryview(self.sound)[: -len(ending)]
        for at in range(0, len(view), CHUNK):
            writer.write(view[at : at + CHUNK])
            await writer.drain()
            await asyncio.sleep(0)  # draining lets nobody else run while the buffer has room
            if answer.done():
                return
        writer.write(ending + tail)
        await writer.drain()


def _form(number: int) -> tuple[bytes, bytes]:
    """Return what comes before and after the recording."""
    part = f"--{BOUNDARY}\r\nContent-Disposition: form-data; name="
    name = f'{part}"external_id"\r\n\r\nload-{number}\r\n'
    file = f'{part}"audio"; filename="load.wav"\r\nContent-Type: audio/wav\r\n\r\n'
    return (name + file).encode(), f"\r\n--{BOUNDARY}--\r\n".encode()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, float | None, bytes]:
    """Return status, the seconds of Retry-After, body."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    told = headers.get("retry-after", "")
    return int(first.split()[1]), float(told) if told.isdecimal() else None, body


async def run(sender: Sender, count: int) -> dict[str, Any]:
    """Send so many at once and say how each went."""
    uploads = [Upload(number) for number in range(count)]
    await asyncio.gather(*(sender.carry(upload) for upload in uploads))
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "bytes_each": len(sender.sound),
        "uploads": [asdict(upload) for upload in uploads],
        "statuses": dict(Counter(status for upload in uploads for status in upload.tries)),
        "cpu_s": used.ru_utime + used.ru_stime,
    }


if __name__ == "__main__":
    address, secret, uploaded, size = sys.argv[1:]
    print(json.dumps(asyncio.run(run(Sender(address, recording(float(size)), secret), int(uploaded)))))
