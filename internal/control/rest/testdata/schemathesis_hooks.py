"""What schemathesis cannot know from the document."""

import base64
import binascii
import json
import uuid

import schemathesis


@schemathesis.hook
def filter_case(context, case):
    """Leave out what two fields forbid together."""
    body = case.body if isinstance(case.body, dict) else {}
    if body.get("stdin_encoding") == "base64":
        try:
            base64.b64decode(str(body.get("stdin", "")), validate=True)
        except (binascii.Error, ValueError):
            return False
    if "extend_sec" in body and "lifetime_sec" in body:
        return False
    if body.get("snapshot_id") and any(name in body for name in ("template", "vcpus", "memory_mb", "disk_mb")):
        return False
    if body.get("operation") == "read" and "max_bytes" in body:
        return False
    # Parameters of a signed URL, of which one alone has no meaning.
    query = case.query or {}
    if "signature" not in query and ("expires" in query or "max_bytes" in query):
        return False
    if body.get("egress_allow") and not body.get("egress_deny"):
        return False
    # A host may have less than the document allows; the one of this test has.
    if body.get("memory_mb", 0) > 4096 or body.get("vcpus", 0) > 8:
        return False
    # Text that is made up is no stream of events.
    return case.media_type != "application/x-ndjson"


@schemathesis.hook
def before_call(context, case, kwargs):
    """Give each request a key of its own, and each field of a form in one place."""
    if "Idempotency-Key" in (case.headers or {}) and case.meta is not None and case.meta.generation.mode.is_positive:
        case.headers["Idempotency-Key"] = str(uuid.uuid4())
    if isinstance(case.body, dict) and "file" in case.body:
        for name in ("path", "mode", "user"):
            if name in case.body and name in (case.query or {}):
                del case.query[name]


def _lines(value):
    if isinstance(value, str):  # an example, written as it is sent
        return value.encode()
    events = value if isinstance(value, list) else [value]
    return b"".join(json.dumps(e).encode() + b"\n" for e in events)


@schemathesis.serializer("application/x-ndjson")
def ndjson(ctx, value):
    return _lines(value)


@schemathesis.deserializer("application/x-ndjson")
def first_event(ctx, response):
    lines = response.content.splitlines()
    return json.loads(lines[0]) if lines else None


@schemathesis.serializer("application/x-tar")
def tar(ctx, value):
    # An archive has an end marker at least.
    return (value if isinstance(value, bytes) else str(value).encode()) or bytes(1024)
