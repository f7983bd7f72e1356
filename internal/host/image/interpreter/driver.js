// Runs the JavaScript of one context for script_kernel.py.
//
//   node driver.js CODE_FD EVENTS_FD
//
// It reads requests from CODE_FD, one JSON object a line, and evaluates code through the
// inspector, which allows await and repeated declarations at the top level. It writes
// events to EVENTS_FD. SIGINT interrupts code, except a loop without end after an await.
'use strict'
const fs = require('node:fs')
const path = require('node:path')
const util = require('node:util')
const vm = require('node:vm')
const { execFile } = require('node:child_process')
const { Session } = require('node:inspector')
const { createInterface } = require('node:readline')
const { createRequire } = require('node:module')

const key = 'code-interpreter'
const typesLimit = 5e3 // ms that esbuild may take; far below the server's INTERRUPT_LIMIT
main()

function main() {
  const [code, events] = process.argv.slice(2, 4).map(Number)
  process.argv.length = 1

  function write(event) {
    const data = Buffer.from(JSON.stringify(event) + '\n')
    for (let at = 0; at < data.length; ) at += fs.writeSync(events, data, at)
  }

  for (const name of ['stdout', 'stderr']) {
    process[name].write = (chunk, encoding, done) => {
      const text = typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString()
      write({ stream: name, text })
      if (typeof encoding === 'function') done = encoding
      if (typeof done === 'function') process.nextTick(done)
      return true
    }
  }
  const errorOf = (e) => {
    if (util.types.isNativeError(e) || e instanceof Error) {
      const lines = String(e.stack ?? e).split('\n')
      const ours = lines.findIndex((line) => line.includes('at Session.post (node:inspector'))
      return { name: String(e.name), value: String(e.message), traceback: ours > 0 ? lines.slice(0, ours) : lines }
    }
    return { name: 'Error', value: typeof e === 'string' ? e : util.inspect(e), traceback: [util.inspect(e)] }
  }
  const late = (e) => write({ stream: 'stderr', text: errorOf(e).traceback.join('\n') + '\n' })
  process.on('uncaughtException', late)
  process.on('unhandledRejection', late)

  // bundle returns the forms of a result.
  function bundle(value) {
    const own = value?.[Symbol.for('Jupyter.display')]
    if (typeof own === 'function') {
      const data = own.call(value)
      if (data && typeof data === 'object') return data
    }
    const data = { 'text/plain': typeof value === 'string' ? value : util.inspect(value, { maxArrayLength: 1000, maxStringLength: null }) }
    if (value !== null && typeof value === 'object') {
      try {
        const json = JSON.stringify(value)
        if (json !== undefined) data['application/json'] = JSON.parse(json)
      } catch {
        // It has a cycle, or values that JSON does not know.
      }
    }
    return data
  }

  function reseed() {
    // xorshift128+, as V8 has it, with a state of its own.
    const fd = fs.openSync('/dev/urandom')
    const seed = Buffer.alloc(16)
    fs.readSync(fd, seed)
    fs.closeSync(fd)
    let [a, b] = [seed.readBigUInt64LE(0) | 1n, seed.readBigUInt64LE(8)]
    const mask = (1n << 64n) - 1n
    Math.random = () => {
      let s = a
      a = b
      s ^= (s << 23n) & mask
      s ^= s >> 17n
      s ^= b ^ (b >> 26n)
      b = s
      return Number(((a + b) & mask) >> 11n) / 2 ** 53
    }
  }

  let interrupt // ends the wait for the code under way
  process.on('SIGINT', () => interrupt?.())

  const bridge = {
    start: undefined,
    result(value) {
      if (value === undefined) return
      let data
      try {
        data = bundle(value)
      } catch (e) {
        return bridge.error(e)
      }
      write({ data, main: true })
    },
    error: (e) => write({ error: errorOf(e) }),
    import: (name) => import(/^\.{0,2}\//.test(name) ? path.resolve(name) : resolve(name)),
  }
  Object.defineProperty(globalThis, Symbol.for(key), { value: bridge })
  const require_ = createRequire(path.join(process.cwd(), 'cell.js'))
  // resolve finds packages from the working directory, because import() looks beside this file.
  function resolve(name) {
    try {
      return require_.resolve(name)
    } catch {
      return name
    }
  }
  globalThis.require = require_
  globalThis.display = (value) => write({ data: bundle(value), main: false })

  const session = new Session()
  session.connect()
  const at = `globalThis[Symbol.for('${key}')]`
  const starter = new vm.Script(`${at}.start()`)

  // give calls a function of the bridge with a value of the inspector.
  function give(name, value) {
    if (value.objectId) {
      return session.post('Runtime.callFunctionOn', {
        functionDeclaration: `function (value) { ${at}.${name}(value) }`,
        objectId: value.objectId,
        arguments: [{ objectId: value.objectId }],
        silent: true,
      })
    }
    if (value.unserializableValue) return bridge[name](vm.runInThisContext(value.unserializableValue))
    bridge[name](value.value)
  }

  async function run(code) {
    let answer = await evaluate(code)
    if (isUncompiled(answer, code)) {
      const plain = await withoutTypes(code)
      if (plain.interrupted) answer = plain
      else if (plain.code !== undefined) answer = await evaluate(plain.code)
    }
    if (answer.interrupted) write({ error: { name: 'KeyboardInterrupt', value: 'interrupted', traceback: [] } })
    else if (answer.exceptionDetails) give('error', answer.exceptionDetails.exception ?? { value: answer.exceptionDetails.text })
    else give('result', answer.result)
    session.post('Runtime.releaseObjectGroup', { objectGroup: 'cell' })
  }

  // isUncompiled reports whether nothing of the code has run, because it is no JavaScript.
  function isUncompiled(answer, code) {
    const details = answer.exceptionDetails
    if (details?.exception?.className !== 'SyntaxError' || details.stackTrace?.callFrames.length) return false
    try {
      parse(code)
      return false
    } catch {
      return true
    }
  }

  // withoutTypes gives TypeScript as JavaScript, or no code if it is neither. Imports stay, because
  // later cells may use them. The loop runs meanwhile, so that an interrupt ends esbuild.
  async function withoutTypes(code) {
    const config = JSON.stringify({ compilerOptions: { preserveValueImports: true } })
    const args = ['--loader=ts', '--charset=utf8', '--log-level=silent', `--tsconfig-raw=${config}`]
    const options = { cwd: '/', encoding: 'utf8', timeout: typesLimit, killSignal: 'SIGKILL', maxBuffer: 1 << 28 }
    let interrupted = false
    const plain = await new Promise((resolve) => {
      const esbuild = execFile('/usr/bin/esbuild', args, options, (err, plain) => {
        interrupted ||= err?.signal === 'SIGINT' // the whole process group gets it
        resolve(err ? undefined : plain)
      })
      interrupt = () => {
        interrupted = true
        esbuild.kill('SIGKILL')
      }
      esbuild.stdin?.on('error', () => {}) // it has ended before it has read all
      esbuild.stdin?.end(code)
    }).catch(() => undefined)
    interrupt = undefined
    return interrupted ? { interrupted } : { code: plain }
  }

  async function evaluate(code) {
    let expression = code
    try {
      expression = transform(code)
    } catch {
      // The engine tells the error.
    }
    const answer = await new Promise((resolve) => {
      interrupt = () => resolve({ interrupted: true })
      bridge.start = () =>
        session.post(
          'Runtime.evaluate',
          { expression, replMode: true, awaitPromise: true, objectGroup: 'cell', silent: true },
          (err, answer) => resolve(err ? { interrupted: true } : answer),
        )
      try {
        starter.runInThisContext({ breakOnSigint: true })
      } catch {
        interrupt()
      }
    })
    interrupt = undefined
    return answer
  }

  function setEnv(change) {
    for (const [name, value] of Object.entries(change)) {
      if (value === null) delete process.env[name]
      else process.env[name] = value
    }
  }

  let turn = Promise.resolve()
  const input = createInterface({ input: fs.createReadStream(null, { fd: code }) })
  input.on('line', (line) => {
    const request = JSON.parse(line)
    turn = turn.then(async () => {
      if (request.operation === 'run') await run(request.argument)
      else if (request.operation === 'env') setEnv(request.argument)
      else if (request.operation === 'reseed') reseed()
      write({ end: 0 })
    })
  })
  input.on('close', () => process.exit(0)) // script_kernel.py has ended

  // transform replaces import statements and import(), which evaluated code cannot have.
  function transform(code) {
    if (!/\bimport\b/.test(code)) return code
    const tree = parse(code)
    const changes = []
    walk(tree, (node) => {
      if (node.type === 'ImportDeclaration') changes.push([node.start, node.end, declaration(node)])
      else if (node.type === 'ImportExpression') changes.push([node.start, node.start + 'import'.length, `${at}.import`])
    })
    for (const [start, end, text] of changes.sort((a, b) => b[0] - a[0])) code = code.slice(0, start) + text + code.slice(end)
    return code
  }

  function parse(code) {
    const acorn = require('/usr/share/nodejs/acorn')
    return acorn.parse(code, {
      ecmaVersion: 'latest', sourceType: 'module', allowAwaitOutsideFunction: true, allowReturnOutsideFunction: true,
    })
  }

  function declaration(node) {
    const source = `await ${at}.import(${JSON.stringify(node.source.value)})`
    const names = []
    let whole
    for (const s of node.specifiers) {
      if (s.type === 'ImportNamespaceSpecifier') whole = s.local.name
      else names.push(`${s.type === 'ImportDefaultSpecifier' ? 'default' : s.imported.name ?? JSON.stringify(s.imported.value)}: ${s.local.name}`)
    }
    if (whole) return `const ${whole} = ${source}; ${names.length ? `const { ${names} } = ${whole};` : ''}`
    return names.length ? `const { ${names} } = ${source};` : `${source};`
  }

  function walk(node, visit) {
    if (!node || typeof node.type !== 'string') return
    visit(node)
    for (const value of Object.values(node)) {
      for (const child of Array.isArray(value) ? value : [value]) walk(child, visit)
    }
  }
}
