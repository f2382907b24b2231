"""Fifty clients read the catalog while a job runs: how long an answer takes, and how much memory the server uses.

Everything is on this machine: a library of made-up headers, the real ``lora serve``, clients over loopback::

    python benchmarks/server_load.py [--files 10000] [--clients 50] [--seconds 60]

Promise S8: no 5xx, the 95th percentile of a catalog answer at most 300 ms, memory at most 600 MB, and half a minute
after the clients have left at most a tenth above what it was before; exits with 1 where that does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx2

TOKEN = "benchmark-token-0123456789-abcdef"
WORDS = ("style", "portrait", "pixel", "anime", "ink", "clay", "neon", "film", "sketch", "winter")


def write_library(folder: Path, files: int) -> None:
    """Small adapters with tags: one linear layer each, of two base models."""
    chance = random.Random(8)
    for number in range(files):
        rank = chance.choice((4, 8, 16, 32))
        layer = f"lora_unet_down_blocks_{number % 3}_attentions_0_transformer_blocks_0_attn1_to_q"
        shapes = {
            f"{layer}.lora_down.weight": (rank, 320),
            f"{layer}.lora_up.weight": (320, rank),
            f"{layer}.alpha": (),
        }
        tags = {chance.choice(WORDS) + f" {n}": chance.randint(1, 90) for n in range(30)}
        name = f"{chance.choice(WORDS)}-{number:05}"
        metadata = {
            "ss_output_name": name,
            "ss_network_dim": str(rank),
            "ss_tag_frequency": json.dumps({"10_x": tags}),
            "ss_base_model_version": chance.choice(("sd_v1", "sdxl_base_v1-0")),
        }
        header: dict[str, Any] = {"__metadata__": metadata}
        offset = 0
        for key, shape in shapes.items():
            size = 2
            for length in shape:
                size *= length
            header[key] = {"dtype": "F16", "shape": list(shape), "data_offsets": [offset, offset + size]}
            offset += size
        text = json.dumps(header).encode()
        (folder / f"{name}.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(offset))


def start(folder: Path, state: Path) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "lora_analysis", "serve", str(folder), "--no-browser", "--port=0", f"--state={state}"],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "LORA_TOKEN": TOKEN},
    )  # fmt: skip
    assert process.stdout is not None
    return process, process.stdout.readline().split("/?token=")[0].strip()


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def client_of(url: str, seconds: float, number: int, times: list[float], codes: dict[int, int]) -> None:
    chance = random.Random(number)
    # verify=False: no encryption here, and reading every authority's certificate fifty times would block all clients.
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=30, verify=False) as client:
        await asyncio.sleep(chance.uniform(0, 1))  # people do not all begin at once
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            asked = chance.choice(
                [
                    {"limit": 50, "offset": chance.randint(0, 50) * 50},
                    {"limit": 50, "q": chance.choice(WORDS)},
                    {"limit": 50, "base_model": "sdxl", "sort": "size", "descending": True},
                    {"limit": 50, "tag": f"ink {chance.randint(0, 9)}"},
                ]
            )
            began = time.perf_counter()
            found = await client.get("/api/v1/adapters", params=asked)
            times.append(time.perf_counter() - began)
            codes[found.status_code] = codes.get(found.status_code, 0) + 1
            await asyncio.sleep(chance.uniform(0.5, 1.5))  # a person looks at the page


async def load(url: str, clients: int, seconds: float, pid: int) -> tuple[list[float], dict[int, int], int]:
    times: list[float] = []
    codes: dict[int, int] = {}
    most = 0
    tasks = [asyncio.create_task(client_of(url, seconds, number, times, codes)) for number in range(clients)]
    while not all(task.done() for task in tasks):
        most = max(most, resident(pid))
        await asyncio.sleep(0.2)
    await asyncio.gather(*tasks)
    return times, codes, most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as top:
        folder, state = Path(top, "library"), Path(top, "state")
        folder.mkdir()
        write_library(folder, asked.files)
        process, url = start(folder, state)
        headers = {"authorization": f"Bearer {TOKEN}"}
        try:
            with httpx2.Client(base_url=url, headers=headers, timeout=60) as client:
                idle = resident(process.pid)
                began = time.monotonic()
                while client.get("/api/v1/jobs").json()["running"] or client.get("/api/v1/jobs").json()["queued"]:
                    time.sleep(0.2)
                scan = time.monotonic() - began
                total = client.get("/api/v1/adapters", params={"limit": 1}).json()["total"]
                print(f"{total} adapters scanned in {scan:.1f} s; idle server {idle / 1e6:.0f} MB")
                asyncio.run(load(url, asked.clients, 10, process.pid))
                before = resident(process.pid)
                # The job: the whole library is read anew.
                for path in folder.iterdir():
                    os.utime(path)
                client.post("/api/v1/scans", json={}).raise_for_status()
                times, codes, most = asyncio.run(load(url, asked.clients, asked.seconds, process.pid))
                busy = client.get("/api/v1/jobs").json()
                time.sleep(30)
                after = resident(process.pid)
        finally:
            process.terminate()
            process.wait()
    ordered = sorted(times)
    p95 = ordered[int(len(ordered) * 0.95)]
    print(f"{len(times)} answers to {asked.clients} clients in {asked.seconds:.0f} s: {codes}")
    print(
        f"median {statistics.median(ordered) * 1e3:.0f} ms, p95 {p95 * 1e3:.0f} ms, slowest {ordered[-1] * 1e3:.0f} ms;"
        f" load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )
    print(
        f"server before {before / 1e6:.0f} MB, at most {most / 1e6:.0f} MB, afterwards {after / 1e6:.0f} MB;"
        f" the scan beside it: {busy['items'][0]['state']}"
    )
    kept = set(codes) == {200} and p95 <= 0.3 and most <= 600e6 and after <= 1.1 * before
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
