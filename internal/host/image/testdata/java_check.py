"""Checks the kernel for Java: script_kernel.py with Driver.java. It runs in the template's root."""

import json
import os
import subprocess
import sys
import time

from jupyter_client import KernelManager

LIMIT = 120  # seconds for the answer to one run
SPEC = "/tmp/jupyter/kernels/java"
HERE = os.path.dirname(sys.argv[1])


class Outcome:
    """The messages that one run has led to."""

    def __init__(self):
        self.result = self.error = None
        self.streams = []

    def see(self, message):
        kind, content = message["msg_type"], message["content"]
        if kind == "stream":
            self.streams.append((content["name"], content["text"]))
        elif kind == "execute_result":
            self.result = content["data"]["text/plain"]
        elif kind == "error":
            self.error = content["ename"], content["evalue"], "\n".join(content["traceback"])

    def text(self, stream):
        return "".join(text for name, text in self.streams if name == stream)


def begin(code):
    return client.execute(code, allow_stdin=False, stop_on_error=False)


def outcome(request, seen=lambda _: None):
    """Waits for the end of a run. It calls seen after each message."""
    out, end = Outcome(), time.monotonic() + LIMIT
    while True:
        message = client.get_iopub_msg(timeout=max(0, end - time.monotonic()))
        if message["parent_header"].get("msg_id") != request:
            continue
        out.see(message)
        if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            return out
        seen(out)


def run(code):
    return outcome(begin(code))


def operate(operation, argument=None):
    want(f"errors of {operation}", run("\0" + json.dumps({"operation": operation, "argument": argument})).error, None)


def want(what, got, expected):
    if got != expected:
        sys.exit(f"{what}: got {got!r}, want {expected!r}")


def interrupted(what, code):
    """Runs code, which writes a line, interrupts it then, and checks that it ends."""
    told = []

    def seen(out):
        if out.text("stdout").endswith("\n") and not told:
            told.append(True)
            manager.interrupt_kernel()

    want(f"an interrupt of {what}", outcome(begin(code), seen).error, ("KeyboardInterrupt", "interrupted", ""))


def results():
    for code, expected in (
        ("1 + 1", "2"),
        ("", None),
        ("// nothing", None),
        ("int n = 5", None),
        ("n = 6", None),
        ("n", "6"),
        ("n;", "6"),
        ("n /* six */ // six", "6"),
        ("int a = 1; int b = 2;\na + b", "3"),
        ("a + b; int c = 3;", None),
        ('"a\\"b\\\\c\\n\\t\\u0007"', 'a"b\\c\n\t\x07'),
        ('"\U0001f600 \\ud83d\\ude00 \\ud83d"', "\U0001f600 \U0001f600 ?"),
        ("'c'", "c"),
        ("(Object) null", None),
        ("new int[][] {{1}, {2, 3}}", "[[1], [2, 3]]"),
        ("List.of(1, 2).stream().map(x -> x * 2).collect(Collectors.toList())", "[2, 4]"),
        ("System.out.println()", None),
        ("for (int i = 0; i < 3; i++) {\n  n += i;\n}\nn", "9"),
        ("int twice(int x) {\n  return 2 * x;\n}\n\nclass Pair {\n  int a = twice(4);\n}\nnew Pair().a", "8"),
        ("int twice(int x) { return 20 * x; }\nnew Pair().a", "80"),
        ("record Point(int x, int y) {}\nnew Point(1, 2)", "Point[x=1, y=2]"),
        ("enum Kind { A, B }\nKind.valueOf(\"B\").ordinal()", "1"),
        ('String n = "other"; n', "other"),
        ("import java.util.concurrent.atomic.*;\nnew AtomicInteger(7)", "7"),
        ("if (true) { n = \"x\"; } else n = \"y\"; n", "x"),
    ):
        got = run(code)
        want(f"the error of {code!r}", got.error, None)
        want(f"the result of {code!r}", got.result, expected)


def output():
    want("one line", run('System.out.println("Hello, World!")').streams, [("stdout", "Hello, World!"), ("stdout", "\n")])
    got = run('System.out.print("a"); System.err.print("b"); System.out.print("c"); "d"')
    want("two streams", (got.streams, got.result), ([("stdout", "a"), ("stderr", "b"), ("stdout", "c")], "d"))
    got = run('System.out.print("x" + "\u00e4".repeat(200_000)); System.out.write(0xc3); System.out.write(0xa4); System.out.flush();')
    want("long output", got.text("stdout") == "x" + "\u00e4" * 200_001, True)
    got = run("for (int i = 0; i < 20_000; i++) System.out.println(i);")
    want("many lines", got.text("stdout") == "".join(f"{i}\n" for i in range(20_000)), True)
    got = run('new ProcessBuilder("echo", "child").inheritIO().start().waitFor()')
    want("the output of a child", (got.text("stdout"), got.result), ("child\n", "0"))


def errors():
    for code, name, value, *traceback in (
        ("int z = none;", "CompilationException", "cannot find symbol\n  symbol:   variable none", ":1: error", "int z = none;\n        ^"),
        ("int ok = 1;\n\n  int bad = ok +* 2;", "CompilationException", "illegal start of expression", ":3: error", "  int bad = ok +* 2;\n                ^"),
        ("foo(", "CompilationException", None),
        ("void m()", "CompilationException", None),
        ("int x = 1\nint y = 2", "CompilationException", None),
        ("/* open", "CompilationException", None),
        ("import no.such.Thing;", "CompilationException", "package no.such does not exist"),
        ("\n1 / 0", "ArithmeticException", "/ by zero", ":2)"),
        ("int before;\n // one\n/* two\n */ int z =\n1 / 0", "ArithmeticException", "/ by zero", "java.lang.ArithmeticException: / by zero\n    at (cell ", ":4)"),
        (
            'void deep() {\n  throw new IllegalStateException("bad", new RuntimeException("why"));\n}\ndeep();',
            "IllegalStateException", "bad", "    at deep(cell ", ":2)\n    at (cell ", ":4)\nCaused by: java.lang.RuntimeException: why",
        ),
        ('class Own extends Exception { Own(String m) { super(m); } }\nthrow new Own("m");', "Own", "m", "Own: m"),
        ('class Bad { public String toString() { throw new RuntimeException("mute"); } }\nnew Bad()', "RuntimeException", "mute", "at Bad.toString"),
        ("throw null;", "NullPointerException", None),
        ("int down(int i) { return 1 + down(i + 1); }\ndown(0)", "StackOverflowError", ""),
        ("new long[64][1 << 28]", "OutOfMemoryError", "Java heap space"),
        ("throw new ThreadDeath();", "KeyboardInterrupt", "interrupted"),
    ):
        got = run(code)
        want(f"the error of {code!r}", got.error and got.error[0], name)
        if value is not None:
            want(f"the value of {code!r}", got.error[1], value)
        for part in traceback:
            want(f"{part!r} in the traceback of {code!r}: {got.error[2]!r}", part in got.error[2], True)
    got = run('System.out.print("first"); int wrong = "text"; System.out.print("second");')
    want("the output before an error", (got.text("stdout"), got.error[0]), ("first", "CompilationException"))
    got = run("void early() { late(); }")
    want("a declaration without another", (got.error, got.text("stderr")), (None, "early cannot be used until these are declared: method late()\n"))
    want("its use", run("early()").error[:2], ("UnresolvedReferenceException", "early cannot be used until these are declared: method late()"))
    got = run('void late() { System.out.print("late"); }\nearly()')
    want("its use later", (got.error, got.text("stdout")), (None, "late"))


def variables():
    both = 'System.getProperty("{0}", "none") + " " + System.getenv("{0}")'

    def expect(what, expected):
        want(what, [run(both.format(name)).result for name in ("ONE", "TWO")], expected)

    expect("variables of the sandbox, before the first run", ["sandbox sandbox", "none null"])
    operate("set_env", {"ONE": "new"})
    expect("variables of the sandbox", ["new new", "none null"])
    operate("push_env", {"ONE": "it's \"ä\"\n\\", "TWO": "", "user.dir": "/nowhere"})
    expect("variables of a run", ["it's \"ä\"\n\\ it's \"ä\"\n\\", " "])
    operate("pop_env")
    expect("variables after a run", ["new new", "none null"])
    want("the directory", run('System.getProperty("user.dir")').result, "/usr")
    want("the directory of files", run('new File(".").getCanonicalPath()').result, "/usr")


def interrupts():
    run("int kept = 41;")
    interrupted("a loop", 'System.out.println("begun"); while (true) {}')
    interrupted("a loop in a method", 'void loop() { for (int i = 0; ; i++) { Math.sqrt(i); } }\nSystem.out.println("begun"); loop();')
    interrupted("a sleep", 'System.out.println("begun"); Thread.sleep(1_000_000);')
    interrupted("a loop that catches exceptions", 'System.out.println("begun"); while (true) { try { Thread.sleep(10); } catch (Exception e) {} }')
    interrupted("a lock", 'System.out.println("begun"); new CountDownLatch(1).await();')
    interrupted("output without an end", 'System.out.println("begun"); while (true) System.out.print("0123456789".repeat(10));')
    interrupted("a cell before its second statement", 'System.out.println("begun"); while (true) {}\nkept = 0;')
    interrupted("a text", 'class Slow { public String toString() { System.out.println("begun"); while (true) {} } }\nnew Slow()')
    want("the state after interrupts", run("kept + 1").result, "42")


def ends():
    got = run("int lost = 1; System.exit(3);")
    want("an exit", got.error, ("ProcessEnded", "the java process ended with 3; its state is lost", ""))
    want("the variables of the next process", run('System.getProperty("ONE")').result, "new")
    want("its state", run("lost").error[0], "CompilationException")
    operate("push_env", {"TWO": "2"})
    want("an exit with variables", run("Runtime.getRuntime().halt(0);").error[1], "the java process ended with 0; its state is lost")
    operate("pop_env")
    want("a variable of the run that has ended the process", run('System.getProperty("TWO")').result, None)
    got = run('new Thread(() -> { while (true) {} }).start(); System.out.print("background");')
    want("a thread that outlives its run", (got.error, got.text("stdout")), (None, "background"))
    operate("set_env", {})


def reseed():
    """The generators have the same state before, and another one afterwards."""
    run("""
        Object shared(String type, String field) throws Exception {
            var found = Class.forName(type).getDeclaredField(field);
            found.setAccessible(true);
            return found.get(null);
        }
        Object states() throws Exception {
            return List.of(
                shared("java.util.Random", "seedUniquifier").toString(),
                shared("java.util.SplittableRandom", "defaultGen").toString(),
                shared("java.util.concurrent.ThreadLocalRandom", "seeder").toString());
        }
        Math.random();
    """)
    seeded = '((Random) shared("java.lang.Math$RandomNumberGeneratorHolder", "randomNumberGenerator")).setSeed(1);'
    first, states = run(seeded + "Math.random()").result, run("states()").result
    want("a seed", run(seeded + "Math.random()").result, first)
    run(seeded)
    operate("reseed")
    want("the same number after a new seed", run("Math.random()").result == first, False)
    for before, after in zip(json.loads(states), json.loads(run("states()").result)):
        want("the same state after a new seed", after == before, False)


subprocess.run(["javac", "-nowarn", "-XDignore.symbol.file", "-d", "/tmp/driver", HERE + "/Driver.java"], check=True)
subprocess.run(["jar", "cf", HERE + "/driver.jar", "-C", "/tmp/driver", "."], check=True)
os.makedirs(SPEC)
with open(SPEC + "/kernel.json", "w", encoding="ascii") as f:
    json.dump({"argv": ["python3", sys.argv[1], "java", "-f", "{connection_file}"], "display_name": "java", "language": "java"}, f)
os.environ["JUPYTER_PATH"] = "/tmp/jupyter"
manager = KernelManager(kernel_name="java", transport="ipc", connection_file="/tmp/java-kernel.json")
manager.start_kernel(cwd="/usr", env={"PATH": os.environ["PATH"], "HOME": "/root", "LANG": "C.UTF-8"})
client = manager.client()
client.start_channels(hb=False)
client.wait_for_ready(timeout=LIMIT)
try:
    operate("set_env", {"ONE": "sandbox"})
    for check in (variables, results, output, errors, interrupts, ends, reseed):
        begun = time.monotonic()
        check()
        print(f"{check.__name__}: {time.monotonic() - begun:.1f} s")
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
