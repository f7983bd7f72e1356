"""Sandboxes through the synchronous Python client: life, commands, terminals, files."""

import inspect
import io
import os
import random

import e2b
from e2b import CommandExitException, NotFoundException, Sandbox, SandboxQuery, SandboxState, TimeoutException

from check import check, fails, report, until

UNKNOWN = "unknown0sandbox0id00"
STRICT = "strict" in inspect.signature(Sandbox.pause).parameters
FILES = "mode" in inspect.signature(Sandbox.create_snapshot).parameters
NotFound = getattr(e2b, "SandboxNotFoundException", NotFoundException)

sbx = Sandbox.create("base", timeout=900, envs={"FROM": "sandbox"}, metadata={"suite": "py", "k 1": "v&2"})


@check
def info_and_list():
    info = sbx.get_info()
    assert info.sandbox_id == sbx.sandbox_id and info.state == SandboxState.RUNNING, info
    assert info.metadata == {"suite": "py", "k 1": "v&2"}, info.metadata
    assert 800 < (info.end_at - info.started_at).total_seconds() <= 1000, info
    page = Sandbox.list(query=SandboxQuery(metadata={"k 1": "v&2"}, state=[SandboxState.RUNNING, SandboxState.PAUSED]), limit=1)
    assert [s.sandbox_id for s in page.next_items()] == [sbx.sandbox_id]
    assert not page.has_next
    assert Sandbox.list(query=SandboxQuery(metadata={"k 1": "other"})).next_items() == []


@check
def pages():
    mark = f"pages-{random.random()}"
    boxes = [Sandbox.create("base", metadata={"mark": mark}) for _ in range(3)]
    page, got = Sandbox.list(query=SandboxQuery(metadata={"mark": mark}), limit=2), []
    while page.has_next:
        got.append([s.sandbox_id for s in page.next_items()])
    ids = [b.sandbox_id for b in reversed(boxes)]
    assert got == [ids[:2], ids[2:]], got
    for box in boxes:
        assert box.kill()


@check
def unknown_and_wrong_key():
    assert Sandbox.kill(UNKNOWN) is False
    fails(NotFound, lambda: Sandbox.get_info(UNKNOWN))
    fails(NotFound, lambda: Sandbox.connect(UNKNOWN))
    fails(e2b.AuthenticationException, lambda: Sandbox.get_info(UNKNOWN, api_key="e2b_" + "0" * 40))
    fails(e2b.SandboxException, lambda: Sandbox.create("no-such-template"))


@check
def commands():
    out = sbx.commands.run("echo out; echo err >&2; id -un; pwd; echo $FROM")
    assert (out.stdout, out.stderr, out.exit_code) == ("out\nuser\n/home/user\nsandbox\n", "err\n", 0), out
    err = fails(CommandExitException, lambda: sbx.commands.run("echo before; exit 3"))
    assert (err.exit_code, err.stdout) == (3, "before\n")
    assert sbx.commands.run("id -un; pwd; echo $A", user="root", cwd="/tmp", envs={"A": "b"}).stdout == "root\n/tmp\nb\n"
    fails(TimeoutException, lambda: sbx.commands.run("sleep 872", timeout=1))
    until("the command has ended", lambda: sbx.commands.run("pgrep -f 'sleep 87[2]' || true").stdout == "")
    assert len(sbx.commands.run("seq 1 100000").stdout) == 588895
    pieces = []
    sbx.commands.run("echo one; echo two", on_stdout=pieces.append)
    assert "".join(pieces) == "one\ntwo\n", pieces


@check
def background_and_input():
    job = sbx.commands.run("read a; echo got $a; sleep 1000", background=True, stdin=True, timeout=0)
    assert job.pid in [p.pid for p in sbx.commands.list()]
    sbx.commands.send_stdin(job.pid, "hello\n")
    for stdout, _, _ in job:
        if stdout:
            assert stdout == "got hello\n", stdout
            break
    again = sbx.commands.connect(job.pid)
    assert sbx.commands.kill(job.pid) is True
    fails(CommandExitException, again.wait)
    assert sbx.commands.kill(job.pid) is False
    cat = sbx.commands.run("cat", background=True, stdin=True)
    sbx.commands.send_stdin(cat.pid, "text")
    sbx.commands.close_stdin(cat.pid)
    assert cat.wait().stdout == "text"


@check
def streamed_input():
    if not hasattr(sbx.commands, "stream_input"):
        return  # older clients have none
    cat = sbx.commands.run("cat", background=True, stdin=True, timeout=0)
    sbx.commands.stream_input(cat.pid, iter(["one ", "two ", "three"]))
    sbx.commands.close_stdin(cat.pid)
    assert cat.wait().stdout == "one two three"
    fails(NotFoundException, lambda: sbx.commands.stream_input(4_000_000, iter(["x"])))


@check
def pty():
    term = sbx.pty.create(e2b.PtySize(rows=24, cols=80), timeout=60)
    sbx.pty.send_stdin(term.pid, b"stty size\n")
    sbx.pty.resize(term.pid, e2b.PtySize(rows=30, cols=100))
    sbx.pty.send_stdin(term.pid, b"stty size; exit 0\n")
    seen = b""
    for _, _, data in term:
        if data:
            seen += data
    assert b"30 100" in seen, seen
    other = sbx.pty.create(e2b.PtySize(rows=24, cols=80), timeout=60)
    assert sbx.pty.kill(other.pid) is True
    for _ in other:
        pass  # until it has ended
    assert sbx.pty.kill(other.pid) is False


@check
def files():
    info = sbx.files.write("dir/a.txt", "text")
    assert (info.path, info.name) == ("/home/user/dir/a.txt", "a.txt"), info
    assert sbx.files.read("dir/a.txt") == "text"
    sbx.files.write("dir/b", b"\x00\xff\x01")
    assert bytes(sbx.files.read("dir/b", format="bytes")) == b"\x00\xff\x01"
    sbx.files.write("dir/c", io.BytesIO(b"from a file"))
    assert b"".join(sbx.files.read("dir/c", format="stream")) == b"from a file"
    many = sbx.files.write_files([{"path": "m/1", "data": "one"}, {"path": "/tmp/m/2", "data": "two"}])
    assert [f.path for f in many] == ["/home/user/m/1", "/tmp/m/2"], many
    sbx.files.write("empty", "")
    assert sbx.files.read("empty") == "" and bytes(sbx.files.read("empty", format="bytes")) == b""
    fails(NotFoundException, lambda: sbx.files.read("missing"))
    large = os.urandom(8 << 20)
    sbx.files.write("large", large)
    assert bytes(sbx.files.read("large", format="bytes")) == large


@check
def tree():
    assert sbx.files.make_dir("tree/sub") is True
    assert sbx.files.make_dir("tree/sub") is False
    sbx.files.write("tree/sub/f", "123")
    assert [e.path for e in sbx.files.list("tree", depth=2)] == ["/home/user/tree/sub", "/home/user/tree/sub/f"]
    info = sbx.files.get_info("tree/sub/f")
    assert (info.size, info.mode, info.owner, info.permissions) == (3, 0o644, "user", "-rw-r--r--"), info
    assert sbx.files.rename("tree/sub/f", "tree/g").path == "/home/user/tree/g"
    assert sbx.files.exists("tree/g") and not sbx.files.exists("tree/sub/f")
    watch = sbx.files.watch_dir("tree", recursive=True)
    sbx.files.write("tree/sub/new", "1")
    seen = []

    def got():
        seen.extend((e.name, e.type.value) for e in watch.get_new_events())
        return ("sub/new", "write") in seen

    until("the write is seen", got)
    watch.stop()
    sbx.files.remove("tree")
    assert not sbx.files.exists("tree")


@check
def clocks_and_metrics():
    before = sbx.get_info().end_at
    Sandbox.connect(sbx.sandbox_id, timeout=10)
    assert sbx.get_info().end_at == before, "a connect has shortened it"
    sbx.set_timeout(1200)
    assert sbx.get_info().end_at > before
    sample = sbx.get_metrics()[0]
    assert sample.mem_total > 0 and sample.disk_total > 0 and sample.cpu_count >= 1, sample
    fails(NotFound, lambda: Sandbox.set_timeout(UNKNOWN, 10))


@check
def pause_and_connect():
    sbx.files.write("kept", "yes")
    sbx.pause()
    assert not sbx.is_running()
    assert sbx.get_info().state == SandboxState.PAUSED
    again = Sandbox.connect(sbx.sandbox_id)
    assert again.is_running() and again.files.read("kept") == "yes"
    assert again.commands.run("echo $FROM").stdout == "sandbox\n"
    if STRICT:  # a pause that requires a guest that answers
        sbx.pause(strict=True)
        assert Sandbox.connect(sbx.sandbox_id).is_running()


@check
def snapshot_and_fork():
    sbx.files.write("state", "one")
    snap = sbx.create_snapshot()
    sbx.files.write("state", "two")
    assert snap.snapshot_id in [s.snapshot_id for s in Sandbox.list_snapshots(sandbox_id=sbx.sandbox_id).next_items()]
    copy = Sandbox.create(snap.snapshot_id)
    assert copy.files.read("state") == "one"
    assert copy.kill()
    assert Sandbox.delete_snapshot(snap.snapshot_id) is True
    assert Sandbox.delete_snapshot(snap.snapshot_id) is False
    if FILES:  # a snapshot of the files alone, from which a sandbox boots
        boot_id = "cat /proc/sys/kernel/random/boot_id"
        job = sbx.commands.run("sleep 1000", background=True)
        snap = sbx.create_snapshot(mode="filesystem")
        assert "sleep 1000" in str(sbx.commands.list()) and job.kill()
        copy = Sandbox.create(snap.snapshot_id)
        assert copy.files.read("state") == "two"
        assert "sleep 1000" not in str(copy.commands.list())
        assert copy.commands.run(boot_id).stdout != sbx.commands.run(boot_id).stdout
        assert copy.kill() and Sandbox.delete_snapshot(snap.snapshot_id)
    if hasattr(sbx, "fork"):  # newer clients only
        for child in sbx.fork(count=2):
            assert child.sandbox_id != sbx.sandbox_id and child.files.read("state") == "two"
            assert child.kill()


@check
def kill_twice():
    assert sbx.kill() is True
    assert sbx.kill() is False
    assert not sbx.is_running()
    fails(e2b.SandboxException, lambda: sbx.commands.run("true"))


report()
