"""smolagents with its executor for E2B, unmodified. It needs the template
code-interpreter-v1."""

import smolagents
from smolagents import tool
from smolagents.monitoring import AgentLogger, LogLevel
from smolagents.remote_executors import E2BExecutor

from check import check, fails, report

executor = E2BExecutor(additional_imports=[], logger=AgentLogger(level=LogLevel.OFF))


@check
def code_keeps_its_state():
    executor("x = 41\nprint('said')")
    out = executor("print(x)\nx + 1")
    assert out.output == "42" and out.logs.strip() == "41" and not out.is_final_answer, out


@check
def variables_and_errors():
    executor.send_variables({"given": {"list": [1, 2], "text": "ünïcode"}})
    assert executor("given['list'][1] + len(given['text'])").output == "9"
    err = fails(smolagents.AgentError, lambda: executor("1 / 0"))
    assert "ZeroDivisionError" in str(err), err


@check
def tools_and_the_final_answer():
    @tool
    def double(n: int) -> int:
        """Doubles a number.

        Args:
            n: The number.
        """
        return 2 * n

    executor.send_tools({"double": double, "final_answer": smolagents.FinalAnswerTool()})
    assert executor("double(21)").output == "42"
    # The answer travels as an exception, whole.
    out = executor("final_answer({'long': 'y' * 100000, 'twice': double(4)})")
    assert out.is_final_answer and out.output == {"long": "y" * 100000, "twice": 8}, str(out)[:200]


@check
def cleanup():
    box = executor.sandbox
    executor.cleanup()
    assert not box.is_running()


report()
