package swarm

import (
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
)

// SubprocessVariable tells a test binary that it was started by StartSubprocess
// in place of this program.
const SubprocessVariable = "NOTIFICATION_GATEWAY_BENCH_CHILD"

// Subprocess is this program, started again with another command. It ends when
// its standard input ends.
type Subprocess struct {
	In  io.WriteCloser // its standard input
	Out io.ReadCloser  // its standard output

	cmd    *exec.Cmd
	exited <-chan struct{}
}

// StartSubprocess starts this program again. It ends with this process too.
func StartSubprocess(command string) (*Subprocess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	s := &Subprocess{cmd: exec.Command(self, command)}
	s.cmd.Stderr = os.Stderr
	s.cmd.Env = append(os.Environ(), SubprocessVariable+"=1")
	if s.In, err = s.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	if s.Out, err = s.cmd.StdoutPipe(); err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	if s.exited, err = throwaway.StartTied(s.cmd); err != nil {
		return nil, fmt.Errorf("start bench %s: %w", command, err)
	}
	return s, nil
}

// Stop ends the process and waits for it.
func (s *Subprocess) Stop() {
	s.In.Close() // its end is the signal
	<-s.exited
}

// PID is the process's ID.
func (s *Subprocess) PID() int { return s.cmd.Process.Pid }
