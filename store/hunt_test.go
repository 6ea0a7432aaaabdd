package store

import (
	"bytes"
	"context"
	"os"
	"testing"
	"time"
)

// TestHuntFindsWhatLivesAndNothingThatWasAcknowledged is P5 with its positive control.
func TestHuntFindsWhatLivesAndNothingThatWasAcknowledged(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(context.Background(), Options{Dir: dir, Reserve: -1, SegmentSize: MinSegmentSize})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var b Batch
	for range 3 {
		b.Deposit(Deposit{Body: bytes.Repeat([]byte("body"), 100), Deadline: time.Now().Add(time.Hour), Queues: []QueueID{1}})
	}
	done, err := s.Commit(context.Background(), &b)
	if err != nil {
		t.Fatal(err)
	}
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if r, err := Hunt(copied, dir); err != nil || r.Bodies != 3 || r.Opened != 3 {
		t.Fatalf("positive control: %+v, %v", r, err)
	}
	var ack Batch
	ack.Ack(1, done.LSNs[:2]...)
	if _, err := s.Commit(context.Background(), &ack); err != nil {
		t.Fatal(err)
	}
	var r HuntResult
	for end := time.Now().Add(10 * time.Second); r.Opened != 1; {
		if r, err = Hunt(copied, dir); err != nil || time.Now().After(end) {
			t.Fatalf("after two acknowledgements: %+v, %v", r, err)
		}
	}
	if r, err := Hunt(copied, copied); err != nil || r.Opened != 3 {
		t.Fatalf("the copy itself: %+v, %v", r, err)
	}
}
