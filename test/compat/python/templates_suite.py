"""Builds of templates through the Python client, synchronous and asynchronous."""

import asyncio
import os
import pathlib
import random
import tempfile

import e2b
from e2b import AsyncSandbox, AsyncTemplate, Sandbox, Template, wait_for_port

from check import check, fails, report, until

NAME = f"compat-py-{random.randrange(1 << 40):x}"
OUTPUT = "progress of the build"
IMAGE = os.environ.get("COMPAT_IMAGE")
context = pathlib.Path(tempfile.mkdtemp(prefix="compat-"))
(context / "app" / "deep").mkdir(parents=True)
(context / "app" / "main.txt").write_text("main")
(context / "app" / "deep" / "leaf.txt").write_text("leaf")
(context / "tool.sh").write_text("#!/bin/sh\necho ran\n")


def begin():
    return Template(file_context_path=str(context))


def steps():
    return (
        begin()
        .from_template("base")
        .set_envs({"GREETING": "hello", "WHOLE": "$GREETING world", "SUITE": NAME})
        .run_cmd('id -un > /tmp/first; pwd >> /tmp/first; echo "$WHOLE" >> /tmp/first')
        .make_dir("/srv/data", user="root")
        .copy("app", "/srv/app", user="root")
        .copy("tool.sh", "/home/user/bin/tool", mode=0o755)
        .set_workdir("/home/user/work")
        .run_cmd(["echo from-the-build > here", f"echo {OUTPUT}"])
        .set_start_cmd("python3 -m http.server 8000", wait_for_port(8000))
    )


def build(template, name, **options):
    """Builds a template, and returns the client's answer and the text of the log."""
    lines = []
    info = Template.build(template, name, cpu_count=1, memory_mb=512, on_build_logs=lambda e: lines.append(e.message), **options)
    return info, "\n".join(lines)


@check
def every_kind_of_step():
    assert Template.exists(NAME) is False
    info, log = build(steps(), NAME)
    assert OUTPUT in log.splitlines(), log
    assert Template.exists(NAME) is True and Template.alias_exists(NAME) is True
    sbx = Sandbox.create(NAME)
    assert sbx.files.read("/tmp/first") == "user\n/home/user\nhello world\n"
    out = sbx.commands.run("cat /srv/app/main.txt /srv/app/deep/leaf.txt; ~/bin/tool; stat -c %U /srv/app/main.txt; id -un; pwd; cat here")
    assert out.stdout == "mainleafran\nroot\nuser\n/home/user/work\nfrom-the-build\n", out
    assert sbx.commands.run("echo ${GREETING:-none}; curl -fsS http://127.0.0.1:8000/here").stdout == "hello\nfrom-the-build\n"
    got = sbx.get_info()
    assert (got.template_id, got.name, got.cpu_count, got.memory_mb) == (info.template_id, NAME, 1, 512), got
    assert sbx.kill()


@check
def cache():
    _, log = build(steps(), NAME)
    assert "CACHED" in log and OUTPUT not in log.splitlines(), log
    _, log = build(steps(), NAME, skip_cache=True)
    assert "CACHED" not in log and OUTPUT in log.splitlines(), log


@check
def background_and_tags():
    begun = Template.build_in_background(begin().from_template("base").run_cmd("echo v2 > /tmp/version"), f"{NAME}:v2", tags=["next"])
    seen = []

    def ready():
        status = Template.get_build_status(begun, logs_offset=len(seen))
        seen.extend(status.log_entries)
        assert status.status.value != "error", status.reason
        return status.status.value == "ready"

    until("the build is ready", ready)
    sbx = Sandbox.create(f"{NAME}:{begun.build_id}")  # as Harbor does
    assert sbx.files.read("/tmp/version") == "v2\n"
    assert sbx.kill()
    tags = {t.tag: t.build_id for t in Template.get_tags(NAME)}
    assert sorted(tags) == ["default", "next", "v2"] and str(tags["v2"]) == begun.build_id, tags
    assert str(Template.assign_tags(f"{NAME}:v2", ["stable"]).build_id) == begun.build_id
    Template.remove_tags(NAME, ["next", "stable"])
    assert sorted(t.tag for t in Template.get_tags(NAME)) == ["default", "v2"]
    fails(e2b.TemplateException, lambda: Template.remove_tags(NAME, "default"))
    fails(e2b.TemplateException, lambda: Template.get_tags(f"{NAME}-none"))


@check
def failures():
    failing = begin().from_template("base").run_cmd("true").run_cmd("echo told before; exit 7")
    err = fails(e2b.BuildException, lambda: build(failing, f"{NAME}-bad"))
    assert "status 7" in str(err), err
    nobody = begin().from_template("base").run_cmd("whoami", user="root123")
    err = fails(e2b.BuildException, lambda: build(nobody, f"{NAME}-bad"))
    assert "failed to run command 'whoami': command failed: unauthenticated: invalid username: 'root123'" in str(err), err
    fails(Exception, lambda: build(begin().from_template("base").copy("nothing-here", "/x"), f"{NAME}-bad"))
    fails(e2b.BuildException, lambda: build(begin().from_template("no-such-template"), f"{NAME}-bad"))
    fails(e2b.SandboxException, lambda: Sandbox.create(f"{NAME}-bad"))


@check
def from_image_and_dockerfile():
    if not IMAGE:
        return print("- from_image_and_dockerfile: COMPAT_IMAGE is not set")
    build(begin().from_image(IMAGE).run_cmd('echo "$FROM_IMAGE" > env'), f"{NAME}-image")
    sbx = Sandbox.create(f"{NAME}-image")
    assert sbx.commands.run("cat ~/env /etc/compat-image").stdout == "of the image\nmade by the test\n"
    assert sbx.kill()
    text = f'FROM {IMAGE}\nENV MODE=plain\nWORKDIR /opt/app\nCOPY app/main.txt copied.txt\nRUN echo "$MODE $(id -un)" > mode.txt\n'
    build(begin().from_dockerfile(text), f"{NAME}-docker")
    sbx = Sandbox.create(f"{NAME}-docker")
    assert sbx.commands.run("cd /opt/app; cat copied.txt; echo; cat mode.txt").stdout == "main\nplain root\n"
    assert sbx.kill()


@check
def asynchronous():
    async def run():
        template = AsyncTemplate(file_context_path=str(context)).from_template("base").copy("app/main.txt", "async.txt")
        lines = []
        await AsyncTemplate.build(template, f"{NAME}-async", on_build_logs=lambda e: lines.append(e.message))
        assert lines
        sbx = await AsyncSandbox.create(f"{NAME}-async")
        assert await sbx.files.read("async.txt") == "main"
        assert await sbx.kill()

    asyncio.run(run())


report()
