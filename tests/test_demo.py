"""What the demo is made of, by itself; `tests/e2e` runs it whole."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import fields
from pathlib import Path

import psutil
import pytest
import trio

from tests.house import House, free_port
from tests.processes import answering, program
from veza import demo
from veza.commands import main
from veza.rtmp_server import RtmpServer
from veza.sandboxes import Ports
from veza.settings import Settings, load

STREAM = {"id": "01", "rtmp_url": "rtmp://127.0.0.1:1935/live", "stream_key": "sk_1"}
BASE = "http://127.0.0.1:8080"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only what is set here, and no .env."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("VEZA_DATA_DIR", str(tmp_path / "var"))
    monkeypatch.setenv("PORT", str(free_port()))


def free_ports() -> Ports:
    return Ports(**{port.name: free_port() for port in fields(Ports)})


async def test_seeding_again_changes_nothing_and_finds_the_same_stream(house: House) -> None:
    with trio.fail_after(30):
        first = await demo.seed(house.http)
        del house.http.headers["Authorization"]
        again = await demo.seed(house.http)
    assert (again["id"], again["stream_key"]) == (first["id"], first["stream_key"])
    assert again["title"] == "Demo stream"


def test_the_tour_tells_how_to_go_live_and_where_to_watch() -> None:
    said = demo.tour(BASE, Ports(), demo.going_live(BASE, STREAM))
    assert re.search(r"^  ffmpeg .* -f flv rtmp://127.0.0.1:1935/live/sk_1$", said.replace("\\\n", ""), re.MULTILINE)
    assert f"{BASE}/watch/01" in said


def test_the_tour_leads_to_what_there_is_to_look_at_and_says_as_whom_to_sign_in() -> None:
    said = demo.tour(BASE, Ports(), demo.WITHOUT_NGINX)
    for path in ("/console", "/swagger", "/metrics"):
        assert re.search(rf" {re.escape(BASE)}{path}$", said, re.MULTILINE), path
    assert re.search(r"^  admin +admin@demo.veza.example +demo-admin-1$", said, re.MULTILINE)


def test_without_nginx_the_tour_tells_what_to_install_and_the_server_is_told_of_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def command(_rtmp: RtmpServer) -> list[str]:
        raise LookupError("not installed")

    monkeypatch.setattr(RtmpServer, "command", command)
    assert demo.ingest(load(), free_ports(), BASE) is None
    [line] = [line for line in demo.tour(BASE, Ports(), demo.WITHOUT_NGINX).splitlines() if "nginx" in line]
    assert "libnginx-mod-rtmp" in line
    assert "ffmpeg" not in demo.tour(BASE, Ports(), demo.WITHOUT_NGINX)


@pytest.mark.slow
def test_nginx_asks_at_the_address_that_the_server_takes_for_its_own(tmp_path: Path) -> None:
    settings, ports = load(), free_ports()
    found = demo.ingest(settings, ports, BASE)
    assert found is not None
    token = found.environment["INGEST_HOOK_TOKEN"]
    assert token == load().ingest_hook_token.get_secret_value()  # kept: what is on air outlives a restart
    configuration = (tmp_path / "var" / "rtmp" / "nginx.conf").read_text()
    assert f"on_publish {BASE}/api/v1/hooks/rtmp/{token}/publish;" in configuration
    assert found.environment["RTMP_URL"] == f"rtmp://127.0.0.1:{ports.rtmp}/live"
    assert f"listen 127.0.0.1:{ports.rtmp};" in configuration


@pytest.mark.slow
async def test_nginx_keeps_no_log_of_its_own_in_which_keys_would_stand(tmp_path: Path) -> None:
    ports = free_ports()
    found = demo.ingest(load(), ports, BASE)
    assert found is not None
    with trio.fail_after(20):
        async with program(*found.command, environment=dict(os.environ), cwd=tmp_path) as nginx:
            await answering(f"http://127.0.0.1:{ports.stat}/stat", nginx)
            master = psutil.Process(nginx.pid)
            opened = {file.path for process in (master, *master.children()) for file in process.open_files()}
            nginx.terminate()
            assert await nginx.ended() == 0
    assert {path for path in opened if not path.startswith(str(tmp_path))} == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", [port.name for port in fields(Ports)])
def test_a_port_that_is_taken_is_told_in_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    ports = vars(free_ports())
    with socket.create_server(("127.0.0.1", ports[name])):
        assert main(["demo", *(f"--{each}-port={port}" for each, port in ports.items())]) == 1
    told = capsys.readouterr().err
    assert told == (
        f"veza: cannot listen on 127.0.0.1:{ports[name]}: Address already in use; is another demo running?\n"
    )


def test_keys_that_an_earlier_demo_kept_are_used_as_they_are(tmp_path: Path) -> None:
    kept = tmp_path / "var" / "secrets" / "demo"
    kept.parent.mkdir(parents=True)
    kept.write_text("\n".join("abcde"))
    given = demo.demo_environment(load(), free_ports())
    assert (given["STRIPE_SECRET_KEY"], given["HYPERSWITCH_WEBHOOK_SECRET"]) == ("sk_test_a", "e")
