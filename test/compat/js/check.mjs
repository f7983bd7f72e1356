// The checks of a suite: each one has a name, runs alone and is reported in one line.
// A suite fails if a check does.

import assert from 'node:assert/strict'
import { pathToFileURL } from 'node:url'
import { createRequire } from 'node:module'

export { assert }

// sdk is the client under test: the package that COMPAT_SDK names.
export const sdkName = process.env.COMPAT_SDK ?? 'e2b'
export const sdk = await import(pathToFileURL(createRequire(import.meta.url).resolve(sdkName)).href)

// patience bounds every wait for something that happens by itself, in milliseconds.
export const patience = 60_000

const checks = []

export function check(name, run) {
  checks.push({ name, run })
}

// skipped names a check that does not belong to this generation of clients.
export function skipped(name, why) {
  console.log(`- ${name}: ${why}`)
}

// report runs all checks in order and ends the process.
export async function report() {
  const only = process.env.COMPAT_ONLY
  let ran = 0
  let failed = 0
  for (const { name, run } of checks) {
    if (only && !name.includes(only)) continue
    ran++
    const begun = Date.now()
    try {
      await run()
      console.log(`ok ${name} (${Date.now() - begun} ms)`)
    } catch (err) {
      failed++
      console.log(`FAIL ${name} (${Date.now() - begun} ms)\n${err?.stack ?? err}`)
    }
  }
  console.log(`${sdkName}: ${ran - failed} passed, ${failed} failed`)
  if (ran === 0) console.log(`FAIL no check ran: no name contains COMPAT_ONLY=${only}`)
  process.exit(failed || ran === 0 ? 1 : 0)
}

// until polls until get returns something true, and returns that.
export async function until(what, get) {
  const end = Date.now() + patience
  for (;;) {
    const got = await get()
    if (got) return got
    if (Date.now() > end) throw new Error(`after ${patience} ms: not yet: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

// raw sends a request to the control API as programs without a client do.
export async function raw(method, path, { body, headers = {}, key = process.env.E2B_API_KEY } = {}) {
  const res = await fetch(process.env.E2B_API_URL + path, {
    method,
    headers: { ...(key ? { 'X-API-KEY': key } : {}), ...(body ? { 'Content-Type': 'application/json' } : {}), ...headers },
    body: body ? JSON.stringify(body) : undefined,
  })
  const text = await res.text()
  let json
  try {
    json = text ? JSON.parse(text) : undefined
  } catch {
    // The caller compares the text.
  }
  return { status: res.status, headers: res.headers, text, json }
}
