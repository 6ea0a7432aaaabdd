package testnet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/entente-im/entente/node"
	"github.com/entente-im/entente/testnet/ports"
)

// passphrase seals everything that a walk makes; its folders do not outlive it.
const passphrase = "testnet walk, nothing secret"

// Organization is one node as a process, with its folders.
type Organization struct {
	Name   string
	Dir    string // the node's data folder
	Log    string // where the process writes
	binary string
	cmd    *exec.Cmd
	done   chan struct{}
}

// Device is a member's device: a folder that each command opens.
type Device struct {
	Address string
	Dir     string
	binary  string
}

// environment is what every process of the walk gets.
func environment() []string {
	return append(os.Environ(), "ENTENTE_PASSPHRASE="+passphrase)
}

// NewOrganization runs `node init` for an organization on loopback.
func NewOrganization(ctx context.Context, binary, root, name string, bucket time.Duration) (*Organization, error) {
	listen, err := ports.Free(2)
	if err != nil {
		return nil, err
	}
	o := &Organization{Name: name, Dir: filepath.Join(root, name), Log: filepath.Join(root, name+".log"), binary: binary}
	_, err = runCommand(ctx, binary, "node", "init", name, "--data", o.Dir,
		"--listen", fmt.Sprintf("127.0.0.1:%d", listen[0]),
		"--federation", fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", listen[1]),
		"--federation", fmt.Sprintf("/ip4/127.0.0.1/udp/%d/quic-v1", listen[1]),
		"--bucket", bucket.String(), "--retention", "1h", "--trust-clock")
	return o, err
}

// raiseLimits takes the rates out of a node's way in its configuration, before it
// starts: for loads that are about something else.
func (o *Organization) raiseLimits() error {
	c, err := node.LoadConfig(o.Dir)
	if err != nil {
		return err
	}
	l := &c.Limits
	l.DeviceRate, l.DeviceBurst, l.PartnerRate, l.PartnerBurst, l.PartnerBytes = 1e6, 1e6, 1e6, 1e6, 1<<30
	return os.WriteFile(filepath.Join(o.Dir, node.ConfigFile), []byte(c.ConfigText()), 0o600)
}

// Start runs the node and returns when it is ready.
func (o *Organization) Start(ctx context.Context) error {
	log, err := os.OpenFile(o.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	o.cmd = exec.Command(o.binary, "node", "run", "--data", o.Dir)
	o.cmd.Env = environment()
	o.cmd.Stdout, o.cmd.Stderr = log, log
	if err := o.cmd.Start(); err != nil {
		return err
	}
	o.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) { _ = cmd.Wait(); close(done) }(o.cmd, o.done)
	_, err = o.until(ctx, 20*time.Second, func(map[string]any) bool { return true })
	if err != nil {
		return fmt.Errorf("testnet: %s did not get ready: %w\n%s", o.Name, err, tail(o.Log))
	}
	return nil
}

// Kill ends the node with SIGKILL, as a crash would.
func (o *Organization) Kill() { o.signal(syscall.SIGKILL) }

// Stop ends the node in order.
func (o *Organization) Stop() { o.signal(syscall.SIGTERM) }

func (o *Organization) signal(s syscall.Signal) {
	if o.cmd == nil {
		return
	}
	_ = o.cmd.Process.Signal(s)
	select {
	case <-o.done:
	case <-time.After(15 * time.Second):
		_ = o.cmd.Process.Kill()
		<-o.done
	}
	o.cmd = nil
}

// Status asks the running node.
func (o *Organization) Status(ctx context.Context) (map[string]any, error) {
	out, err := o.command(ctx, "node", "status", "--json")
	if err != nil {
		return nil, err
	}
	var v map[string]any
	return v, json.Unmarshal(out, &v)
}

// until asks for the status until it holds, at most for the given time.
func (o *Organization) until(ctx context.Context, limit time.Duration, holds func(map[string]any) bool) (map[string]any, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	last := errors.New("the condition did not come true")
	for {
		v, err := o.Status(ctx)
		if err == nil && holds(v) {
			return v, nil
		}
		if err != nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return nil, last
		case <-o.done:
			return nil, fmt.Errorf("the process of %s ended", o.Name)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// command runs an operator's command against the node.
func (o *Organization) command(ctx context.Context, args ...string) ([]byte, error) {
	return runCommand(ctx, o.binary, append(args, "--data", o.Dir)...)
}

// NewDevice adds the member and enrols a first device for it.
func (o *Organization) NewDevice(ctx context.Context, root, name string) (*Device, error) {
	dir, link, err := o.invite(ctx, root, name)
	if err != nil {
		return nil, err
	}
	d := &Device{Address: name + "@" + o.Name, Dir: dir, binary: o.binary}
	_, err = runWithInput(ctx, strings.NewReader(link+"\n"), o.binary, "device", "enroll", "--device", d.Dir)
	return d, err
}

// invite adds a member; the link is for the device that will lie in the folder.
func (o *Organization) invite(ctx context.Context, root, name string) (dir, link string, err error) {
	out, err := o.command(ctx, "member", "add", name, "--json")
	if err != nil {
		return "", "", err
	}
	var added struct{ Link, Address string }
	if err := json.Unmarshal(out, &added); err != nil {
		return "", "", err
	}
	return deviceFolder(root, added.Address), added.Link, nil
}

func deviceFolder(root, address string) string { return filepath.Join(root, "device-"+address) }

// command runs a member's command and returns its JSON lines.
func (d *Device) command(ctx context.Context, args ...string) ([]map[string]any, error) {
	out, err := runCommand(ctx, d.binary, append(args, "--device", d.Dir, "--json")...)
	var lines []map[string]any
	for line := range bytes.Lines(out) {
		var v map[string]any
		if e := json.Unmarshal(line, &v); e != nil {
			return nil, errors.Join(err, fmt.Errorf("testnet: the line %q is not JSON: %w", line, e))
		}
		lines = append(lines, v)
	}
	return lines, err
}

// commandError is a command that did not exit with 0.
type commandError struct {
	Args   []string
	Code   int
	Stderr string
}

func (e *commandError) Error() string {
	return fmt.Sprintf("entente %s: exit code %d: %s", strings.Join(e.Args, " "), e.Code, strings.TrimSpace(e.Stderr))
}

func runCommand(ctx context.Context, binary string, args ...string) ([]byte, error) {
	return runWithInput(ctx, nil, binary, args...)
}

func runWithInput(ctx context.Context, in io.Reader, binary string, args ...string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = environment()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = &commandError{Args: args, Code: exit.ExitCode(), Stderr: stderr.String()}
	}
	return stdout.Bytes(), err
}

// tail returns the last lines of a log, for a failure's report.
func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}
