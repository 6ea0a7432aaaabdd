package store

import (
	"context"
	"fmt"
	"os"
	"testing"
)

// A segment that is missing in the middle is a loss until it is accepted, and is not
// counted again; so is one whose header does not stand.
func TestASegmentMissingInTheMiddleIsALossUntilAccepted(t *testing.T) {
	for _, how := range []string{"missing", "header"} {
		t.Run(how, func(t *testing.T) {
			o := Options{Dir: t.TempDir(), SegmentSize: MinSegmentSize, Reserve: -1, TrustClock: true}
			open := func() *Store {
				s, err := Open(context.Background(), o)
				if err != nil {
					t.Fatal(err)
				}
				return s
			}
			s := open()
			for i := range 40 {
				b := new(Batch)
				b.Put([]byte(fmt.Sprint("k", i)), make([]byte, 32<<10))
				if _, err := s.Commit(context.Background(), b); err != nil {
					t.Fatal(err)
				}
			}
			path := s.segPath(2)
			s.Close()
			s = open()
			if st := s.Status(); st.Recovering || st.Segments < 4 {
				t.Fatalf("before: %+v", st)
			}
			s.Close()
			if how == "missing" {
				os.Remove(path)
			} else if f, err := os.OpenFile(path, os.O_RDWR, 0); err == nil {
				f.WriteAt([]byte("xx"), 0)
				f.Close()
			}
			s = open()
			st := s.Status()
			if !st.Recovering || st.Lost < 2 || st.DamagedCount == 0 {
				t.Fatalf("after the loss: %+v", st)
			}
			s.Close()
			s = open()
			if again := s.Status(); again.Lost != st.Lost {
				t.Fatalf("opened again: lost %d, was %d", again.Lost, st.Lost)
			}
			if err := s.AcceptLoss(); err != nil {
				t.Fatal(err)
			}
			s.Close()
			s = open()
			if st := s.Status(); st.Recovering {
				t.Fatalf("after it was accepted: %+v", st)
			}
			s.Close()
		})
	}
}
