// Create, exec, read and delete with the types of openapi-typescript.
import createClient from "openapi-fetch";
import type { components, paths } from "./generated/fetch";

const api = createClient<paths, "application/json">({ baseUrl: "http://127.0.0.1:8080" });
const files = createClient<paths, "application/octet-stream">({ baseUrl: "http://127.0.0.1:8080" });

export async function run(): Promise<number> {
  const created = await api.POST("/v1/sandboxes", {
    params: { header: { "Idempotency-Key": "one" } },
    body: { name: "web-1", on_timeout: "pause", metadata: { job: "17" } },
  });
  if (!created.data) throw new Error(created.error.error.message);
  const { id, status }: { id: string; status: components["schemas"]["Status"] } = created.data;
  if (status !== "running") throw new Error(status);

  const done = await api.POST("/v1/sandboxes/{id}/exec", { params: { path: { id } }, body: { cmd: "echo", args: ["hi"] } });
  if (!done.data) throw new Error(done.error.error.code);
  const encoding: components["schemas"]["Encoding"] = done.data.encoding;

  const read = await files.GET("/v1/sandboxes/{id}/files", {
    params: { path: { id }, query: { path: "/etc/hostname" } },
    parseAs: "arrayBuffer",
  });
  const list = await api.GET("/v1/sandboxes", { params: { query: { status: ["running"], name: "web-1" } } });
  await api.DELETE("/v1/sandboxes/{id}", { params: { path: { id } } });
  return done.data.exit_code + encoding.length + (read.response.ok ? 0 : 1) + (list.data?.length ?? 0);
}
