package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// jsonFlag adds --json to a listing.
func jsonFlag(c *cobra.Command) *bool {
	return c.Flags().Bool("json", false, "print JSON, one object per line")
}

// printProto prints a message as one line of JSON.
func printProto(w io.Writer, m proto.Message) error {
	b, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(m)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, string(b))
	return err
}

// printJSON prints a value as one line of JSON.
func printJSON(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }

// table prints aligned columns under a header.
func table(w io.Writer, header string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(strings.Fields(header), "\t"))
	for _, r := range rows {
		fmt.Fprintln(t, strings.Join(r, "\t"))
	}
	return t.Flush()
}

// when prints a Unix time for people; 0 is a dash.
func when(unix int64) string {
	if unix == 0 {
		return "-"
	}
	return time.Unix(unix, 0).Format("2006-01-02 15:04:05")
}

// bytesText prints a size for people.
func bytesText(n uint64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 10<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}

// PassphraseVariable is read when no file is named and nobody is there to ask.
const PassphraseVariable = "ENTENTE_PASSPHRASE"

// passphraseFlag adds --passphrase-file.
func passphraseFlag(c *cobra.Command) *string {
	return c.Flags().String("passphrase-file", "", "file with the passphrase (else $"+PassphraseVariable+", else a prompt)")
}

// passphrase reads the passphrase from the file, the environment or the
// terminal; twice when it is new.
func passphrase(c *cobra.Command, file string, fresh bool) ([]byte, error) {
	if file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading the passphrase: %w", err)
		}
		return checkPassphrase([]byte(strings.TrimRight(string(b), "\r\n")))
	}
	if v, ok := os.LookupEnv(PassphraseVariable); ok {
		return checkPassphrase([]byte(v))
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return nil, &usageError{errors.New("no passphrase: use --passphrase-file FILE or set " + PassphraseVariable)}
	}
	first, err := ask(c, "Passphrase: ")
	if err != nil || !fresh {
		return first, err
	}
	second, err := ask(c, "The same again: ")
	if err != nil {
		return nil, err
	}
	if string(first) != string(second) {
		return nil, &usageError{errors.New("the two passphrases differ")}
	}
	return checkPassphrase(first)
}

func checkPassphrase(p []byte) ([]byte, error) {
	if len(p) < 8 {
		return nil, &usageError{errors.New("the passphrase has fewer than 8 characters")}
	}
	return p, nil
}

func ask(c *cobra.Command, prompt string) ([]byte, error) {
	fmt.Fprint(c.ErrOrStderr(), prompt)
	b, err := term.ReadPassword(int(os.Stdin.Fd()))
	fmt.Fprintln(c.ErrOrStderr())
	return b, err
}

// readLine reads one line of standard input, with a prompt when a person types.
func readLine(c *cobra.Command, prompt string, limit int64) (string, error) {
	if term.IsTerminal(int(os.Stdin.Fd())) {
		fmt.Fprint(c.ErrOrStderr(), prompt)
	}
	line, err := bufio.NewReader(io.LimitReader(c.InOrStdin(), limit)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return strings.TrimSpace(line), nil
}

// readAnswer is readLine for a question; io.EOF when nobody answers, not even with an empty line.
func readAnswer(c *cobra.Command, question string) (string, error) {
	if term.IsTerminal(int(os.Stdin.Fd())) {
		fmt.Fprint(c.ErrOrStderr(), question)
	}
	line, err := bufio.NewReader(io.LimitReader(c.InOrStdin(), 16)).ReadString('\n')
	if errors.Is(err, io.EOF) && line != "" {
		err = nil
	}
	return strings.TrimSpace(line), err
}

// defaultDir is where the node's or the device's folder is unless told.
func defaultDir(name string) string {
	if d := os.Getenv("ENTENTE_" + strings.ToUpper(name)); d != "" {
		return d
	}
	base := os.Getenv("XDG_DATA_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return filepath.Join(".", "entente-"+name)
		}
		base = filepath.Join(home, ".local", "share")
	}
	return filepath.Join(base, "entente", name)
}

// proofFile is a proof as a file that is handed on: the same bytes each time, which
// protojson alone does not promise.
func proofFile(m proto.Message) ([]byte, error) {
	b, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = json.Indent(&out, b, "", "  ")
	return out.Bytes(), err
}

// onDay prints a day for people, in UTC as nodes count days.
func onDay(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.DateOnly)
}

// counted is a number of things in words: 1 member, 2 members.
func counted[N int | int64 | uint64 | uint32](n N, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
