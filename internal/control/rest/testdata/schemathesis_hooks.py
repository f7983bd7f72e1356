"""What schemathesis cannot know from the document."""

import base64
import binascii
import hashlib
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
    if not _build_is_possible(body):
        return False
    if any(_long_name(ref) for ref in (body.get("template"), (case.query or {}).get("template"))):
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
    if _number(body, "memory_mb") > 4096 or _number(body, "vcpus") > 8:
        return False
    # Text that is made up is no stream of events.
    return case.media_type != "application/x-ndjson"


def _number(body, name):
    """Return a field, or 0 where it is missing or no number."""
    value = body.get(name)
    return value if isinstance(value, (int, float)) else 0


def _long_name(reference):
    """A schema cannot bound the name within a reference."""
    if not isinstance(reference, str):
        return False
    return len(reference.rpartition("/")[2].partition(":")[0]) > 63


def _build_is_possible(body):
    """Tell whether the fields of a request for a build agree."""
    if body.get("secrets_encoding") == "base64" and isinstance(body.get("secrets"), dict):
        try:
            for value in body["secrets"].values():
                base64.b64decode(str(value), validate=True)
        except (binascii.Error, ValueError):
            return False
    logins = body.get("registries")
    if isinstance(logins, list):
        servers = [login.get("server") for login in logins if isinstance(login, dict)]
        if len(servers) != len(set(map(str, servers))):
            return False
    base = body.get("from")
    return not (isinstance(base, dict) and _long_name(base.get("template")))


@schemathesis.hook
def before_call(context, case, kwargs):
    """Give each request a key of its own, each field of a form in one place, and no two that exclude each other."""
    if "Idempotency-Key" in (case.headers or {}) and case.meta is not None and case.meta.generation.mode.is_positive:
        case.headers["Idempotency-Key"] = str(uuid.uuid4())
    if "digest" in (case.path_parameters or {}) and isinstance(case.body, (bytes, str)):
        # Generated files are empty strings with an attribute of bytes.
        content = getattr(case.body, "data", None)
        if content is None:
            content = case.body if isinstance(case.body, bytes) else case.body.encode()
        if case.meta is not None and case.meta.generation.mode.is_positive:
            case.path_parameters["digest"] = hashlib.sha256(content).hexdigest()
    if isinstance(case.body, dict) and case.body.get("memory") is False and "force" in (case.query or {}):
        del case.query["force"]  # a pause without memory cannot be forced
    if isinstance(case.body, dict) and case.body.get("memory") is False and "force" in case.body:
        del case.body["force"]  # nor can a snapshot without memory
    if isinstance(case.body, dict) and "file" in case.body:
        for name in ("path", "mode", "user"):
            # A path in the query would replace the one that a wrong form lacks.
            if name in (case.query or {}) and (name in case.body or name == "path"):
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
