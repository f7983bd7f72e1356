// Loaded before a suite: resolves every name below localhost to this machine, as resolvers
// with systemd's nss-myhostname do.

import dns from 'node:dns'

const lookup = dns.lookup

dns.lookup = function (name, options, callback) {
  if (typeof options === 'function') [options, callback] = [{}, options]
  if (!name.endsWith('.localhost')) return lookup(name, options, callback)
  if (options?.all) return process.nextTick(callback, null, [{ address: '127.0.0.1', family: 4 }])
  process.nextTick(callback, null, '127.0.0.1', 4)
}
