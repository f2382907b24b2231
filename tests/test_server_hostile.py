"""The reference corpus of hostile files as a library: every one a row, every job an end, nothing run (S10, S12)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hostile import REASON, SHARED, corpus, markers
from serving import LIMITS, finished, running, scanned, settings_for


@pytest.mark.timeout(600)
@pytest.mark.skipif(not SHARED.is_dir(), reason=REASON)
def test_a_library_of_hostile_files(tmp_path: Path) -> None:
    folder = tmp_path / "hostile"
    folder.mkdir()
    cases = corpus(folder)
    limits = replace(LIMITS, workers=2, memory_bytes=600_000_000, analysis_seconds=20, write_seconds=20)
    with running(settings_for(tmp_path / "state", folder, limits=limits)) as client:
        scanned(client)
        found = client.get("/api/v1/adapters", params={"limit": 500}).json()
        assert found["total"] >= len(cases) * 0.8, "pipes, links and hidden files are listed elsewhere"
        assert len({item["id"] for item in found["items"]}) == found["total"]
        jobs = {}
        for item in found["items"]:
            jobs[item["name"]] = client.post("/api/v1/jobs", json={"kind": "verify", "adapter": item["id"]}).json()[
                "id"
            ]
            answer = client.get(f"/api/v1/adapters/{item['id']}/metadata?wait=30")
            assert answer.status_code in (200, 400, 404, 422, 504, 507), (item["name"], answer.text)
            json.loads(answer.text, parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))
            layers = client.get(f"/api/v1/adapters/{item['id']}/layers?wait=30")
            assert layers.status_code in (200, 400, 404, 422, 504, 507), (item["name"], layers.text)
            assert str(tmp_path) not in answer.text + layers.text
        for name, job in jobs.items():
            ended = finished(client, job)
            assert ended["state"] in ("succeeded", "failed"), name
            assert (ended["error"] or {}).get("code") != "internal", ended
            assert str(tmp_path) not in json.dumps(ended)
        assert client.get("/api/v1/health").status_code == 200
    assert markers(folder) == []
