// Work inside one sandbox through the JavaScript client: commands, input, terminals,
// files in every form, watches, signed addresses and ports.

import http from 'node:http'
import { assert, check, report, sdk, until } from './check.mjs'

const { Sandbox, CommandExitError, TimeoutError, NotFoundError, AuthenticationError, FileType, FilesystemEventType } = sdk
const sbx = await Sandbox.create('base', { timeoutMs: 900_000, envs: { FROM: 'sandbox', BOTH: 'sandbox' } })

check('commands: output, errors, user, cwd, envs', async () => {
  const out = await sbx.commands.run('echo out; echo err >&2; pwd; id -un')
  assert.equal(out.stdout, 'out\n/home/user\nuser\n')
  assert.equal(out.stderr, 'err\n')
  assert.equal(out.exitCode, 0)
  const failed = await sbx.commands.run('echo before; exit 3').catch((err) => err)
  assert.ok(failed instanceof CommandExitError, String(failed))
  assert.deepEqual([failed.exitCode, failed.stdout], [3, 'before\n'])
  assert.equal((await sbx.commands.run('id -un; pwd', { user: 'root', cwd: '/tmp' })).stdout, 'root\n/tmp\n')
  assert.equal((await sbx.commands.run('echo $FROM $BOTH $E2B_SANDBOX $E2B_SANDBOX_ID', { envs: { BOTH: 'command' } })).stdout,
    `sandbox command true ${sbx.sandboxId}\n`)
  const odd = '$ö "quoted" \\ `x` \u{1f600}'
  assert.equal((await sbx.commands.run(`printf %s '${odd}'`)).stdout, odd)
  await assert.rejects(sbx.commands.run('true', { cwd: '/nowhere' }), /does not exist/)
  await assert.rejects(sbx.commands.run('true', { user: 'nobody-here' }), AuthenticationError)
  assert.equal((await sbx.commands.run('sudo -n id -un')).stdout, 'root\n')
})

check('commands: large output, streamed', async () => {
  let streamed = 0
  const out = await sbx.commands.run('seq 1 200000', { onStdout: (text) => { streamed += text.length } })
  assert.equal(out.stdout.length, 1288895)
  assert.equal(streamed, out.stdout.length)
  assert.ok(out.stdout.endsWith('\n200000\n'))
})

check('commands: a timeout ends the command', async () => {
  await assert.rejects(sbx.commands.run('sleep 871', { timeoutMs: 1_000 }), TimeoutError)
  await until('its processes have ended', async () => (await sbx.commands.run('pgrep -f "sleep 87[1]" || true')).stdout === '')
})

check('commands: background, list, connect, input, kill', async () => {
  const job = await sbx.commands.run('read a; echo got $a; sleep 1000', { background: true, stdin: true, timeoutMs: 0 })
  assert.ok((await sbx.commands.list()).some((p) => p.pid === job.pid))
  let seen = ''
  const again = await sbx.commands.connect(job.pid, { onStdout: (text) => { seen += text } })
  await sbx.commands.sendStdin(job.pid, 'hello\n')
  await until('the answer', () => seen === 'got hello\n')
  assert.equal(await sbx.commands.kill(job.pid), true)
  await assert.rejects(again.wait(), CommandExitError)
  await assert.rejects(job.wait(), CommandExitError)
  assert.equal(await sbx.commands.kill(job.pid), false)
  await assert.rejects(sbx.commands.connect(4_000_000), NotFoundError)
})

check('commands: closed stdin, and no stdin', async () => {
  const cat = await sbx.commands.run('cat', { background: true, stdin: true })
  await sbx.commands.sendStdin(cat.pid, 'one ')
  await sbx.commands.sendStdin(cat.pid, new TextEncoder().encode('two'))
  await sbx.commands.closeStdin(cat.pid)
  assert.equal((await cat.wait()).stdout, 'one two')
  assert.equal((await sbx.commands.run('cat | wc -c')).stdout.trim(), '0')
})

check('commands: a disconnect does not end one', async () => {
  const job = await sbx.commands.run('sleep 2; echo late > /tmp/late; sleep 1000', { background: true, timeoutMs: 0 })
  await job.disconnect()
  await until('it has gone on', () => sbx.files.exists('/tmp/late'))
  assert.equal(await sbx.commands.kill(job.pid), true)
})

check('pty: prompt, input, resize, connect, kill', async () => {
  let seen = ''
  const decoder = new TextDecoder()
  const pty = await sbx.pty.create({ cols: 80, rows: 24, onData: (data) => { seen += decoder.decode(data) }, envs: { MARK: 'in-pty' }, timeoutMs: 0 })
  const type = (text) => sbx.pty.sendInput(pty.pid, new TextEncoder().encode(text))
  await type('echo $MARK $TERM; stty size\n')
  await until('output', () => /in-pty xterm-256color\r\n24 80/.test(seen))
  await sbx.pty.resize(pty.pid, { cols: 100, rows: 30 })
  await type('stty size\n')
  await until('the new size', () => seen.includes('30 100'))
  await pty.disconnect()
  let other = ''
  const again = await sbx.pty.connect(pty.pid, { onData: (data) => { other += decoder.decode(data) } })
  await type("echo a''gain\n")
  await until('output of the second client', () => other.includes('again\r\n'))
  assert.equal(await sbx.pty.kill(pty.pid), true)
  await again.wait().catch(() => {})
  assert.equal(await sbx.pty.kill(pty.pid), false)
})

check('files: every form of write and read', async () => {
  const info = await sbx.files.write('dir/a.txt', 'text')
  assert.deepEqual([info.path, info.name, info.type], ['/home/user/dir/a.txt', 'a.txt', 'file'])
  assert.equal(await sbx.files.read('dir/a.txt'), 'text')
  await sbx.files.write('dir/b.bin', new Uint8Array([0, 255, 1, 2]).buffer)
  assert.deepEqual([...(await sbx.files.read('dir/b.bin', { format: 'bytes' }))], [0, 255, 1, 2])
  await sbx.files.write('dir/c.txt', new Blob(['blob']))
  assert.equal(await (await sbx.files.read('dir/c.txt', { format: 'blob' })).text(), 'blob')
  const stream = new ReadableStream({ start(c) { c.enqueue(new TextEncoder().encode('stre')); c.enqueue(new TextEncoder().encode('am')); c.close() } })
  await sbx.files.write('dir/d.txt', stream)
  let streamed = ''
  for await (const piece of await sbx.files.read('dir/d.txt', { format: 'stream' })) streamed += new TextDecoder().decode(piece)
  assert.equal(streamed, 'stream')
  await sbx.files.write('dir/e.txt', 'packed '.repeat(1000), { gzip: true })
  assert.equal(await sbx.files.read('dir/e.txt', { gzip: true }), 'packed '.repeat(1000))
  await sbx.files.write('dir/o.txt', 'octets', { useOctetStream: true })
  assert.equal(await sbx.files.read('dir/o.txt'), 'octets')
  const many = await sbx.files.write([{ path: 'many/1', data: 'eins' }, { path: '/tmp/many/2', data: 'zwei' }])
  assert.deepEqual(many.map((f) => f.path), ['/home/user/many/1', '/tmp/many/2'])
  assert.equal(await sbx.files.read('/tmp/many/2'), 'zwei')
  await sbx.files.write('empty', '')
  for (const format of ['text', 'bytes']) assert.equal((await sbx.files.read('empty', { format })).length, 0, format)
  await sbx.files.write('dir/a.txt', 'as root', { user: 'root' }).catch(() => {})
  await assert.rejects(sbx.files.read('missing'), /does not exist/)
  assert.match(await sbx.files.read('/proc/self/status'), /^Name:/)
})

check('files: metadata', async () => {
  const info = await sbx.files.write('meta.txt', 'x', { metadata: { Kind: 'first', other: 'b' } })
  assert.deepEqual(info.metadata, { kind: 'first', other: 'b' })
  assert.deepEqual((await sbx.files.getInfo('meta.txt')).metadata, { kind: 'first', other: 'b' })
  await sbx.files.write('meta.txt', 'y')
  assert.deepEqual((await sbx.files.getInfo('meta.txt')).metadata ?? {}, {})
})

check('files: list, info, exists, makeDir, rename, remove', async () => {
  assert.equal(await sbx.files.makeDir('tree/sub'), true)
  assert.equal(await sbx.files.makeDir('tree/sub'), false)
  await sbx.files.write('tree/sub/f', '123')
  const flat = await sbx.files.list('tree')
  assert.deepEqual(flat.map((e) => [e.name, e.type]), [['sub', FileType.DIR]])
  assert.deepEqual((await sbx.files.list('tree', { depth: 2 })).map((e) => e.path), ['/home/user/tree/sub', '/home/user/tree/sub/f'])
  const info = await sbx.files.getInfo('tree/sub/f')
  assert.deepEqual([info.size, info.mode, info.permissions, info.owner, info.group], [3, 0o644, '-rw-r--r--', 'user', 'user'])
  assert.ok(Math.abs(info.modifiedTime - Date.now()) < 3_600_000)
  await sbx.commands.run('ln -s sub/f tree/link')
  assert.equal((await sbx.files.getInfo('tree/link')).symlinkTarget, '/home/user/tree/sub/f')
  assert.equal((await sbx.files.rename('tree/sub/f', 'tree/g')).path, '/home/user/tree/g')
  assert.equal(await sbx.files.exists('tree/sub/f'), false)
  assert.equal(await sbx.files.exists('tree/g'), true)
  await sbx.files.remove('tree')
  await sbx.files.remove('tree')
  assert.equal(await sbx.files.exists('tree'), false)
  await assert.rejects(sbx.files.list('tree'), NotFoundError)
  await assert.rejects(sbx.files.rename('tree', 'x'), NotFoundError)
})

check('files: watch', async () => {
  await sbx.files.makeDir('watched')
  const events = []
  const watch = await sbx.files.watchDir('watched', (e) => { events.push(e) }, { recursive: true, timeoutMs: 0 })
  await sbx.files.write('watched/new.txt', '1')
  await sbx.files.makeDir('watched/deep')
  await until('the new directory', () => events.some((e) => e.name === 'deep' && e.type === FilesystemEventType.CREATE))
  await sbx.files.write('watched/deep/x', '1')
  await sbx.files.remove('watched/new.txt')
  const has = (name, type) => events.some((e) => e.name === name && e.type === type)
  await until('all events', () => has('new.txt', FilesystemEventType.WRITE) && has('new.txt', FilesystemEventType.REMOVE) && events.some((e) => e.name === 'deep/x'))
  await watch.stop()
  await assert.rejects(sbx.files.watchDir('nowhere', () => {}), NotFoundError)
})

// byName sends a request to a host name below the domain, which resolves nowhere here.
function byName(url, { method = 'GET', headers = {}, body } = {}) {
  const to = new URL(url)
  const server = new URL(process.env.E2B_API_URL)
  return new Promise((resolve, reject) => {
    const req = http.request({ host: server.hostname, port: server.port, method, path: to.pathname + to.search, headers: { Host: to.host, ...headers } }, (res) => {
      let text = ''
      res.on('data', (piece) => { text += piece })
      res.on('end', () => resolve({ status: res.statusCode, text }))
      res.on('error', reject)
    })
    req.on('error', reject)
    req.end(body)
  })
}

check('files: signed addresses', async () => {
  const url = process.env.E2B_SANDBOX_URL
  delete process.env.E2B_SANDBOX_URL
  try {
    const direct = new Sandbox({ ...{ sandboxId: sbx.sandboxId, envdVersion: '0.6.13', envdAccessToken: sbx.envdAccessToken, sandboxDomain: process.env.E2B_DOMAIN } })
    await sbx.files.write('signed.txt', 'signed')
    const got = await byName(await direct.downloadUrl('signed.txt'))
    assert.deepEqual([got.status, got.text], [200, 'signed'])
    assert.equal((await byName(await direct.downloadUrl('signed.txt', { useSignatureExpiration: 60 }))).status, 200)
    const expired = new URL(await direct.downloadUrl('signed.txt', { useSignatureExpiration: 60 }))
    expired.searchParams.set('signature_expiration', '1000000000')
    assert.equal((await byName(expired)).status, 401)
    const other = new URL(await direct.downloadUrl('signed.txt'))
    other.searchParams.set('path', '/etc/passwd')
    assert.equal((await byName(other)).status, 401)
    const up = await byName(await direct.uploadUrl('up.txt'), { method: 'POST', headers: { 'Content-Type': 'application/octet-stream' }, body: 'uploaded' })
    assert.equal(up.status, 200, up.text)
    assert.equal(await sbx.files.read('up.txt'), 'uploaded')
  } finally {
    process.env.E2B_SANDBOX_URL = url
  }
})

check('ports: getHost, a program on 127.0.0.1, a closed port, after the kill', async () => {
  await sbx.commands.run('cd /tmp && exec python3 -m http.server 3000 --bind 127.0.0.1', { background: true, timeoutMs: 0 })
  await sbx.files.write('/tmp/page.txt', 'served')
  const url = (port, path) => `http://${sbx.getHost(port)}${path}`
  await until('the server listens', async () => (await byName(url(3000, '/page.txt'))).status === 200)
  assert.equal((await byName(url(3000, '/page.txt'))).text, 'served')
  const closed = await byName(url(3999, '/'))
  assert.equal(closed.status, 502)
  const { error: _, ...body } = JSON.parse(closed.text) // error is the form of our own API
  assert.deepEqual(body, { sandboxId: sbx.sandboxId, message: 'The sandbox is running but port is not open', port: 3999, code: 502 })
  assert.equal(await sbx.kill(), true)
  const gone = await byName(url(3000, '/'))
  assert.equal(gone.status, 502)
  assert.equal(JSON.parse(gone.text).message, 'The sandbox was not found')
  await assert.rejects(sbx.commands.run('true'))
})

check('ports: a private sandbox', async () => {
  const own = await Sandbox.create('base', { network: { allowPublicTraffic: false } })
  const url = `http://${own.getHost(3999)}/`
  assert.equal((await byName(url)).status, 403)
  assert.equal((await byName(url, { headers: { 'e2b-traffic-access-token': own.trafficAccessToken } })).status, 502)
  assert.equal((await own.commands.run('echo reached')).stdout, 'reached\n')
  await own.kill()
})

await report()
