//go:build answer_before_sync

package store

// Wrong: see wrong.go.
const Wrong = "answers before it syncs"

func (h *hooks) spoil() { h.answerBeforeSync = true }
