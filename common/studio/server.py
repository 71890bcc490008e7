"""The studio: a web page, served from this machine, in which you or the agent play inside the dream, or the real game.

    python -m common.studio                                   # every game that has its weights
    python -m common.studio --game doomrnn --run runs/doom/round4    # one game, with a run's own weights and controller

Only this machine can reach it, unless --host says otherwise: it asks for no password. The page is in page/, what it
plays in session.py. The same page without Python: export.py.
"""

import asyncio
import concurrent.futures
import functools
import ipaddress
import json
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import tornado.httpserver
import tornado.httputil
import tornado.netutil
import tornado.web
import tornado.websocket

from common import game
from common.runtime import cli

if TYPE_CHECKING:  # loads TensorFlow, which takes its time
    from common.studio import session

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "page")
MESSAGE_BYTES = 4096  # a page's longest message holds every dimension of z
PAGES = 8  # that may be open at once; each has a world of its own
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def is_this_machine(host: str) -> bool:
    """Whether a request's Host header names a machine as its user does: by address, or by the machine's own name.

    A page of another site that has its own name point here ("DNS rebinding") sends that name.
    """
    name = tornado.httputil.split_host_and_port(host.lower())[0].strip("[]")
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name in ("localhost", socket.gethostname().lower())
    return True


class Guarded(tornado.web.RequestHandler):
    """What all requests have in common."""

    def set_default_headers(self) -> None:
        """The same for all of them."""
        for name, value in HEADERS.items():
            self.set_header(name, value)

    def prepare(self) -> None:
        """Refuses those that call this machine by another name."""
        name = tornado.httputil.split_host_and_port(self.request.host.lower())[0]
        if name != (self.settings["name"] or None) and not is_this_machine(self.request.host):
            self.set_status(403)
            self.set_header("Content-Type", "text/plain; charset=utf-8")
            self.finish(
                "The studio answers where it is called by the address or the name of its machine, or localhost. Behind "
                "a proxy start it with the name that the browser shows: python -m common.studio --name NAME\n"
            )


class Page(Guarded, tornado.web.StaticFileHandler):
    """The files of page/."""


class Games(Guarded):
    """Which games there are: [{"name", "title", "lacking": null or why it cannot be played}]."""

    def initialize(self, offered: list[dict[str, Any]]) -> None:
        self._offered = offered

    def get(self) -> None:
        """Sends them."""
        self.set_header("Content-Type", "application/json")
        self.write(json.dumps(self._offered))


class Play(Guarded, tornado.websocket.WebSocketHandler):
    """A page's websocket: its messages are answered one after the other, see session.py.

    Tornado refuses pages of other sites by their Origin header, and hangs up on longer messages than it is told.
    """

    def initialize(
        self,
        sessions: dict["Play", "session.Session"],
        new_session: "Callable[[], session.Session]",
        worker: concurrent.futures.Executor,
    ) -> None:
        self._sessions, self._new_session, self._worker = sessions, new_session, worker

    def open(self, *args: str, **kwargs: str) -> None:
        """Begins a session, if there is room for one."""
        if len(self._sessions) < PAGES:
            self._sessions[self] = self._new_session()
        else:
            self.close(1013, f"{PAGES} pages are open already; close one")

    async def on_message(self, message: str | bytes) -> None:
        """Answers it."""
        if self in self._sessions:
            answer = await asyncio.wrap_future(self._worker.submit(self._sessions[self].answer, message))
            if self in self._sessions:  # it may have been closed meanwhile
                self.write_message(answer, binary=True)

    def on_close(self) -> None:
        """Ends the session."""
        self._sessions.pop(self, None)


def application(
    offered: list[dict[str, Any]], open_models: "Callable[[str], session.Stage]", name: str = ""
) -> tornado.web.Application:
    """The web server's application.

    Args:
        offered: for Games.
        open_models: (name of a game) -> session.Stage.
        name: of a proxy, by which it may be called too.
    """
    from common.studio import session

    # TensorFlow and the games work in this one thread; the server itself is never kept waiting
    worker = concurrent.futures.ThreadPoolExecutor(1)
    play: dict[str, Any] = {"sessions": {}, "new_session": lambda: session.Session(open_models), "worker": worker}
    return tornado.web.Application(
        [
            ("/games", Games, {"offered": offered}),
            ("/play", Play, play),
            ("/(.*)", Page, {"path": PAGE, "default_filename": "index.html"}),
        ],
        websocket_max_message_size=MESSAGE_BYTES,
        name=name.lower(),
    )


def bind(host: str, port: int) -> list[socket.socket]:
    """The sockets of an address; port 0 takes a free one."""
    if not 0 <= port < 2**16:
        raise cli.UserError(f"--port {port}: give a number from 0 to {2**16 - 1}")
    try:
        return tornado.netutil.bind_sockets(port, host)
    except OSError as error:
        raise cli.UserError(f"{host}:{port}: {error.strerror}; give another --port, or 0 for a free one") from None
    except UnicodeError:
        raise cli.UserError(f"--host {host}: is not the name or address of a machine") from None


async def serve(app: tornado.web.Application, host: str, sockets: list[socket.socket]) -> None:
    """Serves until it is interrupted."""
    tornado.httpserver.HTTPServer(app, max_body_size=MESSAGE_BYTES).add_sockets(sockets)
    print(f"the studio is open at http://{host}:{sockets[0].getsockname()[1]}/ (Ctrl-C closes it)", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """python -m common.studio."""
    names = game.names()
    parser = cli.OneLineParser(description=__doc__)
    parser.add_argument("--game", choices=names, help="only this game")
    parser.add_argument(
        "--run", metavar="DIR", help="the run (of --game) with the weights, controller and frames to use"
    )
    parser.add_argument("--controller", default="", metavar="FILE", help="the controller (of --game) that is the agent")
    parser.add_argument("--host", default="127.0.0.1", help="address to serve at; 0.0.0.0 lets the network in")
    parser.add_argument("--port", type=int, default=8765, help="port to serve at; 0 takes a free one")
    parser.add_argument("--name", default="", help="a name by which the browser calls it too, such as that of a proxy")
    parser.add_argument("--unverified", action="store_true", help=cli.UNVERIFIED)
    arguments = parser.parse_args()
    if arguments.run is not None and arguments.game is None:
        raise cli.UserError(f"--run {arguments.run}: say with --game which game's run it is")
    if arguments.controller and arguments.game is None:
        raise cli.UserError(f"--controller {arguments.controller}: say with --game which game it plays")
    if arguments.run is not None and not os.path.isdir(arguments.run):
        raise cli.UserError(f"--run {arguments.run}: no such folder")
    sockets = bind(arguments.host, arguments.port)  # before TensorFlow and the weights, which take their time

    os.environ.setdefault("WORLDMODELS_DTYPE", "float32")  # a single row gains nothing by bfloat16
    from common.play import agents
    from common.runtime import devices
    from common.studio import session

    if arguments.controller:  # or the studio would open without it
        agents.find(arguments.controller, arguments.run or game.find(arguments.game).folder)
    devices.for_blocks()
    found = {name: game.find(name) for name in ([arguments.game] if arguments.game else names)}
    # a page opens with the first: one with a dream that brings reward, if there is one
    found = dict(sorted(found.items(), key=lambda item: -item[1].config.DREAM_REWARD))
    runs = {name: os.path.abspath(arguments.run or found[name].folder) for name in found}
    offered = []
    for name in found:
        lacking = session.lacking(found[name], runs[name])
        offered.append({"name": name, "title": found[name].title, "lacking": lacking})
        if lacking:
            print(f"{found[name].title} is not offered: {lacking}")

    @functools.cache
    def open_models(name: str) -> session.Stage:
        if not any(game["name"] == name and not game["lacking"] for game in offered):
            raise cli.UserError(f"game: {name[:40]} is not offered here")
        return session.Stage(found[name], runs[name], arguments.unverified, arguments.controller)

    try:
        asyncio.run(serve(application(offered, open_models, arguments.name), arguments.host, sockets))
    except KeyboardInterrupt:
        print("the studio is closed")
