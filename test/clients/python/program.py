"""Create, exec, read and delete with the client of openapi-python-client."""

from generated import Client
from generated.api.exec_ import exec_command
from generated.api.files import get_file
from generated.api.sandboxes import create_sandbox, destroy_sandbox, list_sandboxes
from generated.models import (
    CreateSandboxRequest,
    CreateSandboxRequestMetadata,
    Error,
    ExecRequest,
    ExecResponse,
    Sandbox,
    Status,
    TimeoutAction,
)


def run() -> int:
    client = Client(base_url="http://127.0.0.1:8080")
    metadata = CreateSandboxRequestMetadata.from_dict({"job": "17"})
    body = CreateSandboxRequest(name="web-1", on_timeout=TimeoutAction.PAUSE, metadata=metadata)
    sandbox = create_sandbox.sync(client=client, body=body, idempotency_key="one")
    if not isinstance(sandbox, Sandbox):
        raise RuntimeError(sandbox.error.message if isinstance(sandbox, Error) else "no answer")
    assert sandbox.status is Status.RUNNING
    done = exec_command.sync(sandbox.id, client=client, body=ExecRequest(cmd="echo", args=["hi"]))
    if not isinstance(done, ExecResponse):
        raise RuntimeError("not a whole answer")
    content = get_file.sync_detailed(sandbox.id, client=client, path="/etc/hostname")
    listed = list_sandboxes.sync(client=client, status=[Status.RUNNING], name="web-1")
    destroy_sandbox.sync_detailed(sandbox.id, client=client)
    return done.exit_code + len(content.content) + (len(listed) if isinstance(listed, list) else 0)
