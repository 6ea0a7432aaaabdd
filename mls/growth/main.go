// Growth measures what a group costs as it grows from 2 to 2,000 members, for
// each cipher suite, and prints the table of RESULTS.md; with -svg it draws the
// plot too.
//
// The group is at its most expensive: one member has added all others at once and
// nobody has made a Commit since, so that a path is sealed to each leaf. Times are
// those that pass and, in brackets, those of all processors together.
package main

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
)

func main() {
	sizes := flag.String("sizes", "2,10,50,100,200,500,1000,2000", "numbers of members")
	svg := flag.String("svg", "", "also draw the growth of suite 1 into this file")
	flag.Parse()
	var list []int
	for _, f := range strings.Split(*sizes, ",") {
		n, err := strconv.Atoi(f)
		if err != nil || n < 2 {
			fail(fmt.Errorf("growth: %q is no number of members", f))
		}
		list = append(list, n)
	}
	var first []row
	for _, s := range suites {
		fmt.Printf("Suite %s\n\n%s", s.name, header)
		var rows []row
		for _, n := range list {
			r, err := measure(s.id, n)
			if err != nil {
				fail(err)
			}
			rows = append(rows, r)
			fmt.Print(r)
		}
		fmt.Printf("\n%s", sizesHeader)
		for _, r := range rows {
			fmt.Print(r.sizes())
		}
		fmt.Println()
		if first == nil {
			first = rows
		}
	}
	if *svg != "" {
		if err := os.WriteFile(*svg, plot(first), 0o644); err != nil {
			fail(err)
		}
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
