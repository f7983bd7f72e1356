// ComputeSDK's package for E2B, unmodified: the calls of its providers, in their order.

import { e2b } from '@computesdk/e2b'
import { assert, check, report, sdk } from './check.mjs'

const provider = e2b({ apiKey: process.env.E2B_API_KEY, timeout: 300_000 })
const mark = `computesdk-${Math.random().toString(36).slice(2)}`

check('create, commands, files, address, destroy', async () => {
  const box = await provider.sandbox.create({ metadata: { mark }, envs: { FROM: 'create' } })
  const out = await box.runCommand('echo "$FROM"; pwd; exit 3', { cwd: '/tmp' })
  assert.deepEqual([out.exitCode, out.stdout], [3, 'create\n/tmp\n'])
  assert.equal((await box.runCommand('printenv X', { env: { X: 'command' } })).stdout, 'command\n')
  await box.filesystem.mkdir('/tmp/made')
  await box.filesystem.writeFile('/tmp/made/file.txt', 'content')
  assert.equal(await box.filesystem.readFile('/tmp/made/file.txt'), 'content')
  assert.deepEqual((await box.filesystem.readdir('/tmp/made')).map((e) => e.name), ['file.txt'])
  assert.equal(await box.filesystem.exists('/tmp/made/file.txt'), true)
  await box.filesystem.remove('/tmp/made')
  assert.equal(await box.filesystem.exists('/tmp/made'), false)
  assert.match(await box.getUrl({ port: 3000 }), new RegExp(`^https://3000-${box.sandboxId}\\.`))
  const before = (await sdk.Sandbox.getInfo(box.sandboxId)).endAt.getTime()
  const found = await provider.sandbox.getById(box.sandboxId)
  assert.equal((await found.runCommand('echo again')).stdout, 'again\n')
  const after = (await sdk.Sandbox.getInfo(box.sandboxId)).endAt.getTime()
  assert.equal(after, before, 'a connect without a timeout has moved the end')
  assert.ok((await provider.sandbox.list()).some((row) => row.sandboxId === box.sandboxId))
  await provider.sandbox.destroy(box.sandboxId)
  assert.equal(await provider.sandbox.getById(box.sandboxId), null)
})

check('a snapshot, and a sandbox of it', async () => {
  const box = await provider.sandbox.create()
  await box.filesystem.writeFile('/tmp/kept', 'kept')
  const snap = await provider.snapshot.create(box.sandboxId, { name: mark })
  const copy = await provider.sandbox.create({ snapshotId: snap.id })
  assert.equal(await copy.filesystem.readFile('/tmp/kept'), 'kept')
  await provider.sandbox.destroy(copy.sandboxId)
  await provider.sandbox.destroy(box.sandboxId)
  assert.equal(await sdk.Sandbox.deleteSnapshot(snap.id), true)
})

await report()
