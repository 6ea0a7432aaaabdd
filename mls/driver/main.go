// Command driver runs one MLS client over a line protocol, so that this library
// can be tried against another: one JSON request a line on stdin, one JSON answer
// a line on stdout. Nothing that it is sent ends it. Unless -keep is given, the
// client's state is encoded, dropped and decoded before each answer.
//
// Beside adding, removing and committing it knows proposals by reference of every
// kind that members may send: propose (Add or Remove), proposeupdate, proposepsk
// (Label names an external key that psk set from Data) and proposeextensions
// (Data is the encoded list of extensions).
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
)

func main() {
	keep := flag.Bool("keep", false, "keep states in memory instead of storing and reloading them (for timing)")
	private := flag.Bool("private", false, "send handshakes as PrivateMessage")
	flag.Parse()
	d := &driver{keep: *keep, private: *private}
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := json.NewEncoder(os.Stdout)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 1 {
			if werr := out.Encode(d.answer(line)); werr != nil {
				fmt.Fprintln(os.Stderr, "driver:", werr)
				os.Exit(1)
			}
		}
		if err != nil {
			return
		}
	}
}

// answer turns every failure, a panic included, into an error answer.
func (d *driver) answer(line []byte) (reply any) {
	defer func() {
		if p := recover(); p != nil {
			fmt.Fprintln(os.Stderr, "driver: panic:", p)
			reply = map[string]string{"error": fmt.Sprint("panic: ", p)}
		}
	}()
	var q request
	if err := json.Unmarshal(line, &q); err != nil {
		return map[string]string{"error": "driver: " + err.Error()}
	}
	a, err := d.do(&q)
	if err != nil {
		return map[string]string{"error": err.Error()}
	}
	return a
}
