"""common/studio/server.py: what the server lets in, and what it says before it starts."""

import asyncio
import json
import subprocess
import sys
import threading

import pytest
import tornado.httpclient
import tornado.httpserver
import tornado.netutil
import tornado.websocket

from common import game
from common.runtime import cli, devices
from common.runtime.files import ROOT
from common.studio import server, session


def served(stage, visit, name="", opens=None):
    """Serves the toy on a free port and returns what visit(port) brings."""

    async def main():
        offered = [{"name": "toy", "title": "Toy", "lacking": None}]
        app = server.application(offered, opens or (lambda _: stage), name)
        http, sockets = tornado.httpserver.HTTPServer(app), tornado.netutil.bind_sockets(0, "127.0.0.1")
        http.add_sockets(sockets)
        try:
            return await visit(sockets[0].getsockname()[1])
        finally:
            http.stop()
            await http.close_all_connections()

    return asyncio.run(main())


async def fetch(port, path, **headers):
    client = tornado.httpclient.AsyncHTTPClient()
    return await client.fetch(f"http://127.0.0.1:{port}{path}", headers=headers, raise_error=False)


def connect(port, **headers):
    """A websocket to /play."""
    url = f"ws://127.0.0.1:{port}/play"
    return tornado.websocket.websocket_connect(tornado.httpclient.HTTPRequest(url, headers=headers))


def test_the_page_needs_nothing_from_elsewhere(stage):
    """Catches a file that is not served, a page that loads from another site or is shown in one, and lost headers."""

    async def visit(port):
        for path in ("/", "/studio.js", "/studio.css", "/icon.svg", "/vendor/preact.mjs", "/vendor/htm.mjs", "/games"):
            response = await fetch(port, path)
            assert response.code == 200, path
            policy = response.headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'")
            assert "unsafe" not in policy
            assert all(f"{part} 'none'" in policy for part in ("frame-ancestors", "base-uri", "form-action"))
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["Referrer-Policy"] == "no-referrer"
            assert response.headers["Cache-Control"] == "no-cache"
            if path in ("/", "/studio.js", "/studio.css"):
                assert b"//" not in response.body.replace(b"// ", b"").replace(b"http://www.w3.org", b"").replace(
                    b"}//${location.host}", b""
                )
        assert response.headers["Content-Type"] == "application/json"
        assert json.loads(response.body)[0]["name"] == "toy"

    served(stage, visit)


def test_only_this_machine_is_answered(stage, monkeypatch):
    """Catches DNS rebinding, a page of another site, files from outside of the page's folder, and a machine that is not
    called by its own name."""
    monkeypatch.setattr(server.socket, "gethostname", lambda: "My-Computer")

    async def visit(port):
        for path in ("/", "/games", "/studio.js"):
            for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", ""):
                assert (await fetch(port, path, Host=host)).code in (400, 403), (path, host)
            for host in (f"localhost:{port}", f"[::1]:{port}", "192.168.1.7", "my-computer", "LOCALHOST"):
                assert (await fetch(port, path, Host=host)).code == 200, (path, host)
        for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
            with pytest.raises(tornado.httpclient.HTTPClientError, match="403"):
                await connect(port, **headers)
        (await connect(port, Origin=f"http://127.0.0.1:{port}")).close()
        for path in ("/../server.py", "/%2e%2e/server.py", "//etc/passwd", "/vendor/../../server.py"):
            assert (await fetch(port, path)).code in (403, 404), path

    served(stage, visit)


def test_messages_and_pages_are_bounded(stage, monkeypatch):
    """Catches a message that fills the memory, worlds without number, and a place that is never free again."""
    monkeypatch.setattr(server, "PAGES", 2)

    async def visit(port):
        first, second, third = [await connect(port) for _ in range(3)]
        assert await third.read_message() is None
        assert third.close_code == 1013
        await first.write_message("x" * (server.MESSAGE_BYTES + 1))
        assert await first.read_message() is None
        longest = {str(k): -4.123456 for k in range(64)}
        message = {"do": "look", "temperature": 1.05, "held": longest, "keys": ["left", "right", "up", "down"]}
        await second.write_message(json.dumps(message))
        assert "no game is open" in json.loads(await second.read_message())["error"]
        second.close()
        for _ in range(1000):  # until the server has noticed
            fourth = await connect(port)
            await fourth.write_message(json.dumps({"do": "open", "game": "toy"}))
            answer = await fourth.read_message()
            if answer is not None:
                break
        assert json.loads(answer)["title"] == "Toy"
        fourth.close()

    served(stage, visit)


def test_a_game_that_loads_keeps_nobody_else_waiting(stage):
    """Catches a server that answers no one meanwhile, and two pages that use TensorFlow at the same time."""
    began, end, loading, most = threading.Event(), threading.Event(), [], []

    def opens(name):
        loading.append(name)
        most.append(len(loading))
        began.set()
        end.wait(20)
        loading.remove(name)
        raise cli.UserError(f"{name} is only tried")

    async def visit(port):
        pages = {name: await connect(port) for name in ("one", "two")}
        for name, page in pages.items():
            await page.write_message(json.dumps({"do": "open", "game": name}))
        await asyncio.to_thread(began.wait, 20)
        await asyncio.sleep(0.1)  # the other page's message comes, too
        assert (await fetch(port, "/games")).code == 200
        assert most == [1]
        assert len(loading) == 1
        end.set()
        for name, page in pages.items():
            assert json.loads(await page.read_message()) == {"error": f"{name} is only tried"}
        assert most == [1, 1]

    served(stage, visit, opens=opens)


def test_behind_a_proxy_the_studio_says_how_it_is_called(stage):
    """Catches a page that is blank but for "403: Forbidden", and a name that lets all others in."""

    async def visit(port):
        for path in ("/", "/games"):
            refused = await fetch(port, path, Host="proxy.example")
            assert refused.code == 403
            assert b"--name NAME" in refused.body

    async def visit_by_name(port):
        assert (await fetch(port, "/", Host="proxy.example")).code == 200
        assert (await fetch(port, "/", Host="proxy.example:8080")).code == 200
        assert (await fetch(port, "/", Host="evil.example")).code == 403
        (await connect(port, Host="proxy.example", Origin="https://proxy.example")).close()

    served(stage, visit)
    served(stage, visit_by_name, "Proxy.example")


def run_studio(*arguments):
    return [sys.executable, "-m", "common.studio", *map(str, arguments)]


def test_a_users_mistakes_are_one_line(tmp_path):
    """Catches a traceback, a run whose game the studio would have to guess, a port that is another one modulo 65536."""
    for arguments, complaint in ((["--run", tmp_path], "--game"), (["--game", "chess"], "chess"),
                                 (["--controller", "a.json", "--port", 0], "--game"),
                                 (["--game", "doomrnn", "--run", tmp_path / "none"], "no such folder"),
                                 (["--port", 99999], "--port 99999"), (["--port", -1], "--port -1"),
                                 (["--host", "a..b", "--port", 0], "--host a..b"),
                                 (["--game", "doomrnn", "--controller", "a.json", "--port", 0], "a.json")):  # fmt: skip
        done = subprocess.run(run_studio(*arguments), cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert complaint in done.stderr


def test_a_port_in_use_is_said_before_anything_is_loaded(monkeypatch):
    """Catches a user who waits for TensorFlow and the weights to be told that the port is taken."""
    [taken] = tornado.netutil.bind_sockets(0, "127.0.0.1")
    monkeypatch.setattr(sys, "argv", ["studio", "--port", str(taken.getsockname()[1])])
    monkeypatch.setattr(server.game, "find", lambda name: pytest.fail("a game was loaded first"))
    with taken, pytest.raises(cli.UserError, match="give another --port"):
        server.main()


def test_the_studio_opens_what_the_command_line_says(monkeypatch, tmp_path):
    """Catches --run, --controller or --unverified without effect, the dream that brings no reward offered first, and
    models that every page loads for itself."""
    found = {}

    async def serve(app, host, sockets):
        found["addresses"] = {one.getsockname()[0] for one in sockets}
        for one in sockets:
            one.close()

    def main(*words):
        monkeypatch.setattr(sys, "argv", ["studio", "--port", "0", *map(str, words)])
        server.main()

    monkeypatch.setenv("WORLDMODELS_DTYPE", "float32")  # as it sets it, but for this test only
    monkeypatch.setattr(server, "serve", serve)
    monkeypatch.setattr(server, "application", lambda offered, opens, name: found.update(offered=offered, opens=opens))
    monkeypatch.setattr(devices, "for_blocks", lambda: None)
    monkeypatch.setattr(session, "lacking", lambda scene, run: None)
    monkeypatch.setattr(session, "Stage", lambda scene, *more: (scene.name, *more))
    main()
    assert found["addresses"] == {"127.0.0.1"}, "the network is let in only by --host"
    assert [one["name"] for one in found["offered"]][:2] == ["doomrnn", "carracing"]
    assert found["opens"]("carracing") == ("carracing", game.find("carracing").folder, False, "")
    assert found["opens"]("carracing") is found["opens"]("carracing")
    (tmp_path / "c.json").write_text("[[0], 1]")
    main("--game", "carracing", "--run", tmp_path, "--controller", "c.json", "--unverified")
    assert [one["name"] for one in found["offered"]] == ["carracing"]
    assert found["opens"]("carracing") == ("carracing", str(tmp_path), True, "c.json")
    with pytest.raises(cli.UserError, match="doomrnn is not offered here"):
        found["opens"]("doomrnn")


def test_a_game_without_its_weights_is_not_opened(monkeypatch, capsys):
    """Catches a page that asks for a game by name and is told of a file that is missing, and no word at the start."""
    found = {}

    async def serve(app, host, sockets):
        for one in sockets:
            one.close()

    monkeypatch.setattr(sys, "argv", ["studio", "--port", "0", "--game", "carracing"])
    monkeypatch.setenv("WORLDMODELS_DTYPE", "float32")
    monkeypatch.setattr(server, "serve", serve)
    monkeypatch.setattr(server, "application", lambda offered, opens, name: found.update(offered=offered, opens=opens))
    monkeypatch.setattr(devices, "for_blocks", lambda: None)
    monkeypatch.setattr(session, "lacking", lambda scene, run: "no vae.json")
    monkeypatch.setattr(session, "Stage", lambda *_: pytest.fail("it was opened"))
    server.main()
    assert "CarRacing is not offered: no vae.json" in capsys.readouterr().out
    assert found["offered"] == [{"name": "carracing", "title": "CarRacing", "lacking": "no vae.json"}]
    with pytest.raises(cli.UserError, match="carracing is not offered here"):
        found["opens"]("carracing")


def test_the_studio_serves_at_the_address_that_it_prints(stage, capsys):
    """Catches the port that was asked for where a free one was taken, and a request that fills the memory."""

    async def main():
        app = server.application([], lambda _: stage)
        serving = asyncio.create_task(server.serve(app, "127.0.0.1", server.bind("127.0.0.1", 0)))
        await asyncio.sleep(0)  # it prints the address before it waits
        address = capsys.readouterr().out.split()[5]
        client = tornado.httpclient.AsyncHTTPClient()
        codes = []
        for words in ({}, {"method": "POST", "body": b"x" * (server.MESSAGE_BYTES + 1)}):
            codes.append((await client.fetch(address, raise_error=False, **words)).code)
        serving.cancel()
        return codes

    assert asyncio.run(main()) == [200, 400]
