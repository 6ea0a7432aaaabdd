package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/entente-im/entente/device"
	"github.com/entente-im/entente/wire"
)

// What a person has typed and can be told before anything is opened or asked: a wrong command
// line. The device holds the same rules for every program.

// typedText refuses an empty text.
func typedText(text string, edit bool) error {
	switch {
	case strings.TrimSpace(text) != "":
		return nil
	case edit:
		return &usageError{errors.New("an empty text: delete the message instead (entente message delete)")}
	}
	return &usageError{errors.New("an empty text: there is nothing to send")}
}

// typedRoomName refuses what no room can be called.
func typedRoomName(name string) error {
	var refused *wire.StatusError
	if errors.As(device.CheckRoomName(name), &refused) {
		return &usageError{errors.New(refused.Status.Detail)}
	}
	return nil
}

// typedMessage refuses too little of a message's ID.
func typedMessage(id string) error {
	if len(id) < 6 {
		return &usageError{errors.New("name a message by at least 6 characters of its ID: entente device history and entente sent show them")}
	}
	return nil
}

// typedLengths refuses to keep a message for longer than any is kept.
func typedLengths(expires, burn, until time.Duration) error {
	for _, x := range []struct {
		flag      string
		d, atMost time.Duration
	}{{"expires", expires, wire.RetentionCeiling}, {"burn", burn, device.HistoryLife}, {"until", until, device.HistoryLife}} {
		if x.d > x.atMost {
			return &usageError{fmt.Errorf("--%s %s is too long: at most %s", x.flag, lengthText(x.d), lengthText(x.atMost))}
		}
	}
	return nil
}
