// Builds of templates through the JavaScript client: every kind of step, logs, failures,
// the cache, tags, and the sandboxes that start from them. COMPAT_IMAGE is the reference
// of an image in a registry that the server may read.

import { mkdtemp, mkdir, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { assert, check, raw, report, sdk, sdkName, skipped, until } from './check.mjs'

const { Sandbox, Template, BuildError, waitForPort, waitForFile } = sdk
const image = process.env.COMPAT_IMAGE
const name = `compat-js-${sdkName}-${Math.random().toString(36).slice(2)}`
const context = await mkdtemp(path.join(tmpdir(), 'compat-'))
await mkdir(path.join(context, 'app/deep'), { recursive: true })
await writeFile(path.join(context, 'app/main.txt'), 'main')
await writeFile(path.join(context, 'app/deep/leaf.txt'), 'leaf')
await writeFile(path.join(context, 'single.sh'), '#!/bin/sh\necho ran\n', { mode: 0o755 })
await writeFile(path.join(context, 'one.cfg'), 'one')
await writeFile(path.join(context, 'two.cfg'), 'two')
await symlink('main.txt', path.join(context, 'app/link'))

const from = () => Template({ fileContextPath: context })

// steps is a template with every kind of step.
const steps = () => from().fromTemplate('base')
  .setEnvs({ GREETING: 'hello', WHOLE: '$GREETING world', SUITE: name }) // in no other suite's cache
  .runCmd('id -un > /tmp/first; pwd >> /tmp/first; echo "$WHOLE" >> /tmp/first')
  .runCmd('mkdir -p /srv/data && echo made > /srv/data/root', { user: 'root' })
  .copy('app', '/srv/app', { user: 'root' })
  .copy('single.sh', '/home/user/bin/renamed', { mode: 0o700 })
  .copy('*.cfg', '/home/user/etc/')
  .setWorkdir('/home/user/work')
  .runCmd('echo from-the-build > here')
  .runCmd('echo progress of the build')
  .setStartCmd('python3 -m http.server 8000', waitForPort(8000))

// build builds a template and returns the client's answer with the text of the log.
async function build(template, as, options = {}) {
  const lines = []
  const info = await Template.build(template, as, { cpuCount: 1, memoryMB: 512, ...options, onBuildLogs: (entry) => lines.push(entry.message) })
  return { ...info, log: lines.join('\n') }
}

let first

check('build with every kind of step', async () => {
  assert.equal(await Template.exists(name), false)
  first = await build(steps(), name)
  assert.ok(first.templateId && first.buildId, JSON.stringify(first))
  assert.match(first.log, /^progress of the build$/m)
  assert.equal(await Template.exists(name), true)
  assert.equal(await Template.aliasExists(name), true)
})

check('a sandbox of it: files, user, directory, environment, start command', async () => {
  const sbx = await Sandbox.create(name, { metadata: { suite: name } })
  const out = async (command) => (await sbx.commands.run(command)).stdout.trim()
  assert.equal(await sbx.files.read('/tmp/first'), 'user\n/home/user\nhello world\n')
  assert.equal(await sbx.files.read('/srv/data/root'), 'made\n')
  assert.equal(await out('cd /srv/app && cat main.txt deep/leaf.txt link && readlink link && stat -c %U:%G . main.txt deep/leaf.txt'),
    'mainleafmainmain.txt\nroot:root\nroot:root\nroot:root')
  assert.equal(await out('~/bin/renamed; stat -c "%a %U" ~/bin/renamed'), 'ran\n700 user')
  assert.equal(await out('cat ~/etc/one.cfg ~/etc/two.cfg'), 'onetwo')
  assert.equal(await out('id -un; pwd; cat here; stat -c %U .'), 'user\n/home/user/work\nfrom-the-build\nuser')
  assert.equal(await out('echo "${GREETING:-none}"'), 'hello')
  assert.equal(await out('sudo -n id -un'), 'root')
  // The server was started by the build, and runs since before the sandbox was made.
  assert.equal(await out('curl -fsS http://127.0.0.1:8000/here'), 'from-the-build')
  assert.equal(await out("tr '\\0' '\\n' < /proc/$(pgrep -f http.server | head -1)/environ | grep ^WHOLE="), 'WHOLE=hello world')
  const info = await sbx.getInfo()
  assert.deepEqual([info.templateId, info.name, info.cpuCount, info.memoryMB], [first.templateId, name, 1, 512])
  for (const ref of [name, first.templateId]) {
    const listed = (await raw('GET', `/v2/sandboxes?template=${ref}`)).json
    assert.deepEqual(listed.map((row) => row.sandboxID), [sbx.sandboxId], ref)
  }
  await sbx.pause()
  const again = await Sandbox.connect(sbx.sandboxId)
  assert.equal((await again.commands.run('pwd; curl -fsS http://127.0.0.1:8000/here')).stdout, '/home/user/work\nfrom-the-build\n')
  assert.equal(await sbx.kill(), true)
})

check('a second build takes all steps from the cache, and skipCache none', async () => {
  const again = await build(steps(), name)
  assert.match(again.log, /CACHED/)
  assert.doesNotMatch(again.log, /^progress of the build$/m)
  const anew = await build(steps(), name, { skipCache: true })
  assert.doesNotMatch(anew.log, /CACHED/)
  assert.match(anew.log, /^progress of the build$/m)
  const late = await build(from().fromTemplate('base').runCmd('echo early step').skipCache().runCmd('echo late step'), name)
  assert.match(late.log, /^late step$/m)
  first = anew
})

check('in the background, with tags, and created by the id of the build', async () => {
  const template = from().fromTemplate('base').runCmd('echo v2 > /tmp/version; sleep 2')
  const begun = await Template.buildInBackground(template, `${name}:v2`, { tags: ['next'] })
  let status = await Template.getBuildStatus(begun, { logsOffset: 0 })
  assert.equal(status.status, 'building', JSON.stringify(status))
  await until('the build is ready', async () => {
    status = await Template.getBuildStatus(begun)
    assert.notEqual(status.status, 'error', JSON.stringify(status.reason))
    return status.status === 'ready'
  })
  for (const ref of [`${name}:v2`, `${name}:next`, `${name}:${begun.buildId}`, `team/${name}:v2`]) {
    const sbx = await Sandbox.create(ref)
    assert.equal(await sbx.files.read('/tmp/version'), 'v2\n', ref)
    await sbx.kill()
  }
  const old = await Sandbox.create(`${name}:${first.buildId}`)
  assert.equal(await old.files.exists('/tmp/version'), false)
  await old.kill()
  await assert.rejects(Sandbox.create(`${name}:none`), /404|not found/)
})

check('tags: assign, get, remove', async () => {
  const set = await Template.assignTags(`${name}:v2`, ['stable', 'default'])
  assert.deepEqual([...set.tags].sort(), ['default', 'stable'])
  const tags = new Map((await Template.getTags(name)).map((tag) => [tag.tag, tag.buildId]))
  assert.deepEqual([...tags.keys()].sort(), ['default', 'next', 'stable', 'v2'])
  assert.equal(tags.get('stable'), set.buildId)
  assert.equal(tags.get('default'), set.buildId)
  await Template.removeTags(name, 'next')
  await assert.rejects(Template.removeTags(name, 'next'), /404/)
  await assert.rejects(Template.removeTags(name, 'default'), /400/)
  await assert.rejects(Template.assignTags(`${name}:none`, 'x'), /404/)
  assert.deepEqual((await Template.getTags(name)).map((tag) => tag.tag).sort(), ['default', 'stable', 'v2'])
})

check('a build that fails names its step', async () => {
  const failing = from().fromTemplate('base').runCmd('true').runCmd('echo told before; exit 7').runCmd('true')
  const lines = []
  const err = await Template.build(failing, `${name}-bad`, { onBuildLogs: (entry) => lines.push(entry.message) }).catch((e) => e)
  assert.ok(err instanceof BuildError, String(err))
  assert.match(err.message, /exit 7[^]*status 7/)
  assert.match(err.stack, /templates\.mjs/)
  assert.match(lines.join('\n'), /told before/)
  const { templateID, buildID } = (await raw('GET', `/templates/${name}-bad`)).json.builds.map((b) => ({ templateID: `${name}-bad`, ...b }))[0]
  const status = (await raw('GET', `/templates/${templateID}/builds/${buildID}/status`)).json
  assert.deepEqual([status.status, status.reason.step], ['error', '2'])
  assert.ok(status.reason.logEntries.some((e) => e.message.includes('told before')), JSON.stringify(status.reason))
  const nobody = from().fromTemplate('base').runCmd('whoami', { user: 'root123' })
  await assert.rejects(Template.build(nobody, `${name}-bad`), (e) =>
    e.message.includes("failed to run command 'whoami': command failed: unauthenticated: invalid username: 'root123'"))
  await assert.rejects(Sandbox.create(`${name}-bad`))
  await assert.rejects(Template.build(from().fromTemplate('base').copy('nothing-here', '/x'), `${name}-bad`))
  await assert.rejects(Template.build(from().fromTemplate('no-such-template'), `${name}-bad`), BuildError)
  assert.equal((await raw('DELETE', `/templates/${name}-bad`)).status, 204)
})

check('from a template that was built', async () => {
  const child = await build(from().fromTemplate(`${name}:v2`).runCmd('cat /tmp/version').copy('one.cfg', 'one.cfg'), `${name}-child`)
  assert.match(child.log, /v2/)
  const sbx = await Sandbox.create(`${name}-child`)
  assert.equal((await sbx.commands.run('cat /tmp/version ~/one.cfg')).stdout, 'v2\none')
  await sbx.kill()
})

// withImage is a check that needs the image.
const withImage = image ? check : (what) => skipped(what, 'COMPAT_IMAGE is not set')

withImage('from an image', async () => {
  const template = from().fromImage(image).runCmd('echo "$FROM_IMAGE" > env; id -un >> env').setReadyCmd(waitForFile('/home/user/env'))
  await build(template, `${name}-image`)
  const sbx = await Sandbox.create(`${name}-image`)
  assert.equal((await sbx.commands.run('cat ~/env; cat /etc/compat-image; pwd')).stdout, 'of the image\nuser\nmade by the test\n/home/user\n')
  await sbx.kill()
  await assert.rejects(Template.build(from().fromImage(`${image}-missing`).runCmd('true'), `${name}-image`), BuildError)
})

withImage('from a Dockerfile', async () => {
  const template = from().fromDockerfile(`FROM ${image}
ARG FLAVOUR=plain
ENV MODE=$FLAVOUR
WORKDIR /opt/app
COPY app/main.txt ./copied.txt
RUN echo "$MODE $(id -un)" > mode.txt
CMD ["python3", "-m", "http.server", "9000"]
`)
  await build(template.setReadyCmd ? template.setReadyCmd(waitForPort(9000)) : template, `${name}-docker`)
  const sbx = await Sandbox.create(`${name}-docker`)
  assert.equal((await sbx.commands.run('cat copied.txt; echo; cat mode.txt; pwd')).stdout, 'main\nplain root\n/opt/app\n')
  assert.equal((await sbx.commands.run('curl -fsS http://127.0.0.1:9000/mode.txt')).stdout, 'plain root\n')
  await sbx.kill()
})

check('refusals of single calls', async () => {
  const begun = (await raw('POST', '/v3/templates', { body: { name: `${name}-raw` } })).json
  assert.deepEqual(begun.names, [`${name}-raw`])
  const at = `/v2/templates/${begun.templateID}/builds/${begun.buildID}`
  for (const body of [
    {}, { fromTemplate: 'base', fromImage: 'x' }, { fromTemplate: 'base', steps: [{ type: 'ADD', args: ['a', 'b'] }] },
    { fromImage: 'x', fromImageRegistry: { type: 'aws', awsAccessKeyId: 'a', awsSecretAccessKey: 'b', awsRegion: 'c' } },
  ]) assert.equal((await raw('POST', at, { body })).status, 400, JSON.stringify(body))
  const link = (await raw('GET', `/templates/${begun.templateID}/files/${'0'.repeat(64)}`)).json
  assert.equal(link.present, false)
  const put = (url, body) => fetch(url, { method: 'PUT', body }).then((res) => res.status)
  assert.equal(await put(link.url.replace('signature=', 'signature=x'), 'x'), 401)
  assert.equal(await put(link.url.replace('0000', '1111'), 'x'), 401)
  assert.equal((await raw('POST', '/v3/templates', { body: { name: 'base' } })).status, 409)
  assert.equal((await raw('POST', '/v3/templates', { body: { name: 'Not A Name' } })).status, 400)
  assert.equal((await raw('PATCH', `/v2/templates/${name}-raw`, { body: { public: true } })).status, 200)
  assert.equal((await raw('GET', `/templates/aliases/${name}-raw`)).json.public, true)
  assert.equal((await raw('DELETE', `/templates/team%2F${name}-raw`)).status, 204)
})

check('delete', async () => {
  const running = await Sandbox.create(name)
  for (const suffix of ['', '-child', ...(image ? ['-image', '-docker'] : [])]) {
    assert.equal((await raw('DELETE', `/templates/${name}${suffix}`)).status, 204, suffix)
  }
  assert.equal((await raw('DELETE', `/templates/${name}`)).status, 404)
  assert.equal(await Template.exists(name), false)
  assert.equal((await running.commands.run('cat /tmp/version')).stdout, 'v2\n')
  await running.kill()
  await assert.rejects(Sandbox.create(name), /404|not found/)
})

await report()
