// The code interpreter through its JavaScript client.

import { assert, check, report, until } from './check.mjs'
import { Sandbox, TimeoutError } from '@e2b/code-interpreter'

let sbx
// Under emulation a kernel takes up to two minutes to start.
const sandbox = async () => (sbx ??= await Sandbox.create({ timeoutMs: 1_800_000, requestTimeoutMs: 300_000 }))

check('the first run is warm, and state is kept', async () => {
  const s = await sandbox()
  assert.equal((await s.getInfo()).name, 'code-interpreter-v1')
  assert.equal((await s.runCode('x = 20; x + 1')).text, '21')
  const second = await s.runCode('x * 2')
  assert.equal(second.text, '40')
  assert.equal(second.executionCount, 2)
})

check('code runs only with the access token', async () => {
  const s = await sandbox()
  const host = s.getHost(49999)
  const at = process.env.E2B_SANDBOX_URL ?? `http://${host}`
  const ask = (token) =>
    fetch(`${at}/execute`, {
      method: 'POST',
      headers: { 'E2b-Sandbox-Id': s.sandboxId, 'E2b-Sandbox-Port': '49999', 'X-Access-Token': token },
      body: JSON.stringify({ code: '1' }),
    })
  for (const token of ['', 'envd_00']) assert.equal((await ask(token)).status, 401)
  assert.equal((await ask(s.envdAccessToken)).status, 200)
})

check('callbacks get output, results and errors', async () => {
  const s = await sandbox()
  const got = { out: '', err: '', results: [], errors: [] }
  const run = await s.runCode('import sys; print("ä1"); print("e1", file=sys.stderr); display({"a": 1}); 1/0', {
    onStdout: (m) => (got.out += m.line),
    onStderr: (m) => (got.err += m.line),
    onResult: (r) => got.results.push(r),
    onError: (e) => got.errors.push(e),
  })
  assert.equal(got.out, 'ä1\n')
  assert.equal(got.err, 'e1\n')
  assert.equal(got.results.length, 1)
  assert.equal(got.results[0].isMainResult, false)
  assert.equal(got.errors.length, 1)
  assert.equal(run.error.name, 'ZeroDivisionError')
  assert.equal(run.error.value, 'division by zero')
  assert.match(run.error.traceback, /ZeroDivisionError/)
})

check('a figure is a PNG with its chart', async () => {
  const s = await sandbox()
  const run = await s.runCode(`
import matplotlib.pyplot as plt
plt.plot([1, 2, 3], [4, 5, 6], label='speed')
plt.title('T'); plt.xlabel('time (s)')
plt.show()`)
  assert.equal(run.error, undefined)
  const [figure] = run.results
  assert.equal(Buffer.from(figure.png, 'base64').subarray(1, 4).toString(), 'PNG')
  assert.equal(figure.chart.type, 'line')
  assert.equal(figure.chart.title, 'T')
  assert.equal(figure.chart.x_unit, 's')
  assert.deepEqual(figure.chart.elements[0].points, [[1, 4], [2, 5], [3, 6]])
})

check('a chart without a title and labels, a pie, and an image that is saved', async () => {
  const s = await sandbox()
  const scatter = (await s.runCode('import matplotlib.pyplot as plt\nplt.scatter([1, 2], [3, 4]); plt.show()')).results[0].chart
  assert.deepEqual([scatter.type, scatter.title, scatter.x_label, scatter.y_label], ['scatter', null, null, null])
  const pie = (await s.runCode('plt.pie([90, 10], labels=["a", "b"], startangle=90); plt.show()')).results[0].chart
  assert.deepEqual(pie.elements.map((e) => [e.label, e.angle, e.radius]), [['a', 324, 1], ['b', 36, 1]])
  const saved = await s.runCode('from PIL import Image\nImage.new("RGB", (3, 3)).save("/tmp/saved.png"); open("/tmp/saved.png", "rb").read(4)')
  assert.equal(saved.error, undefined)
  assert.equal(saved.text, "b'\\x89PNG'")
  assert.equal(Buffer.from(saved.results[0].png, 'base64').subarray(1, 4).toString(), 'PNG')
})

check('languages: typescript', async () => {
  const s = await sandbox()
  const code = 'import { basename } from "path"\nenum Kind { A = 7 }\nconst n: number = Kind.A; console.log(await Promise.resolve(n)); n as number'
  const run = await s.runCode(code, { language: 'ts' })
  assert.equal(run.error, undefined)
  assert.equal(run.logs.stdout.join(''), '7\n')
  assert.equal(run.text, '7')
  assert.equal((await s.runCode('basename("/a/b" as string)', { language: 'typescript' })).text, 'b')
  for (const wrong of ['const = 1', 'console.log(1); JSON.parse("{")', 'console.log(1); throw new SyntaxError("x")']) {
    const failed = await s.runCode(wrong, { language: 'ts' })
    assert.equal(failed.error.name, 'SyntaxError')
    assert.equal(failed.logs.stdout.join(''), wrong.startsWith('console') ? '1\n' : '', 'the code must run once')
  }
})

// IRkernel marks no result as the main one.
check('languages: r', async () => {
  const s = await sandbox()
  const r = async (code, opts) => {
    const run = await s.runCode(code, { language: 'r', ...opts })
    return run.error ? run.error.value : run.results[0]?.text
  }
  assert.equal(await r('x <- 6; print("hi"); x * 7'), '[1] 42')
  assert.equal(await r('x'), '[1] 6')
  const envs = { ONE: 'a"b\\c\né', TWO: '2' }
  const given = 'identical(Sys.getenv(c("ONE", "TWO"), names = FALSE), c("a\\"b\\\\c\\n\\u00e9", "2"))'
  assert.equal(await r(given, { envs }), '[1] TRUE')
  assert.equal(await r('Sys.setenv(TWO = "own"); Sys.getenv(c("ONE", "TWO"), "none", names = FALSE)'), '[1] "none" "own" ')
  assert.equal(await r(given, { envs }), '[1] TRUE')
  assert.equal(await r('Sys.getenv(c("ONE", "TWO"), "none", names = FALSE)'), '[1] "none" "own" ')
  assert.match(await r('stop("bad")'), /bad/)
  // A sandbox of the default size has no memory for the kernels of all checks at once.
  for (const context of await s.listCodeContexts()) {
    if (context.language === 'r') await s.removeCodeContext(context)
  }
})

check('languages: javascript and bash', async () => {
  const s = await sandbox()
  const js = await s.runCode('const a = { b: [1, 2] }\nconsole.log("hi"); await Promise.resolve(a)', { language: 'javascript' })
  assert.equal(js.error, undefined)
  assert.deepEqual(js.logs.stdout.join(''), 'hi\n')
  assert.deepEqual(js.results[0].json, { b: [1, 2] })
  const again = await s.runCode('const a = 7; a', { language: 'js' })
  assert.equal(again.text, '7')
  const thrown = await s.runCode('throw new TypeError("bad")', { language: 'js' })
  assert.equal(thrown.error.name, 'TypeError')
  assert.equal(thrown.error.value, 'bad')
  await s.runCode('v=5; cd /tmp', { language: 'bash' })
  const bash = await s.runCode('echo $v $PWD; echo no >&2', { language: 'bash' })
  assert.equal(bash.logs.stdout.join(''), '5 /tmp\n')
  assert.equal(bash.logs.stderr.join(''), 'no\n')
  const failed = await s.runCode('exit 3', { language: 'bash' })
  assert.match(failed.error.value, /3/)
})

check('languages: java', async () => {
  const s = await sandbox()
  const java = (code, opts) => s.runCode(code, { language: 'java', ...opts })
  const hello = await java('System.out.println("Hello, World!"); System.err.print("no"); System.getProperty("user.dir")')
  assert.equal(hello.error, undefined)
  assert.deepEqual(hello.logs, { stdout: ['Hello, World!', '\n'], stderr: ['no'] })
  assert.equal(hello.text, '/home/user')
  const cell = 'record Point(int x, int y) {}\n\nint area(Point p) {\n  return p.x() * p.y();\n}\nvar p = new Point(6, 7);\narea(p)'
  assert.equal((await java(cell)).text, '42')
  assert.equal((await java('Stream.of(p, p).map(Point::x).collect(Collectors.toList())')).results[0].text, '[6, 6]')
  const envs = { ONE: 'a"b\\c\né' }
  assert.equal((await java('System.getProperty("ONE", "none")', { envs })).text, envs.ONE)
  assert.equal((await java('System.getProperty("ONE", "none")')).text, 'none')
  const thrown = await java('area(null)')
  assert.equal(thrown.error.name, 'NullPointerException')
  assert.match(thrown.error.traceback, /at area\(cell 2:4\)\n {4}at \(cell 6:1\)/)
  const wrong = await java('int n = "text";')
  assert.equal(wrong.error.name, 'CompilationException')
  assert.equal(wrong.error.value, 'incompatible types: java.lang.String cannot be converted to int')
  for (const context of await s.listCodeContexts()) {
    if (context.language === 'java') await s.removeCodeContext(context)
  }
})

check('contexts: create, list, restart, remove', async () => {
  const s = await sandbox()
  const before = await s.listCodeContexts()
  assert.deepEqual(before.slice(0, 2).map((c) => [c.language, c.cwd]), [['python', '/home/user'], ['javascript', '/home/user']])
  const context = await s.createCodeContext({ cwd: '/tmp' })
  assert.equal(context.cwd, '/tmp')
  assert.equal((await s.runCode('import os; y = 1; os.getcwd()', { context })).text, '/tmp')
  assert.equal((await s.listCodeContexts()).length, before.length + 1)
  await s.restartCodeContext(context)
  assert.equal((await s.runCode('y', { context })).error.name, 'NameError')
  await s.removeCodeContext(context)
  await assert.rejects(s.runCode('1', { context }), /not found/)
  await assert.rejects(s.runCode('1', { context, language: 'python' }))
})

check('variables of one run end with it', async () => {
  const s = await sandbox()
  assert.equal((await s.runCode('import os; os.environ.get("ONE")', { envs: { ONE: "it's" } })).text, "it's")
  assert.equal((await s.runCode('os.environ.get("ONE")')).text, undefined)
})

check('a client that gives up interrupts its run, and the state is kept', async () => {
  const s = await sandbox()
  await s.runCode('kept = 1')
  await assert.rejects(s.runCode('import time\nwhile True: time.sleep(0.1)', { timeoutMs: 3_000 }), TimeoutError)
  const begun = Date.now()
  assert.equal((await s.runCode('kept + 1')).text, '2')
  assert.ok(Date.now() - begun < 30_000, 'the next run had to wait')
})

check('the server is back when it is killed', async () => {
  const s = await sandbox()
  await s.commands.run("pkill -9 -f code-interpreter/server.py", { user: 'root' })
  const text = await until('a run after the kill', async () => {
    try {
      return (await s.runCode('"back"')).text
    } catch {
      return undefined
    }
  })
  assert.equal(text, 'back')
})

check('end', async () => {
  assert.equal(await sbx.kill(), true)
})

await report()
