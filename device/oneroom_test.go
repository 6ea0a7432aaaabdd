package device

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
)

func TestTwoWhoWriteToEachOtherAtOnceEndInOneRoom(t *testing.T) {
	p := newPair(t)
	rounds := 2
	if s := os.Getenv("ENTENTE_ROUNDS"); s != "" {
		var err error
		rounds, err = strconv.Atoi(s)
		must(t, err)
	}
	for round := range rounds {
		a, b := p.acme.device(fmt.Sprintf("ann%d", round)), p.globex.device(fmt.Sprintf("ben%d", round))
		var wg sync.WaitGroup
		for from, to := range map[*Device]*Device{a: b, b: a} {
			wg.Go(func() {
				if err := from.Send(t.Context(), to.Address(), "at once", SendOptions{Wait: patience}, func(Progress) {}); err != nil {
					t.Errorf("round %d: %v", round, err)
				}
			})
		}
		wg.Wait()
		receiveUntil(t, a, "ben's words", hasTexts(1))
		receiveUntil(t, b, "ann's words", hasTexts(1))
		// Whatever was made in between, both go on in the same one.
		rooms := make(map[string]bool)
		for from, to := range map[*Device]*Device{a: b, b: a} {
			send(t, from, to.Address(), "next", SendOptions{Wait: patience})
			for _, s := range receiveUntil(t, to, "the next words", hasTexts(1)) {
				if s.Event == "message" {
					rooms[s.Room] = true
				}
			}
		}
		if len(rooms) != 1 {
			t.Errorf("round %d: they go on in %d rooms", round, len(rooms))
		}
	}
}
