package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// span is a length of time on a command line, in whole seconds: 90s, 72h, and 30d for
// days. None is negative, or so short that it would be none.
type span struct {
	d    *time.Duration
	zero bool // 0 says something
}

// spanFlag adds a length of time. Who does not name it gets none: the node, or the device,
// takes its default.
func spanFlag(c *cobra.Command, name, help string) *time.Duration {
	return addSpan(c, name, help, 0, false)
}

func addSpan(c *cobra.Command, name, help string, preset time.Duration, zero bool) *time.Duration {
	d := preset
	c.Flags().Var(span{&d, zero}, name, help)
	return &d
}

// lengthText is a length of time as a command line takes it: 7d, 36h, 90s.
func lengthText(d time.Duration) string {
	for _, u := range []struct {
		of   time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}} {
		if d >= u.of && d%u.of == 0 {
			return strconv.FormatInt(int64(d/u.of), 10) + u.name
		}
	}
	return d.String()
}

func (s span) String() string {
	if s.d == nil || *s.d == 0 {
		return ""
	}
	return s.d.String()
}

// Type is what help calls the value.
func (s span) Type() string { return "duration" }

func (s span) Set(text string) error {
	d, err := parseSpan(text)
	switch {
	case err != nil:
		return err
	case d == 0 && s.zero:
	case d < time.Second:
		return errors.New("has to be a second or more")
	}
	*s.d = d.Truncate(time.Second)
	return nil
}

// maxDays is what a time.Duration holds.
const maxDays = 106_751

func parseSpan(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n > maxDays || n < -maxDays {
			return 0, errNoSpan
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, errNoSpan
	}
	return d, nil
}

var errNoSpan = errors.New("is no length of time, such as 90s, 72h or 30d")

// commandLine marks what cobra says of flags that are missing or exclude each other as a
// wrong command line, in plain words. It has no types for them.
func commandLine(err error) error {
	if err == nil {
		return nil
	}
	if rest, ok := strings.CutPrefix(err.Error(), "if any flags in the group ["); ok {
		flags, _, _ := strings.Cut(rest, "]")
		return &usageError{fmt.Errorf("of --%s only one can be given", strings.Join(strings.Fields(flags), ", --"))}
	}
	if rest, ok := strings.CutPrefix(err.Error(), "required flag(s) "); ok {
		return &usageError{fmt.Errorf("%s is needed", "--"+strings.ReplaceAll(strings.ReplaceAll(strings.TrimSuffix(rest, " not set"), `"`, ""), ", ", ", --"))}
	}
	return err
}

// flagText says in plain words what is wrong with a flag's value.
func flagText(err error) string {
	var bad *pflag.InvalidValueError
	if !errors.As(err, &bad) {
		return err.Error()
	}
	text := "is not true or false"
	var number *strconv.NumError
	switch {
	case !errors.As(err, &number):
		text = errors.Unwrap(bad).Error()
	case number.Func == "ParseUint":
		text = "is no whole number, 0 or more"
	case number.Func != "ParseBool":
		text = "is no whole number"
	}
	return fmt.Sprintf("--%s %.40q %s", bad.GetFlag().Name, bad.GetValue(), text)
}
