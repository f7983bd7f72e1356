"""The code interpreter through its Python client."""

import base64
import time

from check import check, fails, report, until
from e2b import TimeoutException
from e2b_code_interpreter import Sandbox

# Under emulation a kernel takes up to two minutes to start.
LIMITS = {"timeout": 1800, "request_timeout": 300}
first = Sandbox.create(**LIMITS)
second = Sandbox.create(**LIMITS, envs={"COLOR": "blue"})


def remove(sandbox, language):
    """Removes the contexts of a language. A sandbox of the default size has no memory for the kernels of all checks at once."""
    for context in sandbox.list_code_contexts():
        if context.language == language:
            sandbox.remove_code_context(context)


@check
def random_state_differs_in_two_sandboxes():
    code = "import random, numpy, uuid\n[random.random(), numpy.random.rand(), str(uuid.uuid4())]"
    one, two = first.run_code(code), second.run_code(code)
    assert one.error is None and one.text != two.text, (one, two)
    js = [s.run_code("Math.random() + require('crypto').randomUUID()", language="javascript").text for s in (first, second)]
    assert js[0] and js[0] != js[1], js
    bash = [s.run_code("echo $RANDOM$RANDOM$RANDOM", language="bash").logs.stdout for s in (first, second)]
    assert bash[0] and bash[0] != bash[1], bash


@check
def variables_of_the_sandbox():
    for language, code in (("python", "import os; os.environ['COLOR']"), ("javascript", "process.env.COLOR")):
        got = second.run_code(code, language=language)
        assert got.text == "blue", (language, got)
    got = second.run_code("echo $COLOR", language="bash")
    assert got.logs.stdout == ["blue\n"], got
    code = 'System.getProperty("COLOR") + " " + System.getenv("COLOR") + " " + System.getProperty("SHADE", "none")'
    for envs, expected in (({"COLOR": "red", "SHADE": "dark"}, "red red dark"), (None, "blue blue none")):
        got = second.run_code(code, language="java", envs=envs)
        assert got.text == expected, got
    remove(second, "java")


@check
def data_frames():
    got = first.run_code("import pandas as pd\npd.DataFrame({'a': [1, 2], 'b': ['x', None]})")
    result = got.results[0]
    assert "<table" in result.html and result.is_main_result, got
    assert result.data == {"a": [1, 2], "b": ["x", None]}, result.data


@check
def charts():
    cases = {
        "scatter": "plt.scatter([1, 2], [3, 4])",
        "bar": "plt.bar(['a', 'b'], [3, 4])",
        "pie": "plt.pie([1, 3], labels=['a', 'b'])",
        "box_and_whisker": "plt.boxplot([[1, 2, 3, 4, 20], [2, 3, 4, 5, 6]], labels=['A', 'B'])",
        "superchart": "f, (a, b) = plt.subplots(1, 2); a.plot([1], [2]); b.bar(['x'], [1])",
    }
    for kind, code in cases.items():
        got = first.run_code(f"import matplotlib.pyplot as plt\n{code}\nplt.show()")
        assert got.error is None, got.error
        assert got.results[0].chart.type.value == kind, (kind, got.results[0].chart)
        assert base64.b64decode(got.results[0].png).startswith(b"\x89PNG"), kind
    box = first.run_code(f"{cases['box_and_whisker']}\nplt.show()").results[0].chart.elements
    assert (box[0].median, box[0].outliers, box[1].max) == (3, [20], 6), box


@check
def whole_errors():
    payload = "v" * 200_000
    got = first.run_code(f"class FinalAnswerException(Exception): pass\nraise FinalAnswerException('v' * {len(payload)})")
    assert got.error.name == "FinalAnswerException" and got.error.value == payload, got.error.name


@check
def output_in_order_and_whole():
    lines = []
    got = first.run_code("for i in range(20000): print(i)", on_stdout=lambda m: lines.append(m.line))
    assert got.error is None
    assert "".join(lines) == "".join(f"{i}\n" for i in range(20000)), len(lines)


@check
def interrupt_of_a_busy_loop():
    context = first.create_code_context(language="javascript")
    first.run_code("let kept = 41", context=context)
    fails(TimeoutException, lambda: first.run_code("while (true) {}", context=context, timeout=3))
    assert first.run_code("kept + 1", context=context).text == "42"
    first.remove_code_context(context)
    bash = first.create_code_context(language="bash")
    first.run_code("kept=1", context=bash)
    fails(TimeoutException, lambda: first.run_code("while true; do sleep 0.1; done", context=bash, timeout=3))
    assert first.run_code("echo $kept", context=bash).logs.stdout == ["1\n"]
    first.remove_code_context(bash)
    java = first.create_code_context(language="java", cwd="/tmp")
    assert first.run_code('int kept = 1; System.getProperty("user.dir")', context=java).text == "/tmp"
    fails(TimeoutException, lambda: first.run_code("while (true) {}", context=java, timeout=3))
    assert first.run_code("kept", context=java).text == "1"
    got = first.run_code("System.exit(3)", context=java)
    assert got.error.value == "the java process ended with 3; its state is lost", got
    assert first.run_code("6 * 7", context=java).text == "42"
    first.remove_code_context(java)


@check
def contexts_run_one_execution_at_a_time():
    import threading

    first.run_code("order = []")
    threads = []
    for i in range(4):
        run = threading.Thread(target=first.run_code, args=(f"import time; time.sleep(0.2); order.append({i}); order.append({i})",))
        run.start()
        threads.append(run)
    for run in threads:
        run.join()
    got = first.run_code("order[0::2] == order[1::2] and len(order)")
    assert got.text == "8", got


@check
def a_killed_kernel_ends_its_run_and_starts_again():
    context = first.create_code_context()
    got = first.run_code("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", context=context)
    assert got.error.name == "UnexpectedEndOfExecution", got
    assert first.run_code("1 + 1", context=context).text == "2"
    first.remove_code_context(context)


@check
def pauses_keep_the_state():
    first.run_code("paused = 'yes'")
    first.pause()
    again = Sandbox.connect(first.sandbox_id, **LIMITS)
    assert again.run_code("paused").text == "yes"


@check
def the_server_is_back_when_it_is_killed():
    second.commands.run("pkill -9 -f code-interpreter/server.py", user="root")

    def back():
        try:
            return second.run_code("'back'").text == "back"
        except Exception:
            return False

    begun = time.monotonic()
    until("a run after the kill", back)
    print(f"back after {time.monotonic() - begun:.1f} s")


@check
def end():
    assert first.kill() and second.kill()


report()
