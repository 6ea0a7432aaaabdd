package session

import (
	"cmp"
	"context"
	"slices"
	"time"

	pb "github.com/entente-im/entente/wire/ententev1"
	"google.golang.org/protobuf/proto"
)

// writeLoop is the session's only writer. It takes what is ready (results, pongs,
// deliveries that the window allows) until nothing is, then waits.
func (s *server) writeLoop() error {
	drained := false // Drained was said since the last delivery
	wake := s.backend.Wake()
	for {
		if err := context.Cause(s.live); err != nil {
			return err
		}
		if s.authLeft() <= 0 {
			return &CloseError{Code: CodeExpired, Reason: "sign in again"}
		}
		var p packer
		s.takeControl(&p)
		s.takeResults(&p)
		more, err := s.takeDeliveries(&p, &drained)
		if err != nil {
			return err
		}
		if len(p.frames) > 0 {
			if err := write(s.writing, s.conn, p.frames, s.o.Timing.Write); err != nil {
				return err
			}
			continue
		}
		if more {
			continue
		}
		if err := s.wait(wake); err != nil {
			return err
		}
		wake = s.backend.Wake()
	}
}

// wait returns when there may be something to write, or an error when the session
// is over.
func (s *server) wait(wake <-chan struct{}) error {
	t := time.NewTimer(max(s.authLeft(), 0))
	defer t.Stop()
	select {
	case <-s.live.Done():
		return context.Cause(s.live)
	case <-t.C:
	case <-s.kick:
	case <-wake:
	}
	return nil
}

func (s *server) authLeft() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.expires.Sub(s.o.Clock())
}

func (s *server) takeControl(p *packer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(s.control), p.room())
	for _, f := range s.control[:n] {
		p.add(f, 0)
	}
	s.control = slices.Delete(s.control, 0, n)
}

// takeResults moves results into the message, equal neighbours as one run, and
// frees their places in the window: the device may submit as soon as it reads them.
func (s *server) takeResults(p *packer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.SortFunc(s.results, func(a, b numbered) int { return cmp.Compare(a.n, b.n) })
	taken := 0
	for taken < len(s.results) && p.room() > 0 {
		first := s.results[taken]
		end := taken + 1
		for end < len(s.results) && s.results[end].n == first.n+uint64(end-taken) && proto.Equal(s.results[end].status, first.status) {
			end++
		}
		size := proto.Size(first.status)
		if !p.fits(size) {
			break
		}
		p.add(&pb.Frame{Frame: &pb.Frame_Result{Result: &pb.Result{N: first.n, Through: s.results[end-1].n, Status: first.status}}}, size)
		taken = end
	}
	for _, r := range s.results[:taken] {
		s.openBytes -= s.open[r.n]
		delete(s.open, r.n)
	}
	s.results = slices.Delete(s.results, 0, taken)
}

// takeDeliveries pulls what the device's window still takes. One delivery goes out
// whatever its size when nothing is unacknowledged: a handshake may be larger than
// the window.
func (s *server) takeDeliveries(p *packer, drained *bool) (more bool, err error) {
	s.mu.Lock()
	after, n, bytes, idle := s.sentUpTo, s.window-len(s.unacked), s.windowB-s.unackedB, len(s.unacked) == 0
	s.mu.Unlock()
	if n <= 0 || bytes <= 0 || p.room() == 0 {
		return false, nil
	}
	ds, err := s.backend.Pull(after, min(n, p.room()), bytes)
	if err != nil {
		return false, err
	}
	if len(ds) == 0 {
		if !*drained {
			p.add(&pb.Frame{Frame: &pb.Frame_Drained{Drained: &pb.Drained{Seq: after}}}, 0)
			*drained = true
		}
		return false, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, d := range ds {
		size := proto.Size(d)
		if len(s.unacked) >= s.window || s.unackedB+size > s.windowB && !(idle && i == 0) {
			return false, nil // credit wakes the writer
		}
		if !p.fits(size) {
			return true, nil
		}
		p.add(&pb.Frame{Frame: &pb.Frame_Deliver{Deliver: d}}, size)
		s.unacked = append(s.unacked, sent{seq: d.Seq, bytes: size})
		s.unackedB += size
		s.sentUpTo = d.Seq
		*drained = false
	}
	return true, nil
}
