package device

// lock is a mutex that is held while the home node is asked. Waiting for it is waiting
// on a channel, so that the clock of a simulated network (testing/synctest) goes on
// for whoever holds it.
type lock chan struct{} // of one place

func (l lock) Lock()   { l <- struct{}{} }
func (l lock) Unlock() { <-l }
