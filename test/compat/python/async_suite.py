"""Sandboxes through the asynchronous Python client: many at once, streams, watches."""

import asyncio

import e2b
from e2b import AsyncSandbox

from check import check, report, PATIENCE


def in_loop(run):
    def sync():
        asyncio.run(asyncio.wait_for(run(), 5 * PATIENCE))

    sync.__name__ = run.__name__
    return check(sync)


@in_loop
async def several_at_once():
    boxes = await asyncio.gather(*(AsyncSandbox.create("base") for _ in range(4)))
    outs = await asyncio.gather(*(b.commands.run(f"echo {i}") for i, b in enumerate(boxes)))
    assert [o.stdout for o in outs] == ["0\n", "1\n", "2\n", "3\n"], outs
    assert all(await asyncio.gather(*(b.kill() for b in boxes)))
    assert not any(await asyncio.gather(*(b.kill() for b in boxes)))


@in_loop
async def inside():
    sbx = await AsyncSandbox.create("base", envs={"A": "b"})
    assert await sbx.is_running()
    await sbx.files.make_dir("w")
    events, seen = [], asyncio.Event()

    def on_event(event):
        events.append((event.name, event.type.value))
        if ("f", "write") in events:
            seen.set()

    watch = await sbx.files.watch_dir("w", on_event)
    await sbx.files.write("w/f", "text")
    await asyncio.wait_for(seen.wait(), PATIENCE)
    await watch.stop()
    job = await sbx.commands.run("read x; echo $x $A", background=True, stdin=True)
    await sbx.commands.send_stdin(job.pid, "in\n")
    assert (await job.wait()).stdout == "in b\n"
    outs = await asyncio.gather(*(sbx.commands.run(f"sleep 0.2; echo {i}") for i in range(8)))
    assert [o.stdout for o in outs] == [f"{i}\n" for i in range(8)]
    data = bytearray()
    term = await sbx.pty.create(e2b.PtySize(rows=24, cols=80), on_data=data.extend)
    await sbx.pty.send_stdin(term.pid, b"echo in-$((40 + 2)); exit\n")
    await term.wait()
    assert b"in-42" in bytes(data), data
    await sbx.pause()
    assert not await sbx.is_running()
    again = await AsyncSandbox.connect(sbx.sandbox_id)
    assert await again.files.read("w/f") == "text"
    # A kill ends a command under way with an error that says so.
    under_way = asyncio.ensure_future(again.commands.run("sleep 1000", timeout=0))
    while "sleep" not in str(await again.commands.list()):
        await asyncio.sleep(0.05)
    assert await again.kill()
    try:
        got = await asyncio.wait_for(under_way, PATIENCE)
    except e2b.SandboxException as err:
        assert not isinstance(err, e2b.CommandExitException), repr(err)
    else:
        raise AssertionError(got)


report()
