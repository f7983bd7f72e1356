"""Checks how driver.js makes JavaScript of TypeScript. It runs in the template's root, where other
programs take the place of esbuild."""

import json
import os
import signal
import subprocess
import sys

ESBUILD, STARTED = "/usr/bin/esbuild", "/tmp/started"
NEVER_ENDS = f"#!/bin/sh\necho >{STARTED}\nexec sleep 1000\n"


class Driver:
    """One context of JavaScript."""

    def __init__(self):
        code, self.code = os.pipe()
        events, written = os.pipe()
        self.events = os.fdopen(events)
        self.node = subprocess.Popen(
            ["node", "--no-warnings", sys.argv[1], str(code), str(written)], pass_fds=(code, written), stdin=subprocess.DEVNULL, start_new_session=True
        )
        os.close(code)
        os.close(written)

    def begin(self, code):
        os.write(self.code, json.dumps({"operation": "run", "argument": code}).encode() + b"\n")

    def result(self):
        """Returns the text of the result, or the name of the error."""
        found = None
        for line in self.events:
            event = json.loads(line)
            if "data" in event:
                found = event["data"]["text/plain"]
            elif "error" in event:
                found = event["error"]["name"]
            elif "end" in event:
                return found
        sys.exit("the driver has ended")

    def run(self, code):
        self.begin(code)
        return self.result()


def want(what, got, expected):
    if got != expected:
        sys.exit(f"{what}: got {got}, want {expected}")


def replace(program):
    """Makes a program esbuild."""
    with open(ESBUILD + ".new", "w", encoding="ascii") as f:
        f.write(program)
    os.chmod(ESBUILD + ".new", 0o755)
    os.rename(ESBUILD + ".new", ESBUILD)


def await_start():
    """Waits until esbuild runs."""
    with open(STARTED, encoding="ascii") as f:
        f.read()


driver = Driver()
want("TypeScript", driver.run("let state: number = 41; state + (1 as number)"), "42")
want("code that is neither", driver.run("let = = 1"), "SyntaxError")

replace("#!/bin/sh\nexit 1\n")
large = "let large: string = '" + "x" * (1 << 17) + "'"  # more than a pipe holds
want("TypeScript while esbuild fails", driver.run(large), "SyntaxError")
os.rename(ESBUILD, ESBUILD + ".old")
want("TypeScript without esbuild", driver.run("let a: number = 1"), "SyntaxError")

os.mkfifo(STARTED)
replace(NEVER_ENDS)
other = Driver()
other.begin("let a: number = 1")
await_start()

# The server interrupts the process group of a kernel. esbuild may take no notice of that.
driver.begin("let b: number = 1")
await_start()
os.killpg(driver.node.pid, signal.SIGINT)
want("an interrupt of both", driver.result(), "KeyboardInterrupt")
driver.begin("let c: number = 1")
await_start()
os.kill(driver.node.pid, signal.SIGINT)
want("an interrupt", driver.result(), "KeyboardInterrupt")
want("the state after interrupts", driver.run("state"), "41")

want("TypeScript while esbuild does not end", other.result(), "SyntaxError")
want("code after that", other.run("1 + 1"), "2")
