// node talk.js WASM_EXEC CHAT_WASM: two devices talk, and what arrives is printed.
"use strict";
globalThis.require = require;
globalThis.fs = require("fs");
globalThis.path = require("path");
require(process.argv[2]);

const text = (b) => Buffer.from(b).toString();
const bytes = (s) => new TextEncoder().encode(s);
function ok(v) {
  if (v instanceof Error) throw v;
  return v;
}

(async () => {
  const go = new Go();
  const { instance } = await WebAssembly.instantiate(fs.readFileSync(process.argv[3]), go.importObject);
  go.run(instance);
  const device = (name, suite) => ok(ententeChat(crypto.getRandomValues(new Uint8Array(32)), bytes(name), suite));
  const ana = device("ana", 0xf0e1), bo = device("bo", 0xf0e1), room = bytes("room");
  ok(ana.create(room));
  const [kp] = ok(bo.keyPackage());
  const [, welcome] = ok(ana.add(room, kp));
  const [id] = ok(bo.join(welcome));
  const [message] = ok(ana.send(room, bytes("hello")));
  const [from, data] = ok(bo.receive(id, message));
  if (!(bo.receive(id, message) instanceof Error)) throw new Error("opened twice");
  if (!(bo.receive(id, "no bytes") instanceof Error)) throw new Error("took a string");
  console.log(text(from) + ": " + text(data));
  process.exit(0);
})().catch((e) => {
  console.error(e);
  process.exit(1);
});
