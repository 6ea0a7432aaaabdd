package ports

import (
	"fmt"
	"net"
	"testing"
)

func TestPortsAreFreeDistinctAndNotTheKernels(t *testing.T) {
	found, err := Free(50)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[int]bool)
	for _, p := range found {
		if seen[p] || p < first || p >= last {
			t.Errorf("port %d: twice, or out of range", p)
		}
		seen[p] = true
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p))
		if err != nil {
			t.Fatal(err)
		}
		if free(p) {
			t.Errorf("port %d counts as free while somebody listens", p)
		}
		l.Close()
	}
}
