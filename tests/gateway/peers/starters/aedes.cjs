// aedes for one user, with sessions in memory: node aedes.cjs MODULES USER PASSWORD PORT. Only on loopback; ends when standard
// input does. MODULES is a directory `node_modules` with the package aedes.
const [modules, user, password, port] = process.argv.slice(2)
const { Aedes } = require(require.resolve('aedes', { paths: [modules] }))

Aedes.createBroker().then((aedes) => {
  aedes.authenticate = (client, name, word, done) => {
    const known = name === user && String(word) === password
    done(known ? null : Object.assign(new Error('unknown'), { returnCode: 4 }), known)
  }
  require('net').createServer(aedes.handle).listen(Number(port), '127.0.0.1')
})
process.stdin.on('end', () => process.exit(0)).resume()
