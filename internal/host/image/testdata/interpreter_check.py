"""Checks who may occupy the code interpreter's server. It runs in the template's root, with no
kernels and with a guest agent that holds back its answers to wrong tokens until they are let go."""

import asyncio
import gzip
import hashlib
import importlib.util
import json
import os
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


def leave(settings):
    """Writes the settings of the guest agent. Without a machine id they are those of this machine."""
    if isinstance(settings, dict):
        settings = {"machine_id": server.machine_id(), **settings}
    os.makedirs(os.path.dirname(server.SETTINGS), exist_ok=True)
    with open(server.SETTINGS, "w", encoding="ascii") as f:
        f.write(settings if isinstance(settings, str) else json.dumps(settings))


class Kernel:
    """A kernel of Python that runs the operations of code_interpreter.py here."""

    name = "python3"

    def __init__(self):
        self.executions, self.ran = {}, []

    async def alive(self):
        return True

    async def control(self, code, timeout=None):
        self.begin(code)
        return True

    def begin(self, code, silent=True):
        self.ran.append(code.split(".")[1].split("(")[0])
        exec(code)
        output = server.Output()
        output.put({"msg_type": "status", "content": {"execution_state": "idle"}})
        return len(self.ran), output


async def early_variables():
    """A kernel of Python has the variables before its first run, and exactly those of its sandbox then."""
    for early, envs, operations in (
        ([{"A": "1"}], {"A": "1"}, ["push_env"]),
        ([{"A": "1"}, {"A": "1"}], {"A": "1"}, ["push_env"]),
        ([{"A": "pool", "B": "pool"}, {"A": "1"}], {"A": "1"}, ["push_env", "pop_env", "push_env"]),
        ([{"A": "pool", "B": "pool"}], {"A": "1"}, ["push_env", "pop_env", "set_env"]),
        ([None], {"A": "1"}, ["set_env"]),
        ([], {"A": "1"}, ["set_env"]),
        ([{}], {}, ["push_env"]),
    ):
        for name in ("A", "B"):
            os.environ.pop(name, None)
        context = server.Context("x", "python", "/")
        context.kernel, context.identity = Kernel(), server.machine_id()
        for given in early:
            await context.renew_early(given)
        for operation in context.renew(envs):
            operation.close()
        want(f"operations for {early} and {envs}", context.kernel.ran, operations)
        want(f"variables for {early} and {envs}", {k: v for k, v in os.environ.items() if k in ("A", "B")}, envs)
        want("variables that are set", context.has_envs, True)
        await context.renew_early({"A": "2"})
        want("variables after the first run", context.kernel.ran, operations)
    other = server.Context("x", "bash", "/")
    other.kernel, other.identity = Kernel(), server.machine_id()
    await other.renew_early({"A": "1"})
    want("operations of another language", other.kernel.ran, [])


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

    # The guest agent leaves the digest of the token: its holder needs no check, and nobody else is admitted.
    guest.let_go.set()
    leave({"access_token_sha256": hashlib.sha256(b"another").hexdigest(), "envs": {"A": "b", "C": 1}})
    seen = guest.seen
    want("the token in the settings", await send("/execute", b"{}", X_Access_Token="another"), 400)
    want("checks of the token in the settings", guest.seen, seen)
    want("the variables in the settings", await made.guest.admit("another"), {"A": "b"})
    want("a token beside the settings", await send("/execute", b"{}", X_Access_Token="wrong"), 401)
    want("the digest as a token", await send("/execute", b"{}", X_Access_Token=hashlib.sha256(b"another").hexdigest()), 401)
    whole = {"access_token_sha256": hashlib.sha256(b"another").hexdigest(), "envs": {}}
    large = {**whole, "envs": {"A": "b" * server.SETTINGS_LIMIT}}
    for left in ("", "{", "[]", "[" * 100000, "null", {"envs": {}}, {"access_token_sha256": "", "envs": {}}, {"access_token_sha256": "6", "envs": {}},
                 {"access_token_sha256": 5, "envs": {}}, {"access_token_sha256": hashlib.sha256(b"another").hexdigest(), "envs": []}, large,
                 {**whole, "machine_id": "a" * 32}, {**whole, "machine_id": None}, json.dumps(whole)):
        leave(left)
        want(f"settings {str(left)[:80]}", server.settings(), None)
        want(f"a token with settings {str(left)[:80]}", await send("/execute", b"{}", X_Access_Token="another"), 401)
    want("the owner without settings", await send("/execute", b"{}", X_Access_Token=OWNER), 400)
    os.remove(server.SETTINGS)
    want("settings of no file", server.settings(), None)

    # JSON can name texts that have no form in UTF-8. A pair of surrogates has one: that run is refused for its context.
    run = {"code": "1", "context_id": "none"}
    for what, body, status in (
        ("a pair of surrogates", {"code": "'\U0001f600'", "env_vars": {"A": "\U0001f600"}}, 404),
        ("code with a surrogate", {"code": "'\ud83d'"}, 400),
        ("a variable with a surrogate", {"env_vars": {"A": "\ude00"}}, 400),
        ("a name with a surrogate", {"env_vars": {"\udc80": "a"}}, 400),
        ("a name and a value with one each", {"env_vars": {"A\ude00": "\ud83d"}}, 400),
        ("a pair that a name and its value share", {"env_vars": {"A\ud83d": "\ude00"}}, 400),
    ):
        want(what, await send("/execute", json.dumps({**run, **body}).encode(), X_Access_Token=OWNER), status)
    raw = b'{"context_id": "none", "code": "\xed\xa0\xbd"}'
    want("the bytes of a surrogate", await send("/execute", raw, X_Access_Token=OWNER), 400)

    want("a directory with a surrogate", await send("/contexts", b'{"cwd": "/tmp/\\ud83d"}'), 400)
    want("a directory with a surrogate that Python has for bytes", await send("/contexts", b'{"cwd": "/tmp/\\udc80"}'), 400)

    await early_variables()

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
