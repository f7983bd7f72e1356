// Life of sandboxes through the JavaScript client: create, list, clocks, pause, connect,
// snapshots, forks, kill, and the refusals.

import { assert, check, raw, report, sdk, sdkName, until } from './check.mjs'

const { Sandbox, SandboxNotFoundError, AuthenticationError } = sdk
const v2 = sdkName === 'e2b'
const unknown = 'unknown0sandbox0id00'

const made = new Set()

async function create(opts = {}) {
  const sbx = await Sandbox.create('base', { timeoutMs: 600_000, ...opts })
  made.add(sbx.sandboxId)
  return sbx
}

async function kill(sbx) {
  made.delete(sbx.sandboxId)
  return sbx.kill()
}

async function all(paginator) {
  const out = []
  while (paginator.hasNext) out.push(...(await paginator.nextItems()))
  return out
}

check('create with envs and metadata, getInfo', async () => {
  const sbx = await create({ envs: { COLOR: 'blue' }, metadata: { 'k 1': 'v&2', plain: 'x' } })
  assert.match(sbx.sandboxId, /^[a-z0-9]+$/)
  assert.equal(await sbx.isRunning(), true)
  const info = await sbx.getInfo()
  assert.equal(info.sandboxId, sbx.sandboxId)
  assert.equal(info.state, 'running')
  assert.equal(info.name, 'base')
  assert.equal(info.envdVersion, '0.6.13')
  assert.deepEqual(info.metadata, { 'k 1': 'v&2', plain: 'x' })
  assert.ok(info.endAt - info.startedAt > 500_000 && info.endAt - info.startedAt <= 700_000, `it ends after ${info.endAt - info.startedAt} ms`)
  assert.equal((await sbx.commands.run('echo $COLOR')).stdout, 'blue\n')
  assert.equal(await kill(sbx), true)
})

check('kill twice, kill and getInfo of an unknown sandbox', async () => {
  const sbx = await create()
  assert.equal(await kill(sbx), true)
  assert.equal(await sbx.kill(), false)
  assert.equal(await Sandbox.kill(unknown), false)
  await assert.rejects(Sandbox.getInfo(sbx.sandboxId), SandboxNotFoundError)
  await assert.rejects(Sandbox.getInfo(unknown), SandboxNotFoundError)
  await assert.rejects(Sandbox.connect(unknown), SandboxNotFoundError)
  assert.equal(await sbx.isRunning(), false)
})

check('a wrong key, and no key', async () => {
  const wrong = 'e2b_' + '0'.repeat(40)
  await assert.rejects(Sandbox.getInfo(unknown, { apiKey: wrong }), AuthenticationError)
  const res = await raw('GET', '/v2/sandboxes', { key: '' })
  assert.equal(res.status, 401)
  assert.equal(res.json.code, 401)
})

check('an unknown template', async () => {
  await assert.rejects(Sandbox.create('no-such-template'), /404.*not found|not found/)
})

check('list with filters, order and pages', async () => {
  const mark = 'list-' + Math.random().toString(36).slice(2)
  const metadata = { mark, 'odd &=%': 'ä+ b' }
  const boxes = []
  for (let i = 0; i < 3; i++) boxes.push(await create({ metadata }))
  const ids = boxes.map((b) => b.sandboxId)
  const listed = await all(Sandbox.list({ query: { metadata } }))
  assert.deepEqual(listed.map((b) => b.sandboxId), [...ids].reverse(), 'the newest comes first')
  assert.equal(listed[0].metadata.mark, mark)
  assert.deepEqual(await all(Sandbox.list({ query: { metadata: { mark: 'other' } } })), [])
  const first = Sandbox.list({ query: { metadata }, limit: 2 })
  assert.equal((await first.nextItems()).length, 2)
  assert.equal(first.hasNext, true)
  assert.deepEqual((await first.nextItems()).map((b) => b.sandboxId), [ids[0]])
  assert.equal(first.hasNext, false)
  await boxes[1].pause()
  const paused = await all(Sandbox.list({ query: { metadata, state: ['paused'] } }))
  assert.deepEqual(paused.map((b) => b.sandboxId), [ids[1]])
  const running = await all(Sandbox.list({ query: { metadata, state: ['running'] } }))
  assert.deepEqual(running.map((b) => b.sandboxId), [ids[2], ids[0]])
  const asc = await raw('GET', `/v2/sandboxes?metadata=${encodeURIComponent('mark=' + mark)}&state=running%2Cpaused&order=asc&limit=2`)
  assert.deepEqual(asc.json.map((b) => b.sandboxID), ids.slice(0, 2))
  const next = await raw('GET', `/v2/sandboxes?metadata=${encodeURIComponent('mark=' + mark)}&order=asc&limit=2&nextToken=${asc.headers.get('x-next-token')}`)
  assert.deepEqual(next.json.map((b) => b.sandboxID), ids.slice(2))
  assert.equal(next.headers.get('x-next-token'), null)
  const since = new Date(listed[1].startedAt).toISOString()
  const after = await raw('GET', `/v2/sandboxes?metadata=mark%3D${mark}&startedAfter=${encodeURIComponent(since)}`)
  assert.deepEqual(after.json.map((b) => b.sandboxID), [ids[2], ids[1]])
  assert.deepEqual((await raw('GET', `/v2/sandboxes?metadata=mark%3D${mark}&template=base`)).json.length, 3)
  assert.deepEqual((await raw('GET', '/v2/sandboxes?template=none')).json, [])
  const old = await raw('GET', `/sandboxes?metadata=mark%3D${mark}`)
  assert.deepEqual(old.json.map((b) => b.sandboxID), [ids[2], ids[0]])
  for (const wrong of ['state=asleep', 'limit=0', 'order=up', 'startedAfter=now', 'nextToken=x', 'template=a:b', 'metadata=a%25zz%3Db']) {
    assert.equal((await raw('GET', '/v2/sandboxes?' + wrong)).status, 400, wrong)
  }
  for (const b of boxes) await kill(b)
})

check('timeouts: connect never shortens, setTimeout does, the end comes', async () => {
  const sbx = await create({ timeoutMs: 300_000 })
  const before = (await sbx.getInfo()).endAt
  await Sandbox.connect(sbx.sandboxId, { timeoutMs: 10_000 })
  assert.equal(+(await sbx.getInfo()).endAt, +before, 'a connect has shortened it')
  await Sandbox.connect(sbx.sandboxId, { timeoutMs: 900_000 })
  assert.ok((await sbx.getInfo()).endAt - before > 500_000)
  await sbx.setTimeout(3_000)
  assert.ok((await sbx.getInfo()).endAt - Date.now() < 30_000)
  await until('the sandbox is gone', async () => !(await sbx.isRunning()))
  await until('it is in no list', async () => !(await all(Sandbox.list())).some((b) => b.sandboxId === sbx.sandboxId))
  made.delete(sbx.sandboxId)
  await assert.rejects(sbx.setTimeout(10_000), SandboxNotFoundError)
  await assert.rejects(Sandbox.setTimeout(unknown, 10_000), SandboxNotFoundError)
})

check('a timeout of zero ends a sandbox at once', async () => {
  const sbx = await create()
  assert.equal((await raw('POST', `/sandboxes/${sbx.sandboxId}/timeout`, { body: { timeout: 0 } })).status, 204)
  await assert.rejects(sbx.getInfo(), SandboxNotFoundError)
  made.delete(sbx.sandboxId)
})

check('pause, isRunning, connect keeps memory, token and timeout', async () => {
  const sbx = await create({ timeoutMs: 420_000, envs: { KEPT: 'yes' } })
  await sbx.files.write('/home/user/note.txt', 'before')
  const job = await sbx.commands.run('sleep 1000', { background: true, timeoutMs: 0 })
  const token = (await raw('GET', `/sandboxes/${sbx.sandboxId}`)).json.envdAccessToken
  assert.ok(token)
  assert.notEqual(await sbx.pause(), false)
  assert.equal(await sbx.isRunning(), false)
  assert.equal((await sbx.getInfo()).state, 'paused')
  assert.equal(await sbx.pause(), false, 'a second pause')
  assert.equal((await raw('POST', `/sandboxes/${sbx.sandboxId}/timeout`, { body: { timeout: 60 } })).status, 409)
  const again = await raw('POST', `/v2/sandboxes/${sbx.sandboxId}/connect`, { body: {} })
  assert.equal(again.status, 201)
  assert.equal(again.json.envdAccessToken, token)
  const info = await sbx.getInfo()
  assert.ok(info.endAt - Date.now() > 300_000, `the timeout of the create is kept, but it ends in ${info.endAt - Date.now()} ms`)
  assert.equal((await raw('POST', `/sandboxes/${sbx.sandboxId}/connect`, { body: { timeout: 300 } })).status, 200)
  const same = await Sandbox.connect(sbx.sandboxId)
  assert.equal(await same.files.read('/home/user/note.txt'), 'before')
  assert.equal((await same.commands.run('echo $KEPT')).stdout, 'yes\n')
  assert.ok((await same.commands.list()).some((p) => p.pid === job.pid), 'the process still runs')
  assert.equal((await raw('POST', `/sandboxes/${sbx.sandboxId}/resume`, { body: {} })).status, 409)
  await kill(sbx)
})

check('pause and resume, the ways of old clients and the refusals', async () => {
  const sbx = await create()
  const at = `/sandboxes/${sbx.sandboxId}`
  assert.equal((await raw('POST', at + '/refreshes', { body: { duration: 60 } })).status, 204)
  assert.equal((await raw('POST', at + '/pause', { body: { memory: true, requireHealthyGuest: true } })).status, 204)
  assert.equal((await raw('GET', at)).json.pauseMode, 'full')
  assert.equal((await raw('POST', at + '/fork', { body: {} })).status, 409)
  const resumed = await raw('POST', at + '/resume', { body: { timeout: 120 } })
  assert.equal(resumed.status, 201)
  assert.equal(resumed.json.sandboxID, sbx.sandboxId)
  assert.equal((await raw('DELETE', at)).status, 204)
  const gone = await raw('DELETE', at)
  assert.deepEqual([gone.status, gone.json.code], [404, 404])
  made.delete(sbx.sandboxId)
})

check('pause without memory, and a boot from the files', async () => {
  const sbx = await create({ metadata: { kind: 'cold' }, envs: { KEPT: 'yes' } })
  const at = `/sandboxes/${sbx.sandboxId}`
  const bootId = async (s) => (await s.commands.run('cat /proc/sys/kernel/random/boot_id')).stdout
  const first = await bootId(sbx)
  const job = await sbx.commands.run('sleep 1000', { background: true })
  await sbx.files.write('/home/user/note.txt', 'kept')
  assert.equal((await raw('POST', at + '/pause', { body: { memory: false } })).status, 204)
  assert.equal((await raw('GET', at)).json.pauseMode, 'filesystem')
  const resumed = await raw('POST', '/v2' + at + '/connect', { body: { memory: false } })
  assert.equal(resumed.status, 201)
  const same = await Sandbox.connect(sbx.sandboxId)
  assert.equal(await same.files.read('/home/user/note.txt'), 'kept')
  assert.equal((await same.commands.run('echo $KEPT')).stdout, 'yes\n')
  assert.ok(!(await same.commands.list()).some((p) => p.pid === job.pid), 'the process has ended')
  assert.deepEqual((await same.getInfo()).metadata, { kind: 'cold' })
  assert.notEqual(await bootId(same), first)
  await kill(sbx)
})

check('onTimeout pause with autoResume', async () => {
  const sbx = await create({ timeoutMs: 2_000, lifecycle: { onTimeout: 'pause', autoResume: true } })
  assert.deepEqual((await raw('GET', `/sandboxes/${sbx.sandboxId}`)).json.lifecycle, { autoResume: true, onTimeout: 'pause' })
  await until('it is paused', async () => (await sbx.getInfo()).state === 'paused')
  await Sandbox.connect(sbx.sandboxId, { timeoutMs: 300_000 })
  assert.equal((await sbx.commands.run('echo back')).stdout, 'back\n')
  await sbx.pause()
  // A request wakes it.
  assert.equal((await sbx.commands.run('echo woken')).stdout, 'woken\n')
  assert.equal((await sbx.getInfo()).state, 'running')
  await kill(sbx)
})

check('metrics', async () => {
  const sbx = await create()
  const [sample] = await sbx.getMetrics()
  assert.ok(sample.memTotal > 0 && sample.memUsed > 0 && sample.diskTotal > 0 && sample.cpuCount >= 1, JSON.stringify(sample))
  assert.deepEqual(await sbx.getMetrics({ start: new Date(1_000_000_000_000), end: new Date(1_000_000_005_000) }), [])
  const many = await raw('GET', `/sandboxes/metrics?sandbox_ids=${sbx.sandboxId},${unknown}`)
  assert.deepEqual(Object.keys(many.json.sandboxes), [sbx.sandboxId])
  await kill(sbx)
  await assert.rejects(sbx.getMetrics(), SandboxNotFoundError)
})

check('snapshots: create, list, start from, delete twice', async () => {
  const sbx = await create()
  await sbx.files.write('/home/user/state.txt', 'one')
  const name = 'snap-' + Math.random().toString(36).slice(2)
  const snap = await sbx.createSnapshot({ name })
  assert.ok(snap.snapshotId)
  const row = (await raw('GET', `/snapshots?name=${name}`)).json
  assert.deepEqual(row, [{ snapshotID: snap.snapshotId, names: [name] }])
  await sbx.files.write('/home/user/state.txt', 'two')
  assert.deepEqual((await all(Sandbox.listSnapshots({ sandboxId: sbx.sandboxId }))).map((s) => s.snapshotId), [snap.snapshotId])
  const copy = await Sandbox.create(snap.snapshotId)
  made.add(copy.sandboxId)
  assert.equal(await copy.files.read('/home/user/state.txt'), 'one')
  assert.equal(await sbx.files.read('/home/user/state.txt'), 'two')
  const byName = await Sandbox.create(name)
  made.add(byName.sandboxId)
  assert.equal(await byName.files.read('/home/user/state.txt'), 'one')
  await kill(copy)
  await kill(byName)
  assert.equal(await Sandbox.deleteSnapshot(snap.snapshotId), true)
  assert.equal(await Sandbox.deleteSnapshot(snap.snapshotId), false)
  await kill(sbx)
})

check('a snapshot of the files alone', async () => {
  const sbx = await create({ envs: { KEPT: 'yes' } })
  const bootId = async (s) => (await s.commands.run('cat /proc/sys/kernel/random/boot_id')).stdout
  const first = await bootId(sbx)
  const job = await sbx.commands.run('sleep 1000', { background: true })
  await sbx.files.write('/home/user/state.txt', 'one')
  const snap = await raw('POST', `/sandboxes/${sbx.sandboxId}/snapshots`, { body: { memory: false } })
  assert.equal(snap.status, 201)
  assert.equal(await bootId(sbx), first)
  assert.ok((await sbx.commands.list()).some((p) => p.pid === job.pid && p.args.includes('sleep 1000')), 'the process goes on')
  const copy = await Sandbox.create(snap.json.snapshotID)
  made.add(copy.sandboxId)
  assert.equal(await copy.files.read('/home/user/state.txt'), 'one')
  assert.equal((await copy.commands.run('echo $KEPT')).stdout, 'yes\n')
  assert.ok(!(await copy.commands.list()).some((p) => p.args.includes('sleep 1000')), 'the process is not in the copy')
  assert.notEqual(await bootId(copy), first)
  await kill(copy)
  await kill(sbx)
  assert.equal(await Sandbox.deleteSnapshot(snap.json.snapshotID), true)
})

check('fork', async () => {
  const sbx = await create()
  await sbx.files.write('/home/user/f.txt', 'parent')
  const res = await raw('POST', `/sandboxes/${sbx.sandboxId}/fork`, { body: { count: 2, timeout: 300 } })
  assert.equal(res.status, 201, res.text)
  assert.equal(res.json.length, 2)
  const tokens = new Set([(await raw('GET', `/sandboxes/${sbx.sandboxId}`)).json.envdAccessToken])
  for (const { sandbox } of res.json) {
    made.add(sandbox.sandboxID)
    tokens.add(sandbox.envdAccessToken)
    const child = await Sandbox.connect(sandbox.sandboxID)
    assert.equal(await child.files.read('/home/user/f.txt'), 'parent')
    await kill(child)
  }
  assert.equal(tokens.size, 3, 'each copy has a token of its own')
  for (const count of [0, 101]) {
    assert.equal((await raw('POST', `/sandboxes/${sbx.sandboxId}/fork`, { body: { count } })).status, 400)
  }
  if (v2) {
    const [child] = await sbx.fork()
    made.add((child.sandbox ?? child).sandboxId)
  }
  await kill(sbx)
  assert.equal((await raw('POST', `/sandboxes/${sbx.sandboxId}/fork`, { body: {} })).status, 404)
})

check('network: what is supported, and nothing ignored', async () => {
  const sbx = await create({ network: { allowPublicTraffic: false } })
  assert.ok(sbx.trafficAccessToken)
  const at = `/sandboxes/${sbx.sandboxId}/network`
  assert.equal((await raw('PUT', at, { body: {} })).status, 204)
  assert.equal((await raw('PUT', at, { body: { allowOut: ['1.1.1.1'] } })).status, 204, 'an exception from nothing')
  for (const body of [
    { denyOut: ['a.com'] }, { denyOut: ['0.0.0.0/0'], allowOut: ['*.a.com'] }, { egressProxy: { address: 'a:1' } },
    { rules: { 'a.com': [{}] } }, { dnsServers: ['1.1.1.1'] }, { allowPublicTraffic: true },
  ]) {
    assert.equal((await raw('PUT', at, { body })).status, 400, JSON.stringify(body))
  }
  for (const body of [
    { network: { denyOut: ['a.com'] } }, { network: { allowOut: ['a.com'], denyOut: ['0.0.0.0/0'] } }, { volumeMounts: [{ name: 'a', path: '/a' }] },
    { iam: { tokens: { a: {} } } }, { autoPauseMemory: false }, { autoPause: true, autoPauseMemory: false, autoResume: { enabled: true } }, { timeout: 0 },
    { timeout: 2_592_001 }, { metadata: 'x' },
  ]) {
    assert.equal((await raw('POST', '/v2/sandboxes', { body: { templateID: 'base', ...body } })).status, 400, JSON.stringify(body))
  }
  await kill(sbx)
  const closed = await create({ allowInternetAccess: false, network: { allowOut: ['192.0.2.7'] } })
  const { network, allowInternetAccess } = (await raw('GET', `/sandboxes/${closed.sandboxId}`)).json
  assert.deepEqual([network.denyOut, network.allowOut, allowInternetAccess], [['0.0.0.0/0'], ['192.0.2.7'], false])
  const there = `/sandboxes/${closed.sandboxId}/network`
  assert.equal((await raw('PUT', there, { body: { denyOut: ['192.0.2.0/24'] } })).status, 204)
  const opened = (await raw('GET', `/sandboxes/${closed.sandboxId}`)).json
  assert.deepEqual([opened.network.denyOut, opened.network.allowOut, opened.allowInternetAccess], [['192.0.2.0/24'], [], true])
  await raw('POST', `/sandboxes/${closed.sandboxId}/pause`)
  assert.equal((await raw('PUT', there, { body: {} })).status, 409, 'of a paused sandbox')
  await kill(closed)
})

check('updateNetwork denies an address and lifts it again', async () => {
  const sbx = await create({})
  const outside = process.env.COMPAT_OUTSIDE // sends "x" to each client of port 80
  // Whether the sandbox receives something from outside within a time in seconds.
  const reached = async (patience) => {
    const run = `timeout ${patience} bash -c 'exec 3<>/dev/tcp/${outside}/80 && head -c 1 <&3' || true`
    return (await sbx.commands.run(run, { timeoutMs: 60_000 })).stdout === 'x'
  }
  const update = async (body) => {
    if (sbx.updateNetwork) await sbx.updateNetwork(body)
    else assert.equal((await raw('PUT', `/sandboxes/${sbx.sandboxId}/network`, { body })).status, 204)
  }
  assert.ok(await reached(30), 'before')
  await update({ denyOut: [outside] })
  assert.ok(!(await reached(2)), 'denied')
  await update({ denyOut: ['0.0.0.0/0'], allowOut: [`${outside}/32`] })
  assert.ok(await reached(30), 'allowed although everything is denied')
  await update({ denyOut: ['0.0.0.0/0'] })
  assert.ok(!(await reached(2)), 'everything denied')
  await update({})
  assert.ok(await reached(30), 'lifted')
  await kill(sbx)
})

check('Idempotency-Key', async () => {
  const key = 'key-' + Math.random().toString(36).slice(2)
  const body = { templateID: 'base', timeout: 300 }
  const one = await raw('POST', '/v2/sandboxes', { body, headers: { 'Idempotency-Key': key } })
  assert.equal(one.status, 201, one.text)
  made.add(one.json.sandboxID)
  const two = await raw('POST', '/v2/sandboxes', { body, headers: { 'Idempotency-Key': key } })
  assert.deepEqual([two.status, two.text], [201, one.text])
  const other = await raw('POST', '/v2/sandboxes', { body: { ...body, timeout: 301 }, headers: { 'Idempotency-Key': key } })
  assert.deepEqual([other.status, other.json.error_code], [409, 'idempotency_request_mismatch'])
  const failed = await raw('POST', '/v2/sandboxes', { body: { templateID: 'none' }, headers: { 'Idempotency-Key': key + 'b' } })
  assert.equal(failed.status, 404)
  assert.equal((await raw('DELETE', `/sandboxes/${one.json.sandboxID}`)).status, 204)
})

check('templates, teams and the refused parts', async () => {
  assert.equal((await raw('GET', '/health', { key: '' })).status, 204)
  const templates = (await raw('GET', '/templates')).json
  assert.ok(templates.some((t) => t.templateID === 'base' && t.aliases.includes('base') && t.buildStatus === 'ready'))
  assert.deepEqual((await raw('GET', '/templates/aliases/base')).json, { templateID: 'base', public: true })
  assert.equal((await raw('GET', '/templates/aliases/none')).status, 404)
  const [tag] = (await raw('GET', '/templates/team%2Fbase/tags')).json
  assert.match(tag.buildID, /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/)
  assert.equal((await raw('GET', `/templates/base%3A${tag.buildID}`)).status, 200)
  assert.equal((await raw('GET', `/templates/base%3A${tag.buildID.replace(/./, 'z')}`)).status, 404)
  assert.equal((await raw('DELETE', '/templates/base')).status, 400)
  assert.equal((await raw('GET', '/teams')).json.length, 1)
  const build = await raw('POST', '/v3/templates', { body: { name: 'compat-unused' } })
  assert.equal(build.status, 202)
  assert.equal((await raw('DELETE', `/templates/${build.json.templateID}`)).status, 204)
  const refused = await raw('POST', '/volumes', { body: { name: 'x' } })
  assert.deepEqual([refused.status, refused.headers.get('should-retry')], [501, 'false'])
  assert.deepEqual((await raw('GET', '/volumes')).json, [])
  assert.equal((await raw('GET', '/secrets/a')).status, 404)
  assert.equal((await raw('GET', '/v2/nothing')).status, 404)
  assert.equal((await raw('PUT', '/templates')).status, 405)
  const cors = await raw('OPTIONS', '/v2/sandboxes', { key: '', headers: { Origin: 'https://example.com' } })
  assert.deepEqual([cors.status, cors.headers.get('access-control-allow-origin')], [204, '*'])
})

check('nothing is left', async () => {
  for (const id of made) await Sandbox.kill(id)
})

await report()
