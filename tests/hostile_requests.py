"""Requests of strangers that mean no good: damaged images, bombs, wrong values and headers, paths, half requests."""

from __future__ import annotations

import io
import json
import random
import socket
import struct
import time
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

from waiting import LIMIT

__all__ = ["GOOD", "Send", "encode", "make_request", "send"]

Send = tuple[bytes, str]
"""What is sent, and how the client goes on: `wait` for the answer, `close` at once, or `slow`: in parts."""


def encode(kind: str, height: int = 24, width: int = 32) -> bytes:
    pixels = np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)
    file = io.BytesIO()
    if kind == "NPY":
        np.save(file, pixels)
    else:
        Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


GOOD = {kind: encode(kind) for kind in ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "PPM", "NPY")}
"""A small image of each kind."""

PATHS = ("/predict", "/model", "/metrics", "/", "/docs", "/static/page.js", "/v2/models/street/infer", "/readyz")
TRICKS = ("/../../etc/passwd", "/static/..%2f..%2fetc%2fpasswd", "/static/%00", "//etc/passwd", "/predict/../model",
          "/%2e%2e/%2e%2e/", "/static/page.js%00.png", "/v2/models/..%2f..%2fx/infer", "/" + "a" * 9000, "/\xff",
          "http://other.example/predict", "*", "/v2/models/street/versions/-1/infer", "/openapi.json/..")  # fmt: skip


def frame(method: str, path: str, body: bytes, **headers: str) -> bytes:
    """Return a request with these headers in place of the usual ones."""
    values = {"Host": "127.0.0.1", "Content-Length": str(len(body)), "Connection": "close", **headers}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in values.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace") + body


def address(rng: random.Random) -> str:
    kind = rng.choice(["mask", "overlay", "probabilities", "polygons", "areas", "json", "json"])
    return f"/predict?as={kind}&preview={rng.choice([0, 0, 64, 4096])}"


def cut(rng: random.Random) -> Send:
    data = rng.choice([*GOOD.values()])
    return frame("POST", address(rng), data[: rng.randrange(len(data))]), "wait"


def flip(rng: random.Random) -> Send:
    data = bytearray(rng.choice([*GOOD.values()]))
    for _ in range(rng.choice([1, 3, 30])):
        data[rng.randrange(min(len(data), rng.choice([40, 400, 10**6])))] = rng.randrange(256)
    return frame("POST", address(rng), bytes(data)), "wait"


def bomb(rng: random.Random) -> Send:
    """Return a small file whose header states a huge image."""
    width, height = (rng.choice([1, 4000, 30_000, 65_535, 2**31 - 1]) for _ in range(2))
    if max(width, height) < 30_000:
        width = 2**31 - 1
    head = struct.pack(">IIBBBBB", width, height, rng.choice([1, 8, 16]), rng.choice([0, 2, 3, 6]), 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(rng.choice([10, 10**6])))), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    if rng.random() < 0.3:
        shape = f"({height}, {width}, 3)"
        text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
        return frame("POST", address(rng), b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + text.encode()), "wait"
    return frame("POST", address(rng), b"\x89PNG\r\n\x1a\n" + body), "wait"


def noise(rng: random.Random) -> Send:
    return frame("POST", address(rng), rng.randbytes(rng.choice([0, 1, 10, 5000]))), "wait"


def other_kinds(rng: random.Random) -> Send:
    bodies = [b"%PDF-1.7 ", b"PK\x03\x04" + bytes(99), b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"GIF89a",
              b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\x00\x00\x00 ftypisom" + bytes(99), b"<!doctype html><html>",
              b"\x80\x04\x95" + bytes(20), b"#!/bin/sh\nrm -rf /\n", b"\x1f\x8b\x08" + bytes(99), b"II*\x00" + bytes(8),
              b"\x89HDF\r\n\x1a\n" + bytes(99), b"<VRTDataset rasterXSize='9' rasterYSize='9'/>"]  # fmt: skip
    return frame("POST", address(rng), rng.choice(bodies)), "wait"


def wrong_values(rng: random.Random) -> Send:
    value = rng.choice(["", "-1", "99999999999999999999", "%00", "mask%0d%0aX: y", "../../etc", "a" * 5000, "{{7*7}}"])
    query = rng.choice([f"as={value}", f"preview={value}", f"name={value}&as=pdf", f"as=json&as={value}"])
    return frame("POST", f"/predict?{query}", GOOD["PNG"]), "wait"


def forms(rng: random.Random) -> Send:
    name = rng.choice(["../../etc/passwd", "a\x00b", "a" * 3000, "%s%n", '"; rm -rf', "C:\\x"])
    part = f'--b\r\nContent-Disposition: form-data; name="{rng.choice(["image", name])}"; filename="{name}"\r\n\r\n'
    many = rng.choice([1, 1, 2, 50])
    data = GOOD["PNG"][: rng.choice([0, 9, 10**6])]
    body = (part.encode("latin-1") + data + b"\r\n") * many + rng.choice([b"--b--\r\n", b"", b"--b"])
    boundary = rng.choice(["b", "", "c", "b" * 300])
    return frame("POST", "/predict", body, **{"Content-Type": f"multipart/form-data; boundary={boundary}"}), "wait"


def headers(rng: random.Random) -> Send:
    name, value = rng.choice(
        [("X-Long", "a" * rng.choice([10, 20_000, 200_000])), ("Host", "other.example"), ("Host", ""),
         ("Content-Length", "-5"), ("Content-Length", "99999999999"), ("Content-Length", "1, 2"),
         ("Transfer-Encoding", "gzip"), ("Transfer-Encoding", "chunked"), ("Authorization", "Bearer \xff"),
         ("Origin", "https://other.example"), ("Origin", "null"), ("Cookie", "a=b; " * 4000), ("Upgrade", "websocket"),
         ("Content-Encoding", "gzip"), ("Content-Type", "multipart/form-data"), ("X-Request-Id", "a\tb<script>"),
         ("Expect", "100-continue"), ("Range", "bytes=0-"), ("Content-Type", "application/json; charset=\xff")]
    )  # fmt: skip
    end = "close" if value == "chunked" else "wait"  # the body has no chunks: the server would wait for one
    return frame("POST", address(rng), GOOD["JPEG"], **{name: value}), end


def tricks(rng: random.Random) -> Send:
    method = rng.choice(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "BREW"])
    return frame(method, rng.choice([*TRICKS, *PATHS]), b""), "wait"


def tensors(rng: random.Random) -> Send:
    tensor = {"name": "images", "datatype": "UINT8", "shape": [1, 2, 2, 3], "data": [1] * 12}
    tensor[rng.choice([*tensor])] = rng.choice([None, -1, "x", [], {}, [[1]], [2**40] * 4, 1e300, [1, 2, 2, 3]])
    body = json.dumps({"inputs": [tensor], "outputs": rng.choice([None, [], [{"name": "x"}]])}).encode()
    body = rng.choice([body, body[: rng.randrange(len(body))], b"[" * 50_000, b'{"a":' * 50_000, rng.randbytes(50)])
    sent = {"Inference-Header-Content-Length": str(rng.choice([0, -1, 10**9, len(body)]))} if rng.random() < 0.3 else {}
    return frame("POST", "/v2/models/street/infer", body, **sent), "wait"


def half(rng: random.Random) -> Send:
    data, _ = rng.choice(MAKERS[:-1])(rng)
    return data[: rng.randrange(1, len(data))], rng.choice(["close", "close", "slow"])


def not_http(rng: random.Random) -> Send:
    data = [b"\x16\x03\x01\x02\x00\x01\x00", b"SSH-2.0-OpenSSH_9\r\n", b"\x00" * 100, b"GET /\r\n\r\n", b"\r\n" * 500,
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.1\nHost: 127.0.0.1\n\n", b"HELO x\r\n"]  # fmt: skip
    return rng.choice(data) + rng.randbytes(rng.randrange(30)), "close"


MAKERS: tuple[Callable[[random.Random], Send], ...] = (
    *(cut, flip, bomb, noise, other_kinds, wrong_values, forms, headers, tricks, tensors, not_http),
    half,
)


def make_request(seed: int) -> Send:
    """Return the hostile request of a number."""
    rng = random.Random(seed)
    return MAKERS[seed % len(MAKERS)](rng)


def send(host: str, port: int, request: Send, seconds: float = LIMIT) -> bytes:
    """Send a request; return the answer, which is empty if the server or the client closed the connection."""
    data, end = request
    with socket.create_connection((host, port), timeout=seconds) as sock:
        try:
            if end == "slow":
                for start in range(0, min(len(data), 30), 10):
                    sock.sendall(data[start : start + 10])
                    time.sleep(0.01)
                return b""
            sock.sendall(data)
            if end == "close":
                sock.shutdown(socket.SHUT_WR)
            answer = b""
            while part := sock.recv(2**16):
                answer += part
            return answer
        except ConnectionError:
            return b""
