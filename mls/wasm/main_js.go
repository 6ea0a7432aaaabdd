//go:build js && wasm

package main

import (
	"syscall/js"

	"github.com/entente-im/entente/mls"
	"github.com/entente-im/entente/mls/group"
)

// main puts a function ententeChat(seed, name, suite) into the global object. It
// returns an object with the methods of chat. Bytes are Uint8Array; a method
// returns an array of them, or an Error.
func main() {
	js.Global().Set("ententeChat", js.FuncOf(func(_ js.Value, args []js.Value) any {
		if len(args) != 3 || args[2].Type() != js.TypeNumber {
			return failed("wasm: want seed, name and suite")
		}
		in, ok := take(args[:2], 2)
		suite := args[2].Int()
		if !ok || suite < 0 || suite > 0xffff {
			return failed("wasm: want seed, name and suite")
		}
		c, err := newChat(in[0], in[1], mls.SuiteID(suite))
		if err != nil {
			return failed(err.Error())
		}
		return c.methods()
	}))
	select {}
}

func (c *chat) methods() any {
	out := js.Global().Get("Object").New()
	set := func(name string, want int, f func(in [][]byte) ([][]byte, error)) {
		out.Set(name, js.FuncOf(func(_ js.Value, args []js.Value) any {
			in, ok := take(args, want)
			if !ok {
				return failed("wasm: " + name + " wants byte arrays")
			}
			b, err := f(in)
			if err != nil {
				return failed(err.Error())
			}
			return give(b)
		}))
	}
	set("keyPackage", 0, func([][]byte) ([][]byte, error) { b, err := c.keyPackage(); return [][]byte{b}, err })
	set("create", 1, func(in [][]byte) ([][]byte, error) { return nil, c.create(in[0]) })
	set("join", 1, func(in [][]byte) ([][]byte, error) { b, err := c.join(in[0]); return [][]byte{b}, err })
	set("add", 2, func(in [][]byte) ([][]byte, error) {
		commit, welcome, err := c.add(in[0], in[1:])
		return [][]byte{commit, welcome}, err
	})
	set("send", 2, func(in [][]byte) ([][]byte, error) {
		msg, records, err := c.send(in[0], in[1])
		return flat(records, msg), err
	})
	set("receive", 2, func(in [][]byte) ([][]byte, error) {
		from, data, records, err := c.receive(in[0], in[1])
		return flat(records, from, data), err
	})
	set("save", 1, func(in [][]byte) ([][]byte, error) {
		records, err := c.save(in[0])
		return flat(records), err
	})
	set("load", 2, func(in [][]byte) ([][]byte, error) {
		var records []group.Record
		for ; len(in) > 1; in = in[2:] {
			records = append(records, group.Record{Key: string(in[0]), Value: in[1]})
		}
		b, err := c.load(records)
		return [][]byte{b}, err
	})
	return out
}

// flat appends records to what else is given back: key, value, key, value; an empty
// value deletes.
func flat(records []group.Record, out ...[]byte) [][]byte {
	for _, r := range records {
		out = append(out, []byte(r.Key), r.Value)
	}
	return out
}

// take copies byte arrays out of the page's memory; at least want of them.
func take(args []js.Value, want int) (out [][]byte, ok bool) {
	array := js.Global().Get("Uint8Array")
	for _, a := range args {
		if !a.InstanceOf(array) {
			return nil, false
		}
		b := make([]byte, a.Length())
		js.CopyBytesToGo(b, a)
		out = append(out, b)
	}
	return out, len(out) >= want
}

func give(list [][]byte) any {
	out := js.Global().Get("Array").New(len(list))
	for i, b := range list {
		a := js.Global().Get("Uint8Array").New(len(b))
		js.CopyBytesToJS(a, b)
		out.SetIndex(i, a)
	}
	return out
}

func failed(text string) any { return js.Global().Get("Error").New(text) }
