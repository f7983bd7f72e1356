// Create, exec, read and delete with the SDK of @hey-api/openapi-ts.
import { client } from "./generated/sdk/client.gen";
import { createSandbox, destroySandbox, execCommand, getFile, listSandboxes } from "./generated/sdk/sdk.gen";
import type { Sandbox, StopReason } from "./generated/sdk/types.gen";

client.setConfig({ baseUrl: "http://127.0.0.1:8080" });

export async function run(): Promise<number> {
  const created = await createSandbox({
    headers: { "Idempotency-Key": "one" },
    body: { name: "web-1", on_timeout: "pause", metadata: { job: "17" } },
    throwOnError: true,
  });
  const sandbox: Sandbox = created.data;
  const done = await execCommand({ path: { id: sandbox.id }, body: { cmd: "echo", args: ["hi"] }, throwOnError: true });
  if (!("exit_code" in done.data && "stdout" in done.data)) throw new Error("not a whole answer");
  const file = await getFile({ path: { id: sandbox.id }, query: { path: "/etc/hostname" }, throwOnError: true });
  const list = await listSandboxes({ query: { status: ["running"], name: "web-1" }, throwOnError: true });
  await destroySandbox({ path: { id: sandbox.id }, throwOnError: true });
  const why: StopReason | null = list.data[0]?.stop_reason ?? null;
  return done.data.exit_code + (file.data instanceof Blob ? file.data.size : 0) + (why === "oom" ? 1 : 0);
}
