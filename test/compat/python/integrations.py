"""The calls of programs that are built on the clients, in their order: Harbor, the OpenAI
Agents SDK, langchain-e2b, ComputeSDK and Mastra, and programs that speak HTTP themselves."""

import base64
import json
import os
import random
import urllib.error
import urllib.request

import e2b
from e2b import CommandExitException, Sandbox, SandboxQuery, SandboxState

from check import check, fails, report, until


def http(method, path, body=None, headers=None):
    """Sends a request without a client, and returns status, headers and body."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(os.environ["E2B_API_URL"] + path, data, headers or {}, method=method)
    request.add_header("X-API-Key", os.environ["E2B_API_KEY"])
    if data is not None:
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as err:
        return err.code, err.headers, err.read()


@check
def harbor():
    status, _, body = http("GET", "/templates/never-built__abc/tags")
    assert status == 404, (status, body)  # "not built yet"
    status, _, body = http("GET", "/templates/base/tags")
    assert status == 200
    build = json.loads(body)[0]["buildID"]
    sbx = Sandbox.create(
        f"base:{build}", timeout=3600, envs={"TASK": "1"}, allow_internet_access=True,
        metadata={key: "x" for key in ("task", "trial", "job", "agent", "model")},
    )
    sbx.files.write("/etc/profile.d/harbor.sh", "export FROM_PROFILE=yes\n", user="root")
    sbx.commands.run("sysctl -qw vm.overcommit_memory=1 || true", user="root", cwd="/")
    out = sbx.commands.run(
        "(echo out; echo err >&2; exit 0) >/tmp/.out 2>/tmp/.err; echo $?", user="root", cwd="/", envs={"A": "1"}, timeout=60)
    assert out.stdout == "0\n", out
    assert sbx.files.read("/tmp/.out", user="root") == "out\n"
    assert sbx.files.read("/tmp/.err", user="root") == "err\n"
    assert sbx.commands.run("echo $FROM_PROFILE $TASK").stdout == "yes 1\n"
    # A stream that broke off is taken up again by the pid.
    job = sbx.commands.run("sleep 2; echo finished", background=True, timeout=600, user="root")
    job.disconnect()
    assert sbx.commands.connect(job.pid).wait().stdout == "finished\n"
    sbx.commands.run("mkdir -p /task && cd /task && echo data > f && tar cf /tmp/w.tar .", user="root")
    streamed = b"".join(sbx.files.read("/tmp/w.tar", format="stream", user="root"))
    assert streamed[:4] and len(streamed) % 512 == 0, len(streamed)
    sbx.set_timeout(3600)
    # Rules that no host can enforce are refused, and never ignored.
    err = fails(e2b.SandboxException, lambda: sbx.update_network({"deny_out": ["0.0.0.0/0"], "allow_out": ["*.example.com"]}))
    assert "host names" in str(err), err
    outside = os.environ["COMPAT_OUTSIDE"]  # sends "x" to each client of port 80

    def reached(patience):
        run = f"timeout {patience} bash -c 'exec 3<>/dev/tcp/{outside}/80 && head -c 1 <&3' || true"
        return sbx.commands.run(run, timeout=60).stdout == "x"

    assert reached(30)
    sbx.update_network({"deny_out": ["0.0.0.0/0"]})
    assert not reached(2)
    sbx.update_network({"deny_out": ["0.0.0.0/0"], "allow_out": [outside]})
    assert reached(30)
    sbx.update_network({"allow_internet_access": False})
    assert not reached(2)
    sbx.update_network({})
    assert reached(30)
    assert sbx.kill()


@check
def openai_agents():
    sbx = Sandbox.create("base", timeout=300, lifecycle={"on_timeout": "pause", "auto_resume": True}, metadata={"by": "agents"})
    pieces = []
    job = sbx.commands.run("echo begun; sleep 1; echo ended", user="root", cwd="/", envs={"X": "1"}, background=True)
    job.wait(on_stdout=pieces.append)
    assert "".join(pieces) == "begun\nended\n", pieces
    term = sbx.pty.create(e2b.PtySize(rows=24, cols=80), cwd="/tmp", timeout=60)
    sbx.pty.send_stdin(term.pid, b"pwd; exit\n")
    assert b"/tmp\r\n" in b"".join(data for _, _, data in term if data)
    sbx.files.make_dir("/workspace", user="root")
    sbx.files.write("/workspace/f", b"bytes", user="root")
    assert bytes(sbx.files.read("/workspace/f", format="bytes", user="root")) == b"bytes"
    # The fallback for a workspace: one long line.
    sbx.commands.run("head -c 3000000 /dev/urandom > /workspace/blob", user="root")
    line = sbx.commands.run("tar -C /workspace -cf - . | base64 -w 0", user="root").stdout
    assert len(base64.b64decode(line)) >= 3_000_000
    sbx.files.remove("/workspace", user="root")
    assert ".localhost" in sbx.get_host(8000)
    assert sbx.is_running()
    sbx.pause()
    assert sbx.get_info().state == SandboxState.PAUSED
    # Use wakes it: it was created with auto_resume.
    assert sbx.commands.run("echo woken").stdout == "woken\n"
    snap = sbx.create_snapshot()
    copy = Sandbox.create(snap.snapshot_id, timeout=300)
    assert copy.commands.run("echo copy").stdout == "copy\n"
    assert copy.kill() and sbx.kill() and Sandbox.delete_snapshot(snap.snapshot_id)


@check
def langchain():
    first = Sandbox.create(timeout=600)
    sbx = Sandbox.connect(first.sandbox_id, timeout=900)
    sbx.files.write("notes.md", "text")
    info = sbx.files.get_info("notes.md")
    assert info.size == 4 and bytes(sbx.files.read("notes.md", format="bytes")) == b"text"
    err = fails(CommandExitException, lambda: sbx.commands.run("cat missing", cwd="/tmp", timeout=30))
    assert "No such file" in err.stderr, err.stderr
    assert Sandbox.kill(sbx.sandbox_id) is True
    fails(e2b.SandboxNotFoundException, lambda: Sandbox.connect(sbx.sandbox_id))


@check
def computesdk():
    sbx = Sandbox.create("base", timeout=300)
    before = sbx.get_info().end_at
    for _ in range(3):  # each operation connects again, which must not move the end
        assert Sandbox.connect(sbx.sandbox_id, timeout=30).commands.run("echo x").stdout == "x\n"
    assert sbx.get_info().end_at == before
    assert sbx.sandbox_id in [s.sandbox_id for s in Sandbox.list().next_items()]
    assert sbx.kill()


@check
def mastra():
    mark = f"m-{random.random()}"
    wanted = SandboxQuery(metadata={"mastra-sandbox-id": mark}, state=[SandboxState.RUNNING, SandboxState.PAUSED])
    assert Sandbox.list(query=wanted).next_items() == []
    assert http("GET", "/templates/aliases/mastra-base-none")[0] == 404
    sbx = Sandbox.create("base", metadata={"mastra-sandbox-id": mark}, lifecycle={"on_timeout": "pause"}, timeout=300)
    sbx.pause()
    found = Sandbox.list(query=wanted).next_items()
    assert [s.sandbox_id for s in found] == [sbx.sandbox_id] and found[0].state == SandboxState.PAUSED
    again = Sandbox.connect(found[0].sandbox_id)
    job = again.commands.run("cat", background=True, stdin=True, timeout=0)
    assert job.pid in [p.pid for p in again.commands.list()]
    again.commands.send_stdin(job.pid, "x")
    assert again.commands.kill(job.pid) and again.kill()


@check
def code_interpreter_class():
    from e2b_code_interpreter import Sandbox as Interpreter

    sbx = Interpreter.create("base", timeout=300)  # a template without the interpreter
    assert sbx.commands.run("python3 -c 'print(6*7)'").stdout == "42\n"
    fails(Exception, lambda: sbx.run_code("1 + 1"))  # nothing listens on its port
    assert sbx.kill()


@check
def without_a_client():
    status, _, body = http("POST", "/sandboxes", {"templateID": "base", "timeout": 120, "metadata": {"raw": "1"}, "unknown": {"field": 1}})
    assert status == 201, (status, body)
    made = json.loads(body)
    inside = {"E2b-Sandbox-Id": made["sandboxID"], "E2b-Sandbox-Port": "49983", "X-Access-Token": made["envdAccessToken"]}
    assert http("GET", "/health", headers={k: v for k, v in inside.items() if k != "X-Access-Token"})[0] == 204
    status, _, body = http("POST", "/filesystem.Filesystem/Stat", {"path": "/etc"}, inside)
    assert status == 200 and json.loads(body)["entry"]["type"] == "FILE_TYPE_DIRECTORY", (status, body)
    assert http("POST", "/filesystem.Filesystem/Stat", {"path": "/etc"}, {**inside, "X-Access-Token": "wrong"})[0] == 401
    assert http("GET", "/files?path=/etc/hostname", headers=inside)[0] == 200
    listed = json.loads(http("GET", "/sandboxes?metadata=raw%3D1")[2])
    assert [s["sandboxID"] for s in listed] == [made["sandboxID"]], listed
    assert http("POST", f"/sandboxes/{made['sandboxID']}-legacy/timeout", {"timeout": 300})[0] == 204
    status, headers, body = http("POST", "/sandboxes", {})
    assert status == 400 and json.loads(body)["code"] == 400 and headers["Should-Retry"] is None
    assert http("POST", "/sandboxes", {"templateID": "base", "timeout": "soon"})[0] == 400
    assert http("DELETE", f"/sandboxes/{made['sandboxID']}")[0] == 204
    status, _, body = http("GET", "/health", headers=inside)
    assert status == 502 and json.loads(body) == {
        "sandboxId": made["sandboxID"], "message": "The sandbox was not found", "code": 502}, (status, body)


report()
