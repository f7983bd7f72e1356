"""Jupyter kernels for bash, JavaScript and Java, each with one persistent process of its language.

    python3 script_kernel.py bash|javascript|java -f CONNECTION_FILE

The process of the language starts with the first execution, and not before: its random
state must not be in a snapshot that many sandboxes are made from. It gets code and writes
events in pipes of its own, so that its standard streams are the user's alone.

Code that begins with NUL is an operation of the server, as JSON.
"""

import codecs
import json
import os
import select
import signal
import struct
import subprocess
import sys
import tempfile

import zmq
from ipykernel.kernelapp import IPKernelApp
from ipykernel.kernelbase import Kernel

HERE = os.path.dirname(os.path.abspath(__file__))
PIECE = 64 << 10  # bytes of output in one message
MAX_EVENT = 256 << 20  # bytes of one event of the process

# A cell is sourced, so that a return in the trap ends it, and declarations stay global.
BASH = r"""
exec 3<&"$1" 4>&"$2"
shopt -s expand_aliases
trap 'return 130' INT
while IFS= read -r -d '' -u 3 __cell; do
	builtin source "$__cell" 3<&- 4>&- </dev/null
	builtin printf '{"end": %d}\n' "$?" >&4
done
"""


class Ended(Exception):
    """The process of the language has ended."""


class Process:
    """A process of a language, with the pipes to it."""

    def __init__(self, argv, env):
        code, self.code = os.pipe()
        self.events, events = os.pipe()
        self.process = subprocess.Popen(
            [*argv, str(code), str(events)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(code, events),
            env=env,
        )
        os.close(code)
        os.close(events)
        self.streams = {
            self.process.stdout.fileno(): ("stdout", codecs.getincrementaldecoder("utf-8")("replace")),
            self.process.stderr.fileno(): ("stderr", codecs.getincrementaldecoder("utf-8")("replace")),
        }
        for fd in [self.events, *self.streams]:
            os.set_blocking(fd, False)
        self.rest = b""

    def send(self, data):
        while data:
            try:
                data = data[os.write(self.code, data) :]
            except OSError as err:
                raise Ended() from err

    def listen(self, show):
        """Yields events. It shows output that arrives meanwhile, and before each event."""
        while True:
            ready, _, _ = select.select([self.events, *self.streams], [], [])
            for fd in ready:
                if fd in self.streams:
                    self.read(fd, show)
            if self.events not in ready:
                continue
            piece = os.read(self.events, 1 << 20)
            if not piece or len(self.rest) > MAX_EVENT:
                self.drain(show)
                raise Ended()
            *lines, self.rest = (self.rest + piece).split(b"\n")
            for line in lines:
                event = json.loads(line)
                if "end" in event:
                    self.drain(show)
                yield event

    def read(self, fd, show):
        """Shows one piece of a stream and reports whether there was one."""
        name, decoder = self.streams[fd]
        try:
            piece = os.read(fd, PIECE)
        except BlockingIOError:
            return False
        if not piece:
            del self.streams[fd]
            return False
        text = decoder.decode(piece)
        if text:
            show(name, text)
        return True

    def drain(self, show):
        """Shows the output that the process has written already, up to a bound."""
        for fd in list(self.streams):
            for _ in range(64):
                if not self.read(fd, show):
                    break

    def end(self):
        self.process.kill()
        self.process.wait()
        os.close(self.code)
        os.close(self.events)
        self.process.stdout.close()
        self.process.stderr.close()


class ScriptKernel(Kernel):
    implementation = "code-interpreter"
    implementation_version = "1"
    banner = ""
    process = None

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.env, self.pushed = dict(os.environ), {}
        self.execution_count = 0
        signal.signal(signal.SIGINT, self.on_interrupt)
        thread = self.iopub_thread
        thread.schedule(lambda: thread.socket.setsockopt(zmq.SNDHWM, 0))

    # The base class would let SIGINT raise an exception here.
    def pre_handler_hook(self):
        pass

    def post_handler_hook(self):
        pass

    def on_interrupt(self, *_):
        """Runs when the server interrupts an execution. The process group gets SIGINT too."""

    def running(self):
        if self.process is None or self.process.process.poll() is not None:
            self.stop()
            self.process = Process(self.argv(), self.env)
        return self.process

    def stop(self):
        process, self.process = self.process, None
        if process:
            process.end()

    def show(self, name, text):
        self.send_response(self.iopub_socket, "stream", {"name": name, "text": text})

    def fail(self, name, value, traceback):
        content = {"ename": name, "evalue": value, "traceback": traceback}
        self.send_response(self.iopub_socket, "error", content)
        return {"status": "error", "execution_count": self.execution_count, **content}

    def do_execute(self, code, silent, store_history=True, user_expressions=None, allow_stdin=False):
        if code.startswith("\0"):
            operation = json.loads(code[1:])
            getattr(self, "op_" + operation["operation"])(operation["argument"])
        elif code.strip():
            try:
                failure = self.run(code)
            except Ended:
                status = self.process.process.wait()
                self.stop()
                failure = ("ProcessEnded", f"the {self.language} process ended with {status}; its state is lost", [])
            if failure:
                return self.fail(*failure)
        return {"status": "ok", "execution_count": self.execution_count, "payload": [], "user_expressions": {}}

    def do_shutdown(self, restart):
        self.stop()
        return {"status": "ok", "restart": restart}

    # Operations

    def op_warm(self, _):
        pass

    def op_set_env(self, new):
        self.env.update(new)
        self.change_env(new)

    def op_push_env(self, new):
        self.pushed = new
        self.env_before = {name: self.env.get(name) for name in new}
        self.change_env(new)

    def op_pop_env(self, _):
        if self.pushed:
            self.pushed = {}
            self.change_env(self.env_before)

    def op_reseed(self, _):
        pass


class BashKernel(ScriptKernel):
    language, language_info = "bash", {"name": "bash", "mimetype": "text/x-sh", "file_extension": ".sh"}

    def argv(self):
        return ["/bin/bash", "--norc", "--noprofile", "-c", BASH, "bash"]

    def source(self, text):
        """Runs text in the shell and returns its exit status."""
        process = self.running()
        with tempfile.NamedTemporaryFile("w", prefix=".cell-", errors="surrogateescape") as f:
            f.write(text + "\n")
            f.flush()
            process.send(f.name.encode() + b"\0")
            for event in process.listen(self.show):
                return event["end"]

    def run(self, code):
        status = self.source(code)
        if status == 130:
            return "KeyboardInterrupt", "interrupted", []
        if status:
            return "ExitStatus", f"exit status {status}", []
        return None

    def change_env(self, new):
        if self.process is None:
            if not self.pushed:
                return
            self.running()
        self.source("\n".join(f"unset {n}" if v is None else f"export {n}={quote(v)}" for n, v in new.items() if n.isidentifier()))

    def op_reseed(self, _):
        if self.process:
            self.source(f"RANDOM={int.from_bytes(os.urandom(2), 'little')}")


def quote(text):
    return "'" + text.replace("'", "'\\''") + "'"


class DriverKernel(ScriptKernel):
    """A kernel whose process runs a driver, which answers each request with events."""

    def request(self, operation, argument=None):
        process = self.running()
        process.send(self.encode(operation, argument))
        failure = None
        for event in process.listen(self.show):
            if "end" in event:
                return failure
            if "stream" in event:
                self.show(event["stream"], event["text"])
            elif "data" in event:
                kind = "execute_result" if event["main"] else "display_data"
                content = {"data": event["data"], "metadata": {}}
                if event["main"]:
                    content["execution_count"] = self.execution_count
                self.send_response(self.iopub_socket, kind, content)
            elif "error" in event:
                failure = event["error"]["name"], event["error"]["value"], event["error"]["traceback"]

    def run(self, code):
        return self.request("run", code)

    def change_env(self, new):
        if self.process is None:
            if not self.pushed:
                return
            self.running()
        self.request("env", new)

    def op_reseed(self, _):
        if self.process:
            self.request("reseed")


class JavaScriptKernel(DriverKernel):
    language, language_info = "javascript", {"name": "javascript", "mimetype": "text/javascript", "file_extension": ".js"}

    def argv(self):
        return ["node", "--no-warnings", os.path.join(HERE, "driver.js")]

    def encode(self, operation, argument):
        return json.dumps({"operation": operation, "argument": argument}).encode() + b"\n"


class JavaKernel(DriverKernel):
    language, language_info = "java", {"name": "java", "mimetype": "text/x-java", "file_extension": ".java"}

    # A sandbox of the default size has 512 MB for all kernels.
    OPTIONS = ["-XX:MaxRAMPercentage=25", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-XX:+DisplayVMOutputToStderr"]
    # Driver.java changes private fields of these packages.
    OPENS = ["java.base/java.io", "java.base/java.lang", "java.base/java.util", "java.base/java.util.concurrent", "jdk.jshell/jdk.jshell"]

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.properties = {}  # the variables of the sandbox, which are properties too

    def argv(self):
        opens = [f"--add-opens={package}=ALL-UNNAMED" for package in self.OPENS]
        return ["java", *self.OPTIONS, *opens, "-cp", os.path.join(HERE, "driver.jar"), "Driver"]

    def encode(self, operation, argument):
        if operation == "env":
            texts = [operation, *(text for pair in argument.items() for text in pair)]
        else:
            texts = [operation] if argument is None else [operation, argument]
        message = [struct.pack(">i", len(texts))]
        for text in texts:
            data = b"" if text is None else text.encode("utf-8", "replace")
            message.append(struct.pack(">i", -1 if text is None else len(data)) + data)
        return b"".join(message)

    def running(self):
        before = self.process
        process = super().running()
        if process is not before:
            self.request("env", self.properties)
        return process

    def op_set_env(self, new):
        self.properties.update(new)
        super().op_set_env(new)


if __name__ == "__main__":
    kind = {"bash": BashKernel, "javascript": JavaScriptKernel, "java": JavaKernel}[sys.argv.pop(1)]
    IPKernelApp.launch_instance(kernel_class=kind)
