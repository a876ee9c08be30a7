"""A seeded fuzzer over the readers of images and annotations: python tests/fuzz_data.py CASES [SEED] [READER ...].

Each reader runs in a child process with 2 GiB of memory, and each case may take 20 seconds. Prints one JSON object for
each reader: the cases that were run, and what came out that is no FullconvError.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import random
import re
import resource
import signal
import struct
import sys
import tempfile
import traceback
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fuzz_seeds
from fullconv.data.layouts import survey
from fullconv.errors import FullconvError
from fullconv.images import read_header, read_image, read_label_map
from fullconv.images.decoders.mask_arrays import read_array_mask

MEMORY, SECONDS = 2**31, 20

INTEGERS = (0, 1, 2, 7, 8, 15, 255, 256, 32767, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
# fmt: off
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 255, 2**31, 2**63, -(2**63), 10**30, 0.5, -0.5, 1e308, -1e308, float("nan"),
    float("inf"), "", " ", ".", "..", "../x.png", "/etc/passwd", "C:\\x", "a\0b", "\u202e", "\ud800", "http://[::1/s0.png",
    "1e999", [], {}, [[]], [None], {"a": 1}, "x" * 300, [0, 0, 0, 0], [[0, 0], [1, 1]],
)
TOKENS = ("", "0", "-1", "1e999", "nan", "99999999999999999999", "9" * 5000, "[", "]",
          "{", "}", ":", "&a [*a]", "!!python/x", "\0", "ä",
          "<", ">", "&#0;", "..", "-", "''", '"', "\n", "\t", ",", ";", "%")
# fmt: on


def mutate_bytes(seed: bytes, rng: random.Random) -> bytes:
    content = bytearray(seed)
    for _ in range(rng.choice((1, 1, 2, 3, 5, 9))):
        at = rng.randrange(max(1, len(content)))
        kind = rng.randrange(7)
        if kind == 0:
            content[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            form = rng.choice(("<H", ">H", "<I", ">I"))
            value = rng.choice(INTEGERS) & (0xFFFF if form[1] == "H" else 0xFFFFFFFF)
            content[at : at + struct.calcsize(form)] = struct.pack(form, value)
        elif kind == 2:
            del content[at : at + rng.choice((1, 2, 4, 16, 64))]
        elif kind == 3:
            content[at:at] = content[at : at + rng.choice((1, 4, 16, 64))]
        elif kind == 4:
            del content[at:]
        else:
            content[at : at + 1] = bytes([content[at] ^ 1 << rng.randrange(8)]) if at < len(content) else b""
    if content[:4] == b"\x89PNG" and rng.random() < 0.7:
        return repair_png(bytes(content))
    return bytes(content)


def repair_png(content: bytes) -> bytes:
    """Return the file with right checksums, as far as its chunks go."""
    parts, at = [content[:8]], 8
    while at + 12 <= len(content):
        (size,) = struct.unpack(">I", content[at : at + 4])
        body = content[at + 4 : at + 8 + size]
        parts += [content[at : at + 4], body, struct.pack(">I", zlib.crc32(body))]
        at += 12 + size
    return b"".join(parts)


def mutate_json(seed: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.15:
        return mutate_bytes(seed, rng)
    document = json.loads(seed)
    for _ in range(rng.choice((1, 1, 2, 4))):
        places: list[tuple[Any, Any]] = []
        stack = [document]
        while stack:
            node = stack.pop()
            keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
            places += [(node, key) for key in keys]
            stack += [node[key] for key in keys]
        if not places:
            break
        node, key = rng.choice(places)
        if rng.random() < 0.15:
            del node[key]
        elif rng.random() < 0.1 and isinstance(node, list):
            node += [node[key]] * rng.choice((1, 3))
        else:
            node[key] = copy.deepcopy(rng.choice(VALUES))
    return json.dumps(document).encode("utf-8", "surrogatepass")


def mutate_text(seed: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.2:
        return mutate_bytes(seed, rng)
    text = seed.decode()
    for _ in range(rng.choice((1, 1, 2, 4))):
        found = list(re.finditer(r"[\w.]+|[^\w\s]|\n", text))
        if not found:
            break
        match = rng.choice(found)
        token = rng.choice((*TOKENS, match[0] * 2, rng.choice(found)[0]))
        text = text[: match.start()] + token + text[match.end() :]
    return text.encode()


def mutate(path: Path, seed: bytes, rng: random.Random) -> bytes:
    if path.suffix == ".json":
        return mutate_json(seed, rng)
    is_text = path.suffix in (".txt", ".yaml", ".yml", ".xml", ".csv", ".names")
    return mutate_text(seed, rng) if is_text else mutate_bytes(seed, rng)


def read_file(root: Path, path: Path) -> None:
    """Read an image or mask in all ways."""
    for read in (read_header, read_image, read_label_map, read_array_mask):
        with contextlib.suppress(FullconvError):
            read(path)


def read_folder(root: Path, path: Path) -> None:
    """Read a data set, every image and every mask."""
    dataset = survey(root).dataset
    for samples in dataset.splits.values() if dataset is not None else ():
        for sample in samples:
            with contextlib.suppress(FullconvError):
                dataset.read(sample)


def run_cases(name: str, cases: range, seed: int, report: Callable[[dict[str, Any]], None]) -> None:
    """Run the cases of one reader in this process. One that takes too long ends the process by a signal."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        root.mkdir()
        files = fuzz_seeds.READERS[name](root)
        read = read_file if name in fuzz_seeds.IMAGES else read_folder
        contents = {path: path.read_bytes() for path in files}
        if read is read_folder:
            assert survey(root).dataset is not None, name
        for case in cases:
            rng = random.Random(f"{name} {seed} {case}")
            path = rng.choice(files)
            content = mutate(path, contents[path], rng)
            report({"case": case})
            signal.setitimer(signal.ITIMER_PROF, SECONDS)  # of the processor: the machine may be busy
            signal.alarm(30 * SECONDS)
            path.write_bytes(content)
            try:
                read(root, path)
            except FullconvError:
                pass
            except BaseException as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                text = f"{type(error).__name__}: {error}"[:200]
                report({"case": case, "fault": text, "file": path.name, "at": f"{where.filename}:{where.lineno}"})
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.alarm(0)
            path.write_bytes(contents[path])


def run_reader(name: str, cases: int, seed: int) -> dict[str, Any]:
    """Run the cases in child processes; after a crash, go on with the next case."""
    faults: list[dict[str, Any]] = []
    first = 0
    while first < cases:
        entries, status = run_child(name, range(first, cases), seed)
        faults += [entry for entry in entries if "fault" in entry]
        last = max((entry["case"] for entry in entries), default=-1)
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            is_slow = number in (signal.SIGALRM, signal.SIGPROF)
            faults.append({"case": last, "fault": f"more than {SECONDS} s" if is_slow else f"signal {number}"})
        elif status or last < first:
            break
        first = last + 1
    return {"reader": name, "cases": first, "faults": faults}


def run_child(name: str, cases: range, seed: int) -> tuple[list[dict[str, Any]], int]:
    """Run cases in a child process with limited memory; return its reports and its wait status."""
    with tempfile.TemporaryFile("w+") as log:
        child = os.fork()
        if not child:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            warnings.simplefilter("ignore")

            def report(entry: dict[str, Any]) -> None:
                log.write(json.dumps(entry) + "\n")
                log.flush()

            code = 1
            try:
                run_cases(name, cases, seed, report)
                code = 0
            except BaseException:
                report({"case": -1, "fault": traceback.format_exc()[-600:]})
            finally:
                os._exit(code)
        status = os.waitpid(child, 0)[1]
        log.seek(0)
        return [json.loads(line) for line in log], status


def main() -> None:
    """Run the readers that are named, or all."""
    cases, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    for name in sys.argv[3:] or fuzz_seeds.READERS:
        print(json.dumps(run_reader(name, cases, seed)), flush=True)


if __name__ == "__main__":
    main()
