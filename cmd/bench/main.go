// Command bench loads event streams, measures what they cost and checks that
// they lose nothing: any address with load and check-loss, the gateway of this
// repository beside its floors with report. This package reads flags and
// variables; the packages in internal do the work.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/report"
	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/swarm"
)

const usage = `bench measures event streams and checks them.

  bench load --url URL     open many streams, insert rows, count what arrives
  bench report             the gateway's figures beside their floors and targets
  bench check-loss         write as a CRM does, under faults, and see that nothing is lost

Every command answers -h.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// usageError is a bad flag or variable: exit 2.
type usageError struct{ error }

type command func(ctx context.Context, args []string, stdout, stderr io.Writer) error

// run carries out one command and returns its exit status: 0 when it is done and
// everything holds, 1 when not, 2 for a bad flag or variable, with one line on
// stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return 2
	}
	switch args[0] {
	case "-h", "-help", "--help", "help":
		fmt.Fprint(stdout, usage)
		return 0
	}
	commands := map[string]command{
		"load": load, "report": measure, "check-loss": checkLoss,
		// This program starts itself with these two.
		swarm.WorkerCommand: func(_ context.Context, _ []string, stdout, _ io.Writer) error {
			return swarm.RunWorker(os.Stdin, stdout)
		},
		report.FloorCommand: func(_ context.Context, _ []string, stdout, _ io.Writer) error { return report.RunFloor(stdout) },
	}
	do, ok := commands[args[0]]
	if !ok {
		fmt.Fprintf(stderr, "bench: no command %q; see bench -h\n", args[0])
		return 2
	}
	err := do(ctx, args[1:], stdout, stderr)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return 0
	}
	fmt.Fprintf(stderr, "bench %s: %v\n", args[0], err)
	if errors.As(err, new(usageError)) {
		return 2
	}
	return 1
}

// parseFlags parses a command's arguments, all of which must be flags. Its error
// is a usageError.
func parseFlags(fs *flag.FlagSet, synopsis string, args []string, stdout io.Writer) error {
	fs.SetOutput(io.Discard)
	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(stdout, "%s\n", synopsis)
		fs.SetOutput(stdout)
		fs.PrintDefaults()
		return err
	case err != nil:
		return usageError{err}
	case fs.NArg() > 0:
		return usageError{fmt.Errorf("takes no arguments but flags, got %q", fs.Arg(0))}
	}
	return nil
}
