// The command-line client: create, list, info, exec, connect by a terminal, pause, metrics, snapshots,
// logs, templates, kill.

import { execFile, spawn } from 'node:child_process'
import { mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { assert, check, raw, report, sdk, skipped, until } from './check.mjs'

const { Sandbox } = sdk
const program = fileURLToPath(new URL('../node_modules/@e2b/cli/dist/index.js', import.meta.url))

// cli runs the client and returns its exit code and output.
function cli(args, input) {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [program, ...args], { timeout: 120_000, env: { ...process.env, FORCE_COLOR: '0' } }, (err, stdout, stderr) => {
      resolve({ code: err ? (err.code ?? -1) : 0, stdout, stderr })
    })
    child.stdin.end(input ?? '')
  })
}

async function ok(args, input) {
  const out = await cli(args, input)
  assert.equal(out.code, 0, `e2b ${args.join(' ')}: ${out.code}\n${out.stdout}\n${out.stderr}`)
  return out.stdout
}

let id

check('create --detach, list, info', async () => {
  const out = await ok(['sandbox', 'create', 'base', '--detach'])
  id = out.match(/\b[a-z2-7]{20}\b/)?.[0]
  assert.ok(id, out)
  await Sandbox.setTimeout(id, 600_000)
  const listed = JSON.parse(await ok(['sandbox', 'list', '--format', 'json']))
  assert.ok(listed.some((sbx) => sbx.sandboxId === id), JSON.stringify(listed))
  assert.match(await ok(['sandbox', 'list']), new RegExp(id))
  assert.match(await ok(['sandbox', 'info', id]), new RegExp(id))
})

check('exec, with input and exit code', async () => {
  assert.equal(await ok(['sandbox', 'exec', id, '--', 'echo', 'from the guest']), 'from the guest\n')
  assert.equal(await ok(['sandbox', 'exec', id, '--', 'cat'], 'piped'), 'piped')
  assert.equal((await cli(['sandbox', 'exec', id, '--', 'exit 4'])).code, 4)
})

check('connect, with a terminal', async () => {
  const child = spawn('script', ['-qec', `'${process.execPath}' '${program}' sandbox connect ${id}`, '/dev/null'], { env: process.env })
  let seen = ''
  child.stdout.on('data', (piece) => { seen += piece })
  const ended = new Promise((resolve) => child.on('close', resolve))
  await until('a prompt', () => seen.includes('$'))
  child.stdin.write("echo from-''the-terminal\n")
  await until('output', () => seen.includes('from-the-terminal'))
  child.stdin.write('exit\n')
  await ended
})

check('metrics, logs, snapshots, pause and resume', async () => {
  assert.match(await ok(['sandbox', 'metrics', id]), /CPU|%/i)
  const lines = (await ok(['sandbox', 'logs', id, '--format', 'json'])).trim().split('\n').map((line) => JSON.parse(line))
  assert.deepEqual(lines.slice(0, 2).map((e) => [e.level, e.logger, e.message]),
    [['info', 'sandbox', 'sandbox created'], ['info', 'sandbox', 'sandbox started']], JSON.stringify(lines))
  const commands = lines.filter((e) => e.logger === 'process').map((e) => e.message)
  assert.ok(commands.some((text) => /^process started: .*from the guest/.test(text)), JSON.stringify(commands))
  assert.ok(commands.some((text) => /^process ended with exit code 4: .*exit 4/.test(text)), JSON.stringify(commands))
  assert.match(await ok(['sandbox', 'logs', id]), /sandbox started/)
  const made = await ok(['sandbox', 'snapshot', 'create', id])
  const snap = made.match(/\b[a-z2-7]{20}\b/g)?.find((word) => word !== id)
  assert.ok(snap, made)
  assert.match(await ok(['sandbox', 'snapshot', 'list']), new RegExp(snap))
  assert.equal(await Sandbox.deleteSnapshot(snap), true)
  await ok(['sandbox', 'pause', id])
  assert.equal((await Sandbox.getInfo(id)).state, 'paused')
  assert.match(await ok(['sandbox', 'logs', id]), /sandbox paused/)
  assert.equal((await Sandbox.getInfo(id)).state, 'paused')
  await ok(['sandbox', 'resume', id])
  assert.equal((await Sandbox.getInfo(id)).state, 'running')
  assert.match(await ok(['sandbox', 'logs', id]), /sandbox resumed/)
})

check('template create, list, publish, delete', async () => {
  assert.match(await ok(['template', 'list']), /base/)
  if (!process.env.COMPAT_IMAGE) return skipped('template create', 'COMPAT_IMAGE is not set')
  const name = `compat-cli-${Math.random().toString(36).slice(2)}`
  const dir = await mkdtemp(path.join(tmpdir(), 'compat-'))
  await writeFile(path.join(dir, 'file.txt'), 'from the directory\n')
  await writeFile(path.join(dir, 'e2b.Dockerfile'), `FROM ${process.env.COMPAT_IMAGE}\nCOPY file.txt /opt/file.txt\nRUN cat /opt/file.txt\n`)
  const out = await ok(['template', 'create', name, '--path', dir, '--cpu-count', '1', '--memory-mb', '512',
    '--cmd', 'python3 -m http.server 8000', '--ready-cmd', 'curl -fs http://127.0.0.1:8000/'])
  assert.match(out, /from the directory/)
  assert.match(await ok(['template', 'list']), new RegExp(`base[^]*${name}|${name}[^]*base`))
  const made = JSON.parse(await ok(['template', 'list', '--format', 'json'])).find((t) => t.aliases.includes(name))
  assert.deepEqual([made.cpuCount, made.memoryMB, made.buildStatus], [1, 512, 'ready'], JSON.stringify(made))
  const sbx = await Sandbox.create(name)
  assert.equal((await sbx.commands.run('cat /opt/file.txt; curl -fsS -o /dev/null -w %{http_code} http://127.0.0.1:8000/')).stdout, 'from the directory\n200')
  await sbx.kill()
  await ok(['template', 'publish', name, '--yes'])
  assert.equal((await raw('GET', `/templates/aliases/${name}`)).json.public, true)
  await ok(['template', 'delete', name, '--yes'])
  assert.doesNotMatch(await ok(['template', 'list']), new RegExp(name))
})

check('kill, and kill again', async () => {
  await ok(['sandbox', 'kill', id])
  await until('it is gone', async () => !(await Sandbox.list().nextItems()).some((sbx) => sbx.sandboxId === id))
  const out = await cli(['sandbox', 'kill', id])
  assert.match(out.stdout + out.stderr, /not found|doesn't exist|wasn't found/i)
})

await report()
