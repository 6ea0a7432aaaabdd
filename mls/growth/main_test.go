package main

import (
	"encoding/xml"
	"strings"
	"testing"
)

// A small run says what a large one would: every cost is there, and what must not
// grow does not.
func TestASmallRunMeasuresEverything(t *testing.T) {
	for _, s := range suites {
		var rows []row
		for _, n := range []int{2, 9} {
			r, err := measure(s.id, n)
			if err != nil {
				t.Fatal(err)
			}
			if r.add.wall <= 0 || r.addMem == 0 || r.join.wall <= 0 || r.commit.wall <= 0 || r.process.wall <= 0 || r.send <= 0 || r.receive <= 0 {
				t.Errorf("suite %s, %d members: something costs nothing: %s", s.name, n, r)
			}
			rows = append(rows, r)
		}
		a, b := rows[0], rows[1]
		if b.welcomeSize <= a.welcomeSize || b.treeSize <= a.treeSize || b.commitSize <= a.commitSize || b.addSize <= a.addSize {
			t.Errorf("suite %s: %s and %s", s.name, a.sizes(), b.sizes())
		}
		if a.messageSize != b.messageSize {
			t.Errorf("suite %s: a message has %d bytes among %d members and %d among %d", s.name, a.messageSize, a.members, b.messageSize, b.members)
		}
		d := xml.NewDecoder(strings.NewReader(string(plot(rows))))
		elements := 0
		for {
			token, err := d.Token()
			if err != nil {
				break
			}
			if _, ok := token.(xml.StartElement); ok {
				elements++
			}
		}
		if elements < 2*len(lines)+10 {
			t.Errorf("the plot has %d elements", elements)
		}
	}
}
