// DHT nodes of npm's bittorrent-dht, driven by ../interop_test.go: commands come in as one JSON object per line, and
// each is answered by one. Byte strings are hex. The process ends with its input.
import { createPrivateKey, createPublicKey, sign, verify } from 'node:crypto'
import { createInterface } from 'node:readline'
import DHT from 'bittorrent-dht'

const nodes = []

const publicKey = raw => createPublicKey({ format: 'jwk', key: { kty: 'OKP', crv: 'Ed25519', x: Buffer.from(raw).toString('base64url') } })
const privateKey = seed => createPrivateKey({
  format: 'der', type: 'pkcs8', key: Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed])
})
const bytes = hex => Buffer.from(hex, 'hex')
const hex = value => value == null ? '' : Buffer.from(value).toString('hex')

const commands = {
  start: ({ bootstrap }) => new Promise((resolve, reject) => {
    const dht = new DHT({ bootstrap, verify: (sig, message, key) => verify(null, message, publicKey(key), sig) })
    dht.on('error', reject)
    dht.listen(0, '127.0.0.1', () => {
      nodes.push(dht)
      dht.once('ready', () => resolve({ port: dht.address().port }))
    })
  }),

  count: ({ node }) => ({ count: nodes[node].nodes.toArray().length }),

  announce: ({ node, infohash, port }) => new Promise((resolve, reject) => {
    nodes[node].announce(infohash, port, err => err ? reject(err) : resolve({}))
  }),

  lookup: ({ node, infohash }) => new Promise((resolve, reject) => {
    const peers = new Set()
    const onpeer = (peer, hash) => { if (hash.toString('hex') === infohash) peers.add(`${peer.host}:${peer.port}`) }
    nodes[node].on('peer', onpeer)
    nodes[node].lookup(infohash, err => {
      nodes[node].off('peer', onpeer)
      err ? reject(err) : resolve({ peers: [...peers] })
    })
  }),

  put: ({ node, seed, salt, seq, v }) => new Promise((resolve, reject) => {
    const key = privateKey(bytes(seed))
    const k = bytes(Buffer.from(createPublicKey(key).export({ format: 'jwk' }).x, 'base64url').toString('hex'))
    nodes[node].put({ k, salt: bytes(salt), seq, v: bytes(v), sign: message => sign(null, message, key) },
      (err, target, count) => err ? reject(err) : resolve({ target: hex(target), count }))
  }),

  get: ({ node, target, salt }) => new Promise((resolve, reject) => {
    nodes[node].get(target, { salt: bytes(salt), cache: false },
      (err, r) => err ? reject(err) : resolve(r ? { v: hex(r.v), seq: r.seq, k: hex(r.k) } : {}))
  })
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line)
  let answer
  try {
    answer = await commands[command.do](command)
  } catch (err) {
    answer = { error: String(err.message || err), code: err.code }
  }
  process.stdout.write(JSON.stringify(answer) + '\n')
}
process.exit()
