package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func TestALengthOfTimeIsASecondOrMore(t *testing.T) {
	for text, want := range map[string]time.Duration{"90s": 90 * time.Second, "72h": 72 * time.Hour, "30d": 720 * time.Hour, "1500ms": time.Second,
		"0": 0, "-1h": 0, "0s": 0, "10ms": 0, "-1d": 0, "1w": 0, "": 0, "d": 0, "999999999d": 0} {
		c := &cobra.Command{}
		got := spanFlag(c, "term", "")
		err := c.ParseFlags([]string{"--term", text})
		if *got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %s, %v", text, *got, err)
		}
	}
	c := &cobra.Command{}
	got := addSpan(c, "retention", "", time.Hour, true)
	if err := c.ParseFlags([]string{"--retention", "0"}); err != nil || *got != 0 {
		t.Errorf("0 where it says something: %s, %v", *got, err)
	}
	if err := c.ParseFlags([]string{"--retention", "-1s"}); err == nil {
		t.Error("-1s is taken where 0 is")
	}
}

// TestNoCommandTakesANegativeLengthOfTime walks the whole tree: a length of time that a
// person types is a span, but where a command waits for that long, or the configuration is checked.
func TestNoCommandTakesANegativeLengthOfTime(t *testing.T) {
	waits := []string{"entente receive --wait", "entente testnet walk --bucket", "entente node init --bucket", "entente node init --retention"}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		for _, child := range c.Commands() {
			walk(child)
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			_, is := f.Value.(span)
			name := c.CommandPath() + " --" + f.Name
			if f.Value.Type() == "duration" && !is && !strings.Contains(strings.Join(waits, " ")+" ", name+" ") {
				t.Errorf("%s takes what is no length of time", name)
			}
		})
	}
	walk(rootCommand())
}

func TestMissingAndExcludedFlagsAreAWrongCommandLine(t *testing.T) {
	for want, args := range map[string][]string{
		"of --term, --until only one can be given": {"partner", "invite", "x.example", "--term", "1h", "--until", "2030-01-01"},
		"--keys is needed":                         {"organization", "recover", "begin", "file"},
	} {
		root := rootCommand()
		root.SetArgs(args)
		if err := commandLine(root.Execute()); exitCode(err) != exitUsage || err.Error() != want {
			t.Errorf("%v: %v", args, err)
		}
	}
}

func TestAFlagThatDoesNotParseIsToldInPlainWords(t *testing.T) {
	for _, x := range []struct{ value, want string }{{"-1", `--rate "-1" is no whole number, 0 or more`}, {"much", `--rate "much" is no whole number, 0 or more`}} {
		c := &cobra.Command{}
		c.Flags().Uint64("rate", 0, "")
		if got := flagText(c.ParseFlags([]string{"--rate", x.value})); got != x.want {
			t.Errorf("%s: %s", x.value, got)
		}
	}
	c := &cobra.Command{}
	c.Flags().Bool("rooms", true, "")
	if got := flagText(c.ParseFlags([]string{"--rooms=maybe"})); got != `--rooms "maybe" is not true or false` {
		t.Error(got)
	}
	spanFlag(c, "term", "")
	if got := flagText(c.ParseFlags([]string{"--term=-1h"})); got != `--term "-1h" has to be a second or more` {
		t.Error(got)
	}
	if got := flagText(errors.New("unknown flag: --nosuch")); got != "unknown flag: --nosuch" {
		t.Error(got)
	}
}

func TestAShortEndIsNotOverBeforeTheMessageIsSent(t *testing.T) {
	now := time.Unix(1_800_000_000, 999_000_000)
	for after, want := range map[time.Duration]time.Time{0: {}, time.Second: time.Unix(1_800_000_002, 0), time.Hour: now.Add(time.Hour)} {
		if got := endOf(now, after); !got.Equal(want) {
			t.Errorf("%s: %s, want %s", after, got, want)
		}
	}
}
