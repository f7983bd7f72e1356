"""The checks of a suite: each one is a function that runs alone and is reported in one line."""

import os
import sys
import time
import traceback

PATIENCE = 60  # seconds; bounds every wait for something that happens by itself

_checks = []


def check(run):
    _checks.append(run)
    return run


def until(what, get):
    """Polls until get returns something true, and returns that."""
    end = time.monotonic() + PATIENCE
    while True:
        got = get()
        if got:
            return got
        if time.monotonic() > end:
            raise AssertionError(f"after {PATIENCE} s: not yet: {what}")
        time.sleep(0.05)


def fails(kind, run):
    """Checks that run raises kind, and returns the error."""
    try:
        got = run()
    except kind as err:
        return err
    raise AssertionError(f"got {got!r}, want {kind.__name__}")


def report():
    """Runs all checks in order and ends the process."""
    only = os.environ.get("COMPAT_ONLY", "")
    ran = failed = 0
    for run in _checks:
        if only not in run.__name__:
            continue
        ran += 1
        begun = time.monotonic()
        try:
            run()
            print(f"ok {run.__name__} ({time.monotonic() - begun:.2f} s)", flush=True)
        except BaseException:
            failed += 1
            print(f"FAIL {run.__name__}\n{traceback.format_exc()}", flush=True)
    print(f"{ran - failed} passed, {failed} failed", flush=True)
    if ran == 0:
        print(f"FAIL no check ran: no name contains COMPAT_ONLY={only}", flush=True)
    sys.stdout.flush()
    os._exit(1 if failed or ran == 0 else 0)
