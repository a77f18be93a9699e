// Package process runs the gateway as a process of its own, as users do, for
// the programs beside it: the demo and the benchmark.
package process

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

const (
	source        = "github.com/seed-64e334f9/notification-gateway/cmd/gateway"
	startDeadline = 30 * time.Second
	stopDeadline  = 30 * time.Second
	look          = 10 * time.Millisecond // between two looks at /readyz
)

// Build builds the program into dir, which is the caller's, and returns its path.
func Build(ctx context.Context, dir string) (binary string, err error) {
	binary = filepath.Join(dir, "gateway")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, source).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the gateway: %w\n%s", err, out)
	}
	return binary, nil
}

// Run runs one of the program's commands to its end; environment is its whole.
func Run(ctx context.Context, binary string, environment []string, args ...string) error {
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = environment
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("gateway %s: %w\n%s", args[0], err, out)
	}
	return nil
}

// Gateway is a running process. The caller that started it stops it.
type Gateway struct {
	Public, Admin string          // addresses
	Exited        <-chan struct{} // closed when it has ended

	cmd *exec.Cmd
}

// Start starts the program and waits until it is ready. environment is its
// whole; the addresses are the system's choice and the log is JSON whatever it
// says. Lines of its log that are worth a look go to say. A process that did
// not become ready has been stopped.
func Start(ctx context.Context, binary string, environment []string, say func(line string)) (*Gateway, error) {
	g := &Gateway{cmd: exec.Command(binary, "serve")}
	g.cmd.Env = append(append([]string(nil), environment...),
		"GATEWAY_ADDR=127.0.0.1:0", "GATEWAY_ADMIN_ADDR=127.0.0.1:0", "GATEWAY_LOG_FORMAT=json", "GATEWAY_LOG_LEVEL=info")
	// A pipe of our own: the one that exec makes is closed when the process
	// ends, and a panic's last lines with it.
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	g.cmd.Stderr = writer
	g.Exited, err = throwaway.StartTied(g.cmd)
	writer.Close() // the child has its own
	if err != nil {
		reader.Close() // nothing was written
		return nil, fmt.Errorf("start the gateway: %w", err)
	}
	addresses := make(chan [2]string, 1) // one: public and admin, once
	go listen(reader, addresses, say)
	if err := g.ready(ctx, addresses); err != nil {
		return nil, errors.Join(err, g.Stop())
	}
	return g, nil
}

// listen reads the log to its end.
func listen(log *os.File, addresses chan<- [2]string, say func(line string)) {
	defer log.Close() // it was only read
	var found [2]string
	for lines := bufio.NewScanner(log); lines.Scan(); {
		var line struct{ Level, Msg, Addr string }
		if json.Unmarshal(lines.Bytes(), &line) != nil || line.Level != "INFO" {
			say(lines.Text())
			continue
		}
		switch line.Msg {
		case "listening":
			found[0] = line.Addr
		case "admin listening":
			found[1] = line.Addr
			addresses <- found
		}
	}
}

// ready waits until the process is.
func (g *Gateway) ready(ctx context.Context, addresses <-chan [2]string) error {
	ctx, cancel := context.WithTimeout(ctx, startDeadline)
	defer cancel()
	select {
	case found := <-addresses:
		g.Public, g.Admin = found[0], found[1]
	case <-g.Exited:
		return errors.New("the gateway ended at once")
	case <-ctx.Done():
		return fmt.Errorf("the gateway does not listen: %w", context.Cause(ctx))
	}
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.Admin+"/readyz", nil)
		if err != nil {
			return fmt.Errorf("ask whether the gateway is ready: %w", err)
		}
		if resp, err := http.DefaultClient.Do(r); err == nil {
			resp.Body.Close() // only the status counts
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-time.After(look):
		case <-g.Exited:
			return errors.New("the gateway ended before it was ready")
		case <-ctx.Done():
			return fmt.Errorf("the gateway does not become ready: %w", context.Cause(ctx))
		}
	}
}

// PID is the process's ID.
func (g *Gateway) PID() int { return g.cmd.Process.Pid }

// Kill ends the gateway as a failing machine would, and waits for its end.
func (g *Gateway) Kill() {
	_ = g.cmd.Process.Kill() // it may have ended already
	<-g.Exited
}

// Stop drains the gateway and waits for its end. Its error is any status but 0.
func (g *Gateway) Stop() error {
	_ = g.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-g.Exited:
		if code := g.cmd.ProcessState.ExitCode(); code != 0 {
			return fmt.Errorf("the gateway ended with status %d", code)
		}
		return nil
	case <-time.After(stopDeadline):
		return errors.Join(errors.New("the gateway does not end"), g.cmd.Process.Kill())
	}
}
