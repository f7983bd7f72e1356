// A server that clients find by its domain alone, over TLS and HTTP/2, with a CA of its own.

import { assert, check, report, sdk, until } from './check.mjs'

const { Sandbox, TimeoutError } = sdk
for (const name of ['E2B_API_URL', 'E2B_SANDBOX_URL']) assert.equal(process.env[name], undefined, `${name} is set`)

const sbx = await Sandbox.create('base', { timeoutMs: 600_000, metadata: { by: 'domain' } })

check('calls of both planes, many at once', async () => {
  assert.equal(await sbx.isRunning(), true)
  const outs = await Promise.all(Array.from({ length: 20 }, (_, i) => sbx.commands.run(`echo ${i}`)))
  assert.deepEqual(outs.map((out) => out.stdout), Array.from({ length: 20 }, (_, i) => `${i}\n`))
  const listed = await Sandbox.list({ query: { metadata: { by: 'domain' } } }).nextItems()
  assert.deepEqual(listed.map((s) => s.sandboxId), [sbx.sandboxId])
})

check('large files in both directions', async () => {
  const large = new Uint8Array(16 << 20).map((_, i) => (i * 7919) >> 8)
  await sbx.files.write('large', large.buffer)
  const got = await sbx.files.read('large', { format: 'bytes' })
  assert.ok(Buffer.compare(Buffer.from(got), Buffer.from(large)) === 0, 'the bytes differ')
  const out = await sbx.commands.run('seq 1 300000')
  assert.equal(out.stdout.length, 1988895)
})

check('input, terminal, watch', async () => {
  const cat = await sbx.commands.run('cat', { background: true, stdin: true })
  await sbx.commands.sendStdin(cat.pid, 'typed')
  await sbx.commands.closeStdin(cat.pid)
  assert.equal((await cat.wait()).stdout, 'typed')
  let seen = ''
  const pty = await sbx.pty.create({ cols: 80, rows: 24, onData: (data) => { seen += new TextDecoder().decode(data) } })
  await sbx.pty.sendInput(pty.pid, new TextEncoder().encode("echo do''main\n"))
  await until('output', () => seen.includes('domain\r\n'))
  await sbx.pty.kill(pty.pid)
  await sbx.files.makeDir('w')
  const events = []
  const watch = await sbx.files.watchDir('w', (e) => { events.push(e) })
  await sbx.files.write('w/f', 'x')
  await until('an event', () => events.some((e) => e.name === 'f'))
  await watch.stop()
})

check('addresses that need no client', async () => {
  await sbx.files.write('signed.txt', 'signed')
  assert.equal(await (await fetch(await sbx.downloadUrl('signed.txt', { useSignatureExpiration: 60 }))).text(), 'signed')
  await sbx.commands.run('cd /tmp && echo page > page && exec python3 -m http.server 3000', { background: true, timeoutMs: 0 })
  const url = `https://${sbx.getHost(3000)}/page`
  await until('the program listens', async () => (await fetch(url)).status === 200)
  assert.equal(await (await fetch(url)).text(), 'page\n')
})

check('a kill ends streams with an error', async () => {
  const job = await sbx.commands.run('sleep 1000', { background: true, timeoutMs: 0 })
  const ended = job.wait().catch((err) => err)
  assert.equal(await sbx.kill(), true)
  const err = await ended
  assert.ok(err instanceof TimeoutError, `${err?.name}: ${err?.message}`)
  assert.equal(await sbx.isRunning(), false)
})

await report()
