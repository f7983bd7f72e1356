"""Checks who may occupy the code interpreter's server. It runs in the template's root, with no
kernels and with a guest agent that holds back its answers to wrong tokens until they are let go."""

import asyncio
import gzip
import importlib.util
import sys

from aiohttp import web

spec = importlib.util.spec_from_file_location("server", sys.argv[1])
server = importlib.util.module_from_spec(spec)
spec.loader.exec_module(server)

OWNER = "owner"


class Guest:
    """The guest's public server."""

    def __init__(self):
        self.let_go, self.waiting, self.most, self.seen = asyncio.Event(), 0, 0, 0

    async def envs(self, request):
        self.seen += 1
        if request.headers.get("X-Access-Token") == OWNER:
            return web.json_response({})
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        await self.let_go.wait()
        self.waiting -= 1
        return web.Response(status=401)


async def send(path, body=b"", method="POST", **headers):
    """Sends the head of a request, and body, and returns the status of the answer."""
    headers = {"Host": "x", "Content-Length": len(body), **{k.replace("_", "-"): v for k, v in headers.items()}}
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items() if v is not None) + "\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", server.PORT)
    try:
        writer.write(head.encode() + body)
        return int((await reader.readline()).split()[1])
    finally:
        writer.close()


def want(what, got, expected):
    if got != expected:
        sys.exit(f"{what}: got {got}, want {expected}")


async def until(what, true):
    while not true():
        await asyncio.sleep(0.01)
    print(what)


async def checks():
    guest = Guest()
    public = web.Application()
    public.add_routes([web.get("/envs", guest.envs)])
    for runner, port in ((web.AppRunner(public), 49983), (server.runner_of(made := server.Server()), server.PORT)):
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()

    # Nothing of the body arrives: an answer means that the server has not waited for it.
    want("a run without a token, before its body", await send("/execute", Content_Length=server.MAX_BODY), 401)
    want("checks of no token", guest.seen, 0)
    guest.let_go.set()
    want("a run with a wrong token, before its body", await send("/execute", Content_Length=server.MAX_BODY, X_Access_Token="w"), 401)
    guest.let_go.clear()

    too_large = server.MAX_CONTEXT_BODY + 1
    want("a large body for contexts, before it arrives", await send("/contexts", Content_Length=too_large), 413)
    chunk = b"%x\r\n" % too_large + b" " * too_large + b"\r\n"
    want("a large body for contexts without an end", await send("/contexts", chunk, Content_Length=None, Transfer_Encoding="chunked"), 413)
    want("the largest body for contexts", await send("/contexts", b'{"cwd":1}'.ljust(server.MAX_CONTEXT_BODY)), 400)
    bomb = gzip.compress(b" " * (8 << 20))
    want("a compressed body for contexts", await send("/contexts", bomb, Content_Encoding="gzip"), 415)

    # Strangers occupy every check. The owner's first run waits for its turn, within which the
    # guest answers; other strangers wait behind it.
    strangers = [asyncio.ensure_future(send("/execute", X_Access_Token=f"wrong{i}")) for i in range(50)]
    await until("the checks are occupied", lambda: guest.waiting == server.MAX_CHECKS)
    await until("the strangers wait", lambda: len(made.guest.checks._waiters or ()) == 50 - server.MAX_CHECKS)
    first = asyncio.ensure_future(send("/execute", b"{}", X_Access_Token=OWNER))
    guest.let_go.set()
    want("the owner's first run", await first, 400)
    want("the strangers' runs", set(await asyncio.gather(*strangers)), {401})
    want("the most checks at once", guest.most, server.MAX_CHECKS)

    # Once the token is known, its holder passes strangers, also after a new machine id.
    guest.let_go.clear()
    strangers = [asyncio.ensure_future(send("/execute", X_Access_Token=f"wrong{i}")) for i in range(50)]
    await until("the checks are occupied again", lambda: guest.waiting == server.MAX_CHECKS)
    seen = guest.seen
    want("a later run of the owner", await send("/execute", b"{}", X_Access_Token=OWNER), 400)
    want("checks of a known token", guest.seen, seen)
    with open(server.MACHINE_ID, "w", encoding="ascii") as f:
        f.write("0" * 32)
    want("the owner's run in a new machine", await send("/execute", b"{}", X_Access_Token=OWNER), 400)
    want("checks of the token in a new machine", guest.seen, seen + 1)
    want("a large run of the owner", await send("/execute", Content_Length=server.MAX_BODY + 1, X_Access_Token=OWNER), 413)
    want("a compressed run of the owner", await send("/execute", bomb, X_Access_Token=OWNER, Content_Encoding="gzip"), 415)
    guest.let_go.set()
    await asyncio.gather(*strangers)

    # The server's own request needs no check, and only while it is under way.
    made.secret, seen = "own", guest.seen
    want("a rehearsal", await send("/execute", b"{}", X_Access_Token="own"), 400)
    want("checks of a rehearsal", guest.seen, seen)
    want("a stranger during a rehearsal", await send("/execute", b"{}", X_Access_Token="\xe9"), 401)
    made.secret = None
    want("the token of a rehearsal that is over", await send("/execute", b"{}", X_Access_Token="own"), 401)

    # The host agent waits until the server is prepared for the present machine id.
    limit, server.RENEW_TIMEOUT = server.RENEW_TIMEOUT, 0.05
    want("a server that is not prepared", await send("/renewed", method="GET"), 503)
    await made.note_prepared("1" * 32)
    want("a server that is prepared for another machine", await send("/renewed", method="GET"), 503)
    server.RENEW_TIMEOUT = limit
    waits = asyncio.ensure_future(send("/renewed", method="GET"))
    await until("the host agent waits", lambda: made.preparing._waiters)
    await made.note_prepared("0" * 32)
    want("a server that is prepared", await waits, 200)


asyncio.run(asyncio.wait_for(checks(), 120))
