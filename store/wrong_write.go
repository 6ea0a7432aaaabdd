//go:build answer_before_write && !answer_before_sync

package store

import "time"

// Wrong: see wrong.go.
const Wrong = "answers before it writes"

func (h *hooks) spoil() { h.answerBeforeWrite = func() { time.Sleep(100 * time.Millisecond) } }
