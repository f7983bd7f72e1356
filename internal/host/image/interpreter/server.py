"""The code interpreter: runs code in Jupyter kernels for HTTP clients.

It serves port 49999 with the protocol of E2B's clients (docs/code-interpreter.md). It
owns the kernels and their contexts. It runs as root, so that code which its kernels run as
the account "user" cannot end it by accident, and so that each kernel gets a cgroup of its
own: where memory runs out, the kernel that uses most of it ends, and not the server.

A context runs one execution at a time, in the order in which requests arrive. The output
of a kernel is passed on as it arrives. If the client reads more slowly than the kernel
writes, the kernel is stopped (SIGSTOP) until the client has read, so that no output is
lost and memory stays bounded.

After a restore in a new sandbox the machine id is another one. The server watches it, so
that kernels mostly have new random state when the first request comes, and compares it before
each execution. The host agent waits at a create until the server has prepared itself (/renewed).

Code runs only for callers that have the access token of the sandbox: E2B's clients create
sandboxes whose ports everyone reaches. The guest agent leaves the token's digest and the sandbox's
variables in a file that root alone reads, so that the first run waits for neither. The guest's public
server (port 49983) checks tokens that the file does not admit.
"""

import asyncio
import collections
import ctypes
import datetime
import hashlib
import hmac
import json
import logging
import os
import pwd
import re
import secrets
import shutil
import signal
import sys
import time
import uuid

import zmq
import zmq.asyncio
from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector, web
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

PORT = 49999
ENVS = "http://127.0.0.1:49983/envs"
MACHINE_ID = "/etc/machine-id"
SETTINGS = "/run/wrenn/settings"  # the guest agent writes it (internal/guest/agent/publish.go)
USER, HOME = "user", "/home/user"
RUNTIME_DIR = "/run/code-interpreter"

MAX_BODY = 64 << 20  # bytes of a request that runs code
MAX_CONTEXT_BODY = 64 << 10  # bytes of a request about contexts, which everyone may send
MAX_CHECKS = 4  # access tokens not known yet that the guest checks at once
MAX_CONTEXTS = 64
MAX_WAITING = 64  # executions that wait for one context
MAX_BUFFER = 4 << 20  # bytes of output that wait for a client before the kernel is stopped
MAX_MESSAGE_BUFFER = 1024  # messages that wait for a client
KEEPALIVE = 5.0  # seconds between lines
TICK = 0.2  # seconds between looks at the client and at the kernel
START_TIMEOUT = 300.0  # seconds until a kernel has to be ready; emulated guests on busy machines need minutes
INTERRUPT_EVERY = 2.0  # seconds between interrupts of code that does not end
INTERRUPT_LIMIT = 30.0  # seconds until such a kernel is started again
QUIET = 1.0  # seconds until kernels of other languages than Python are prepared in a clone
CONTROL_TIMEOUT = 10.0  # seconds for code of the server itself
RENEW_TIMEOUT = 5.0  # seconds that a request waits until a clone is prepared

ALIASES = {"js": "javascript", "ts": "javascript", "typescript": "javascript", "python": "python", "py": "python", "sh": "bash"}
# Names of kernels by language, where they differ.
KERNELS = {"python": "python3", "r": "ir"}
LANGUAGE = re.compile(r"^[A-Za-z0-9_.+-]{1,64}$")
ENV_LIMIT = 256 << 10
SETTINGS_LIMIT = 1 << 20  # bytes of the file SETTINGS

FIELDS = {
    "text/plain": "text",
    "text/html": "html",
    "text/markdown": "markdown",
    "image/svg+xml": "svg",
    "image/png": "png",
    "image/jpeg": "jpeg",
    "application/pdf": "pdf",
    "text/latex": "latex",
    "application/json": "json",
    "application/javascript": "javascript",
    "e2b/data": "data",
    "e2b/chart": "chart",
}

log = logging.getLogger("code-interpreter")


class Refused(Exception):
    """An answer with a status and a plain text."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status, self.text = status, text


def r_text(text):
    """Returns a string of R. It has no place for NUL, which no variable of the environment holds."""
    out = []
    for c in str(text):
        if c in '\\"':
            out.append("\\" + c)
        elif c >= " " and c != "\x7f":
            out.append(c)
        elif c != "\0":
            out.append(f"\\u{ord(c):04x}")
    return '"' + "".join(out) + '"'


def r_operation(name, argument):
    """Returns code of R that shows nothing, for the operations of code_interpreter.py."""
    names = "c(" + ", ".join(r_text(n) for n in argument) + ")" if argument else "character()"
    values = "list(" + ", ".join(r_text(v) for v in (argument or {}).values()) + ")"
    setenv = f"do.call(Sys.setenv, stats::setNames({values}, {names}))" if argument else "NULL"
    saved = 'getOption("code_interpreter")'
    code = {
        "set_env": setenv,
        "push_env": f"options(code_interpreter = c(list(Sys.getenv({names}, NA, names = TRUE)), {saved})); {setenv}",
        "pop_env": (
            f"for (x in {saved}[1]) {{ Sys.unsetenv(names(x)[is.na(x)]); y <- x[!is.na(x)]; "
            f"if (length(y)) do.call(Sys.setenv, as.list(y)) }}; options(code_interpreter = {saved}[-1])"
        ),
        "reseed": "set.seed(NULL)",
    }.get(name)
    return code and f"invisible(local({{ {code} }}))"


def port():
    return int(os.environ.get("CODE_INTERPRETER_PORT", PORT))


def machine_id():
    try:
        with open(MACHINE_ID, encoding="ascii") as f:
            return f.read().strip()
    except OSError:
        return ""


def language_of(name):
    if name is None or name == "":
        return "python"
    if not isinstance(name, str) or not LANGUAGE.match(name):
        raise Refused(400, "language must be the name of a language")
    name = name.lower()
    return ALIASES.get(name, name)


def result_of(data, main):
    """Returns the line of a result with the given MIME bundle."""
    line, extra = {"type": "result", "is_main_result": main}, {}
    for mime, value in data.items():
        field = FIELDS.get(mime)
        if field is None:
            extra[mime] = value
            continue
        if field == "text" and isinstance(value, str) and len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        line[field] = value
    line["extra"] = extra
    return line


def lines_of(message):
    """Returns the lines for one message of a kernel."""
    kind, content = message["msg_type"], message["content"]
    if kind == "stream":
        stamp = message["header"]["date"]
        if isinstance(stamp, datetime.datetime):
            stamp = stamp.isoformat()
        return [{"type": "stderr" if content["name"] == "stderr" else "stdout", "text": content["text"], "timestamp": stamp}]
    if kind in ("display_data", "update_display_data"):
        return [result_of(content["data"], False)]
    if kind == "execute_result":
        return [result_of(content["data"], True)]
    if kind == "error":
        return [{"type": "error", "name": content["ename"], "value": content["evalue"], "traceback": "\n".join(content["traceback"])}]
    if kind == "execute_input":
        return [{"type": "number_of_executions", "execution_count": content["execution_count"]}]
    return []


def encode(line):
    """Returns the bytes of one line. It is ASCII, because clients decode chunks one by one."""
    return json.dumps(line, default=str).encode("ascii") + b"\n"


UNEXPECTED_END = {
    "type": "error",
    "name": "UnexpectedEndOfExecution",
    "value": "Connection to the execution was closed before the execution was finished",
    "traceback": "",
}
END = {"type": "end_of_execution"}


class KernelDied(Exception):
    pass


class Kernel:
    """One running kernel. Its output goes to the queue of the execution that it belongs to."""

    def __init__(self, name, cwd, key):
        self.name, self.cwd, self.key = name, cwd, key
        self.manager = self.client = self.reader = None
        self.executions = {}  # queues by the id of the request
        self.stopped = False

    async def start(self):
        self.manager = AsyncKernelManager(kernel_name=self.name, transport="ipc")
        self.manager.connection_file = os.path.join(RUNTIME_DIR, f"kernel-{uuid.uuid4().hex}.json")
        env = environment()
        await self.manager.start_kernel(cwd=self.cwd, env=env, preexec_fn=self.enter)
        self.client = self.manager.client()
        # No output may be dropped: stop() bounds what waits.
        self.client.context.sockopts[zmq.RCVHWM] = 0
        self.client.start_channels(stdin=False, hb=False)
        self.reader = asyncio.ensure_future(self.read())
        await self.await_ready()

    def enter(self):
        """Runs in the new process, as root: it moves it into a cgroup and changes the account."""
        account = pwd.getpwnam(USER)
        os.chown(self.manager.connection_file, account.pw_uid, account.pw_gid)
        try:
            with open("/proc/self/cgroup", encoding="ascii") as f:
                own = next(line.split("::", 1)[1].strip() for line in f if line.startswith("0::"))
            group = f"/sys/fs/cgroup{os.path.dirname(own)}/kernel-{self.key}"
            os.makedirs(group, exist_ok=True)
            with open(group + "/cgroup.procs", "w", encoding="ascii") as f:
                f.write("0")
        except (OSError, StopIteration):
            pass  # no cgroups here
        os.initgroups(USER, account.pw_gid)
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
        os.umask(0o022)

    async def await_ready(self):
        """Waits until the kernel answers and its output reaches the server."""
        end = time.monotonic() + START_TIMEOUT
        while time.monotonic() < end:
            queue = Output()
            request = self.client.kernel_info()
            self.executions[request] = queue
            try:
                if await queue.next(2.0) is not None:
                    return
                if not await self.manager.is_alive():
                    break
            finally:
                self.executions.pop(request, None)
        raise KernelDied()

    async def read(self):
        """Hands each message on the output channel to its execution."""
        while True:
            message = await self.client.get_iopub_msg(timeout=None)
            queue = self.executions.get(message["parent_header"].get("msg_id"))
            if queue is None:
                continue
            queue.put(message)
            if queue.full():
                self.signal(signal.SIGSTOP)
                while queue.full() and not queue.abandoned:
                    await queue.drained()
                self.signal(signal.SIGCONT)

    def signal(self, number):
        try:
            os.killpg(self.manager.provisioner.pgid, number)
        except (OSError, AttributeError, TypeError):
            pass

    async def interrupt(self):
        try:
            await self.manager.interrupt_kernel()
        except Exception as err:  # it has ended
            log.info("interrupt: %r", err)

    async def alive(self):
        return self.manager is not None and await self.manager.is_alive()

    def begin(self, code, silent=False, record=True):
        """Sends code and returns the id of the request and the queue of its output."""
        queue = Output()
        request = self.client.execute(code, silent=silent, store_history=record and not silent, allow_stdin=False, stop_on_error=False)
        self.executions[request] = queue
        return request, queue

    async def control(self, code, timeout=CONTROL_TIMEOUT):
        """Runs code of the server itself. It returns whether the code has ended well."""
        request, queue = self.begin(code, silent=True)
        failed = False
        end = time.monotonic() + timeout
        try:
            while time.monotonic() < end:
                message = await queue.next(TICK)
                if message is None:
                    if not await self.alive():
                        raise KernelDied()
                elif message["msg_type"] == "error":
                    log.warning("%s: control code failed: %s", self.name, message["content"].get("evalue"))
                    failed = True
                elif is_idle(message):
                    return not failed
            log.warning("%s: control code did not end", self.name)
            return False
        finally:
            self.executions.pop(request, None)

    async def end(self):
        if self.reader:
            self.reader.cancel()
        if self.client:
            self.client.stop_channels()
        if self.manager:
            self.signal(signal.SIGKILL)
            try:
                await self.manager.shutdown_kernel(now=True)
            except Exception as err:
                log.info("shutdown: %r", err)
            for name in os.listdir(RUNTIME_DIR):
                if name.startswith(os.path.basename(self.manager.connection_file)[: -len(".json")]):
                    remove(os.path.join(RUNTIME_DIR, name))


def remove(path):
    try:
        os.remove(path)
    except OSError:
        pass


def environment():
    """Returns the environment of kernels: that of a login of the user."""
    keep = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "LC_ALL", "TZ")}
    keep.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    keep.setdefault("LANG", "C.UTF-8")
    keep.update(HOME=HOME, USER=USER, LOGNAME=USER, SHELL="/bin/bash", MPLBACKEND="module://matplotlib_inline.backend_inline")
    keep["E2B_SANDBOX"] = "true"
    keep["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # the debugger of kernels would warn of Debian's Python
    return keep


def is_idle(message):
    return message["msg_type"] == "status" and message["content"]["execution_state"] == "idle"


class Output:
    """The messages of one execution that have not been sent yet."""

    def __init__(self):
        self.messages, self.bytes = collections.deque(), 0
        self.arrived, self.room = asyncio.Event(), asyncio.Event()
        self.abandoned = False  # nobody reads it any more: messages are dropped

    def put(self, message):
        if self.abandoned and not is_idle(message):
            return
        size = sum(len(str(v)) for v in message["content"].values()) if message["msg_type"] != "status" else 0
        self.messages.append((message, size))
        self.bytes += size
        self.arrived.set()

    def full(self):
        return self.bytes > MAX_BUFFER or len(self.messages) > MAX_MESSAGE_BUFFER

    async def drained(self):
        self.room.clear()
        await self.room.wait()

    def abandon(self):
        self.abandoned = True
        self.messages = collections.deque((m, s) for m, s in self.messages if is_idle(m))
        self.bytes = 0
        self.room.set()

    async def next(self, timeout):
        """Returns the next message, or None after timeout seconds."""
        if not self.messages:
            self.arrived.clear()
            try:
                await asyncio.wait_for(self.arrived.wait(), timeout)
            except asyncio.TimeoutError:
                return None
        message, size = self.messages.popleft()
        self.bytes -= size
        if not self.full():
            self.room.set()
        return message


class Operation:
    """An operation of the server that the kernel runs before the code that is sent next.
    Nobody waits for it meanwhile."""

    def __init__(self, kernel, code, succeeded):
        self.kernel, self.succeeded = kernel, succeeded
        self.request, self.output = kernel.begin(code, silent=True)
        self.failed = self.ended = False

    async def wait(self):
        """Waits until it has ended, within a bound."""
        end = time.monotonic() + CONTROL_TIMEOUT
        while not self.ended and time.monotonic() < end:
            message = await self.output.next(TICK)
            if message is not None:
                self.see(message)
            elif not await self.kernel.alive():
                break

    def see(self, message):
        self.ended = self.ended or is_idle(message)
        if message["msg_type"] == "error":
            self.failed = True
            log.warning("%s: an operation failed: %s", self.kernel.name, message["content"].get("evalue"))

    def close(self):
        """Forgets the operation, and notes its success if it has ended well."""
        self.kernel.executions.pop(self.request, None)
        for message, _ in self.output.messages:
            self.see(message)
        if self.ended and not self.failed:
            self.succeeded()


class Context:
    """A kernel with a state, which outlives its executions. The lock is held by one execution."""

    def __init__(self, id, language, cwd):
        self.id, self.language, self.cwd = id, language, cwd
        self.kernel = None
        self.lock = asyncio.Lock()
        self.waiting = 0
        self.identity = None
        self.has_envs = False
        self.early_envs = None  # variables that the kernel has until its first run, which may change them
        self.removed = False

    def describe(self):
        return {"id": self.id, "language": self.language, "cwd": self.cwd}

    async def ensure(self):
        """Starts the kernel if it does not run. The lock must be held."""
        if self.kernel and await self.kernel.alive():
            return
        await self.drop()
        name = KERNELS.get(self.language, self.language)
        self.kernel = Kernel(name, self.cwd, re.sub("[^a-z0-9]", "", self.id)[:32])
        try:
            await self.kernel.start()
        except BaseException:
            await self.drop()
            raise
        self.identity, self.has_envs, self.early_envs = machine_id(), False, None

    async def drop(self):
        kernel, self.kernel = self.kernel, None
        if kernel:
            await kernel.end()

    def renew(self, envs):
        """Has the kernel prepare itself for code in the sandbox as it is now, and returns the
        operations."""
        operations = []

        def begin(name, argument, succeeded):
            code = self.operation(name, argument)
            if code is None:
                succeeded()
            else:
                operations.append(Operation(self.kernel, code, succeeded))

        identity = machine_id()
        if identity != self.identity:
            begin("reseed", None, lambda: setattr(self, "identity", identity))
        if not self.has_envs:
            early, self.early_envs = self.early_envs, None
            if early == envs:
                self.has_envs = True
                return operations
            if early is not None:
                begin("pop_env", None, lambda: None)
            begin("set_env", envs, lambda: setattr(self, "has_envs", True))
        return operations

    async def renew_early(self, envs):
        """Gives a kernel that runs new random state before somebody asks for an execution. One of Python
        gets the variables in envs too, unless envs is None or a user has run code."""
        async with self.lock:
            if self.removed or not self.kernel or not await self.kernel.alive():
                return
            identity = machine_id()
            if identity != self.identity and await self.operate("reseed"):
                self.identity = identity
            if envs is None or self.language != "python" or self.has_envs or envs == self.early_envs:
                return
            early, self.early_envs = self.early_envs, None
            if early is not None:
                await self.operate("pop_env")
            if await self.operate("push_env", envs):
                self.early_envs = envs

    def operation(self, name, argument=None):
        """Returns the code of an operation that the kernels of this image know, and None for others."""
        if self.language == "python":
            call = json.dumps(json.dumps(argument))
            return f"__import__('code_interpreter').{name}({call})"
        if self.language in ("bash", "javascript", "java"):
            return "\0" + json.dumps({"operation": name, "argument": argument})
        if self.language == "r":
            return r_operation(name, argument)
        return None

    async def operate(self, name, argument=None, timeout=CONTROL_TIMEOUT):
        """Runs an operation and waits for its end. It returns whether it has ended well."""
        code = self.operation(name, argument)
        return code is None or await self.kernel.control(code, timeout)

    async def kill(self):
        """Ends the kernel, also within an execution, which then ends."""
        if self.kernel:
            self.kernel.signal(signal.SIGKILL)


UNAUTHORIZED = "Unauthorized: the header X-Access-Token must have the access token of the sandbox"


def settings():
    """Returns the digest of the access token and the variables of the sandbox, which the guest agent has
    left for root. It returns None if it has left none, has left those of the sandbox from which this
    one was copied, or writes them now."""
    try:
        with open(SETTINGS, "rb") as f:
            text = f.read(SETTINGS_LIMIT + 1)
        if not text or len(text) > SETTINGS_LIMIT:
            return None
        found = json.loads(text)
        if found["machine_id"] != machine_id():
            return None
        digest, envs = bytes.fromhex(found["access_token_sha256"]), found["envs"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    if len(digest) != hashlib.sha256().digest_size or not isinstance(envs, dict):
        return None
    return digest, {k: v for k, v in envs.items() if isinstance(v, str)}


class Guest:
    """The guest agent, which knows the access token and the variables of the sandbox."""

    def __init__(self):
        self.session = None
        self.known = None  # the machine id, the digest of the token, and the variables
        self.checks = asyncio.Semaphore(MAX_CHECKS)

    async def admit(self, token):
        """Returns the variables of the sandbox to the holder of its token, and refuses others.

        The token whose digest the guest agent has left, and one that the guest has accepted before,
        wait for no other. The guest checks a few others
        at once, in the order of their arrival, and the time limit of a check does not count the
        wait: strangers can neither occupy the guest nor have the owner's first run refused.
        """
        if not token:
            raise Refused(401, UNAUTHORIZED)
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        left = settings()
        if left is not None and hmac.compare_digest(left[0], digest):
            return left[1]
        if self.known and hmac.compare_digest(self.known[1], digest):
            return await self.check(token, digest)
        async with self.checks:
            return await self.check(token, digest)

    async def check(self, token, digest):
        """Does the work of admit. It asks the guest unless it has accepted the token in this machine."""
        identity = machine_id()
        if self.known and self.known[0] == identity and hmac.compare_digest(self.known[1], digest):
            return self.known[2]
        status, envs = await self.ask(token)
        if status in (401, 403):
            raise Refused(401, UNAUTHORIZED)
        if envs is None:
            raise Refused(503, "the guest agent does not answer; try again")
        self.known = identity, digest, envs
        return envs

    async def ask(self, token):
        """Returns the status of an answer, and the variables or None."""
        if self.session is None:
            # A kept connection would not outlive a pause.
            self.session = ClientSession(timeout=ClientTimeout(total=5), connector=TCPConnector(force_close=True))
        try:
            async with self.session.get(ENVS, headers={"X-Access-Token": token} if token else {}) as answer:
                if answer.status != 200:
                    return answer.status, None
                envs = json.loads(await answer.content.read(ENV_LIMIT))
        except (ClientError, OSError, ValueError, asyncio.TimeoutError):
            return 0, None
        if not isinstance(envs, dict):
            return 0, None
        return 200, {k: v for k, v in envs.items() if isinstance(v, str)}


def watch(path, changed):
    """Calls changed after each change of the file at path, where the system can tell."""
    libc = ctypes.CDLL(None, use_errno=True)
    # IN_ATTRIB, IN_CLOSE_WRITE, IN_DELETE_SELF, IN_MOVE_SELF of inotify(7)
    events = 0x4 | 0x8 | 0x400 | 0x800
    fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)

    def read():
        try:
            os.read(fd, 4096)
        except BlockingIOError:
            pass
        # The path may lead to another file now.
        libc.inotify_add_watch(fd, os.fsencode(path), events)
        changed()

    if fd < 0 or libc.inotify_add_watch(fd, os.fsencode(path), events) < 0:
        log.warning("%s cannot be watched: %s", path, os.strerror(ctypes.get_errno()))
        return
    asyncio.get_running_loop().add_reader(fd, read)


def variables(given):
    if given is None:
        return {}
    if not isinstance(given, dict) or any(not isinstance(v, str) or not k or "=" in k or "\0" in k + v for k, v in given.items()):
        raise Refused(400, "env_vars must map names to texts")
    if sum(len(k) + len(v) for k, v in given.items()) > ENV_LIMIT:
        raise Refused(400, f"env_vars may have at most {ENV_LIMIT} characters")
    if not all(encodes(k + v) for k, v in given.items()):
        raise Refused(400, "env_vars must have no surrogate without its pair")
    return given


def encodes(text):
    """Reports whether text has a form in UTF-8: JSON can name one surrogate without the other."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class Server:
    def __init__(self):
        self.contexts = {}
        self.defaults = {}  # ids of contexts by language
        self.ready = False
        self.guest = Guest()
        self.moved = asyncio.Event()  # the machine id may have changed
        self.secret = None  # admits the rehearsal that is under way
        self.prepared = None  # the machine id that the server and Python's kernels are prepared for
        self.preparing = asyncio.Condition()  # notifies of changes of prepared

    # Contexts

    def context(self, id):
        found = self.contexts.get(id)
        if found is None:
            raise Refused(404, f"Context {id} not found")
        return found

    async def create(self, language, cwd=None):
        cwd = HOME if cwd in (None, "") else cwd
        if not isinstance(cwd, str) or not cwd.startswith("/") or "\0" in cwd or not encodes(cwd):
            raise Refused(400, "cwd must be an absolute path")
        if len(self.contexts) >= MAX_CONTEXTS:
            raise Refused(429, f"there may be {MAX_CONTEXTS} contexts; remove one")
        try:
            KernelSpecManager().get_kernel_spec(KERNELS.get(language, language))
        except NoSuchKernel:
            raise Refused(400, f"there is no kernel for the language {language}") from None
        if not os.path.isdir(cwd):
            try:
                os.makedirs(cwd, exist_ok=True)
                account = pwd.getpwnam(USER)
                os.chown(cwd, account.pw_uid, account.pw_gid)
            except OSError as err:
                raise Refused(400, f"cwd {cwd} cannot be used: {err.strerror}") from None
        made = Context(str(uuid.uuid4()), language, cwd)
        self.contexts[made.id] = made
        try:
            async with made.lock:
                await made.ensure()
        except KernelDied:
            self.forget(made)
            raise Refused(500, f"the kernel for {language} could not be started") from None
        except BaseException:
            self.forget(made)
            raise
        return made

    def forget(self, context):
        context.removed = True
        self.contexts.pop(context.id, None)
        for language, id in list(self.defaults.items()):
            if id == context.id:
                del self.defaults[language]

    async def default(self, language):
        """Returns the default context of a language. Concurrent first uses share one."""
        while True:
            have = self.defaults.get(language)
            if isinstance(have, asyncio.Future):
                await asyncio.wait([have])
                continue
            if have is not None:
                return self.contexts[have]
            self.defaults[language] = made = asyncio.get_running_loop().create_future()
            try:
                context = await self.create(language)
                self.defaults[language] = context.id
                return context
            finally:
                made.set_result(None)
                if self.defaults.get(language) is made:
                    del self.defaults[language]

    async def prepare(self):
        """Starts the contexts that exist from the start, and runs the code that users run first."""
        try:
            for language in ("python", "javascript"):
                context = await self.default(language)
                async with context.lock:
                    await context.operate("warm", timeout=START_TIMEOUT)
        except Exception:
            log.exception("the default contexts could not be prepared")
            os._exit(1)  # run.sh starts the server again
        await self.guest.ask("")  # loads the code for it
        await self.rehearse()
        await self.note_prepared(machine_id())
        self.ready = True

    async def busy(self):
        """Waits a moment and reports whether code runs or waits then."""
        await asyncio.sleep(QUIET)
        return any(c.waiting or c.lock.locked() for c in self.contexts.values())

    async def follow(self):
        """Prepares the kernels of a clone as soon as it is one. Python comes first. The others wait
        until no code runs, because they would take its processor."""
        watch(MACHINE_ID, self.moved.set)
        if os.path.exists(SETTINGS):
            watch(SETTINGS, self.moved.set)
        while True:
            await self.moved.wait()
            self.moved.clear()
            identity, left = machine_id(), settings()
            if not identity:
                continue  # it is being written
            envs = left and left[1]
            # In a clone each page of memory costs time at its first use. This is for those of a request
            # to the guest agent, which is needed only if it leaves no settings.
            ask = None if left else asyncio.ensure_future(self.guest.ask(""))
            again = self.prepared == identity
            first = [c for c in self.contexts.values() if c.language == "python"]
            others = [c for c in self.contexts.values() if c.language != "python"]
            await self.renew_early(first, envs)
            if ask:
                await ask
            if not again:
                await self.rehearse()
                await self.note_prepared(identity)
            for context in others:
                while await self.busy():
                    pass
                await self.renew_early([context], envs)

    async def renew_early(self, contexts, envs):
        for context in contexts:
            try:
                await context.renew_early(envs)
            except Exception as err:  # the next execution tries it too
                log.warning("context %s: %r", context.id, err)

    async def rehearse(self):
        """Sends the server a request to run code, and records nothing of it. In a clone each page of
        memory costs time at its first use, and this uses those of a user's request."""
        context = self.contexts.get(self.defaults.get("python"))
        if context is None or context.kernel is None or context.has_envs:
            return  # a user has used it
        self.secret = secrets.token_hex(32)
        try:
            headers = {"X-Access-Token": self.secret}
            async with self.guest.session.post(f"http://127.0.0.1:{port()}/execute", json={"code": "print()"}, headers=headers) as answer:
                await answer.read()
        except (ClientError, OSError, asyncio.TimeoutError) as err:
            log.warning("rehearsal: %r", err)
        finally:
            self.secret = None

    def rehearses(self, token):
        """Reports whether a request with this token is the server's own."""
        return bool(token and self.secret) and hmac.compare_digest(token.encode("utf-8", "surrogateescape"), self.secret.encode())

    async def note_prepared(self, identity):
        async with self.preparing:
            self.prepared = identity
            self.preparing.notify_all()

    # Requests

    async def health(self, _):
        if not self.ready:
            raise Refused(503, "starting")
        return web.json_response("OK")

    async def renewed(self, _):
        """Answers once the server is prepared for the sandbox that it is in now."""
        try:
            async with self.preparing:
                await asyncio.wait_for(self.preparing.wait_for(lambda: self.prepared == machine_id()), RENEW_TIMEOUT)
        except asyncio.TimeoutError:
            raise Refused(503, "the sandbox is being prepared") from None
        return web.json_response("OK")

    async def list_contexts(self, _):
        return web.json_response([c.describe() for c in self.contexts.values()])

    async def create_context(self, request):
        body = await body_of(request, MAX_CONTEXT_BODY)
        made = await self.create(language_of(body.get("language")), body.get("cwd"))
        return web.json_response(made.describe())

    async def remove_context(self, request):
        context = self.context(request.match_info["id"])
        self.forget(context)
        await context.kill()
        async with context.lock:
            await context.drop()
        return web.json_response(None)

    async def restart_context(self, request):
        context = self.context(request.match_info["id"])
        await context.kill()
        async with context.lock:
            await context.drop()
            try:
                await context.ensure()
            except KernelDied:
                raise Refused(500, "the kernel could not be started") from None
        return web.json_response(None)

    async def execute(self, request):
        # Strangers reach this too: nothing of a body is kept before its sender is admitted.
        token = request.headers.get("X-Access-Token")
        rehearsal = self.rehearses(token)
        sandbox = {} if rehearsal else await self.guest.admit(token)
        body = await body_of(request, MAX_BODY)
        code, id, language = body.get("code"), body.get("context_id"), body.get("language")
        if not isinstance(code, str):
            raise Refused(400, "code is required")
        if not encodes(code):
            raise Refused(400, "code must have no surrogate without its pair")
        if id and language:
            raise Refused(400, "Only one of context_id or language can be provided")
        envs = variables(body.get("env_vars"))
        context = self.context(id) if id else await self.default(language_of(language))
        if context.waiting >= MAX_WAITING:
            raise Refused(429, f"{MAX_WAITING} executions wait for this context")
        run = (Rehearsal if rehearsal else Execution)(context, request, code, envs, sandbox)
        await run.response.prepare(request)
        await run.serve()
        return run.response


class Gone(Exception):
    """The client has hung up."""


class Execution:
    """One run of code for one client."""

    def __init__(self, context, request, code, envs, sandbox):
        self.context, self.request, self.code = context, request, code
        self.envs, self.sandbox = envs, sandbox  # the variables of this run and of the sandbox
        self.response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"})
        self.last = time.monotonic()

    async def serve(self):
        context = self.context
        context.waiting += 1
        try:
            if not await self.turn():
                return
        finally:
            context.waiting -= 1
        try:
            if context.removed:
                raise KernelDied()
            await context.ensure()
            await self.run()
            await self.send(END)
        except (KernelDied, zmq.ZMQError):
            await self.fail()
        except Gone:
            pass
        finally:
            context.lock.release()

    async def turn(self):
        """Waits for the context. It returns False if the client goes away meanwhile."""
        lock = asyncio.ensure_future(self.context.lock.acquire())
        try:
            while not lock.done():
                await asyncio.wait([lock], timeout=TICK)
                if not lock.done():
                    await self.idle()
            return True
        except Gone:
            if not lock.cancel():
                await lock
                self.context.lock.release()
            return False

    async def run(self):
        kernel = self.context.kernel
        operations = self.context.renew(self.sandbox)
        try:
            if self.envs:
                await self.context.operate("push_env", self.envs)
            request, output = kernel.begin(self.code)
            try:
                await self.forward(kernel, output)
            except Gone:
                output.abandon()
                for operation in operations:
                    await operation.wait()  # an interrupt is for the code alone
                await self.interrupt(kernel, output)
            finally:
                kernel.executions.pop(request, None)
                output.abandon()
        finally:
            for operation in operations:
                operation.close()
        if self.envs:
            await self.context.operate("pop_env")

    async def forward(self, kernel, output):
        while True:
            message = await output.next(TICK)
            if message is None:
                await self.idle()
                if not await kernel.alive() and not output.messages:
                    raise KernelDied()
            elif is_idle(message):
                return
            else:
                for line in lines_of(message):
                    await self.send(line)

    async def interrupt(self, kernel, output):
        """Interrupts code whose client has gone, until it ends. A kernel that does not stop is ended."""
        end = time.monotonic() + INTERRUPT_LIMIT
        while time.monotonic() < end:
            await kernel.interrupt()
            again = time.monotonic() + INTERRUPT_EVERY
            while time.monotonic() < again:
                message = await output.next(TICK)
                if message is not None and is_idle(message):
                    return
                if message is None and not await kernel.alive():
                    return
        log.warning("context %s does not react to interrupts; starting its kernel again", self.context.id)
        await self.context.drop()
        raise Gone()

    async def idle(self):
        """Checks the client, and keeps its connection alive."""
        if self.request.transport is None or self.request.transport.is_closing():
            raise Gone()
        if time.monotonic() - self.last >= KEEPALIVE:
            await self.send({"type": "keepalive"})

    async def send(self, line):
        if self.request.transport is None or self.request.transport.is_closing():
            raise Gone()
        self.last = time.monotonic()
        try:
            await self.response.write(encode(line))
        except (ConnectionError, RuntimeError):
            raise Gone() from None

    async def fail(self):
        try:
            await self.send(UNEXPECTED_END)
            await self.send(END)
        except Gone:
            pass


class Rehearsal(Execution):
    """One run of code for the server itself. The kernel does not record it."""

    async def run(self):
        kernel = self.context.kernel
        if self.context.has_envs:
            return  # a user has run code already
        await self.context.operate("set_env", {})
        settings()  # a user's request reads them
        request, output = kernel.begin(self.code, record=False)
        try:
            await self.forward(kernel, output)
        finally:
            kernel.executions.pop(request, None)
            output.abandon()


async def body_of(request, limit):
    """Returns the JSON object that a request has. It keeps at most limit bytes."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refused(415, "the body must not be compressed")
    large = Refused(413, f"the body of this request may have at most {limit} bytes")
    if (request.content_length or 0) > limit:
        raise large
    text = bytearray()
    async for part in request.content.iter_any():
        if len(text) + len(part) > limit:
            raise large
        text += part
    try:
        body = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError):
        raise Refused(400, "the body must be JSON") from None
    if not isinstance(body, dict):
        raise Refused(400, "the body must be a JSON object")
    return body


@web.middleware
async def refusals(request, handler):
    try:
        return await handler(request)
    except Refused as err:
        return web.Response(status=err.status, text=err.text)


def runner_of(server):
    """Returns the HTTP server. Bodies stay as they are: a short one could become large otherwise."""
    app = web.Application(middlewares=[refusals])
    app.add_routes(
        [
            web.get("/health", server.health),
            web.get("/renewed", server.renewed),
            web.post("/execute", server.execute),
            web.get("/contexts", server.list_contexts),
            web.post("/contexts", server.create_context),
            web.delete("/contexts/{id}", server.remove_context),
            web.post("/contexts/{id}/restart", server.restart_context),
        ]
    )
    return web.AppRunner(app, access_log=None, auto_decompress=False)


async def main():
    shutil.rmtree(RUNTIME_DIR, ignore_errors=True)
    os.makedirs(RUNTIME_DIR, mode=0o755)
    account = pwd.getpwnam(USER)
    os.chown(RUNTIME_DIR, account.pw_uid, account.pw_gid)
    server = Server()
    runner = runner_of(server)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", port(), backlog=1024, reuse_address=True).start()
    await server.prepare()
    log.info("ready")
    await server.follow()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(message)s")
    logging.getLogger("traitlets").setLevel(logging.WARNING)
    asyncio.run(main())
