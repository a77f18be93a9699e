// Command gateway streams the notifications of a CRM's own Postgres to the
// browsers of its users.
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
)

const usage = `gateway streams a CRM's notifications from Postgres to browsers.

  gateway [serve]          run; configured by the environment
  gateway init [TABLE]     write a first mapping for a table of the CRM's
  gateway migrate          install or upgrade the database objects
  gateway attach TABLE     put the capture trigger on the CRM's table
  gateway detach TABLE     take it off
  gateway check            look for what is wrong, with a mending line for each
  gateway token --user 5   mint a token with the configured shared secret
  gateway health           ask a running gateway's /readyz; --live: its /livez
  gateway version          version, commit, Go version

Every command answers -h.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// usageError is a mistake in the command line or in a variable: exit 2.
type usageError struct{ error }

// run carries one command out and returns its exit status: 0 done, 1 not
// done, 2 a bad flag or variable, with one line on stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	name := "serve"
	if len(args) > 0 && args[0] != "" && args[0][0] != '-' {
		name, args = args[0], args[1:]
	} else if len(args) > 0 && (args[0] == "-h" || args[0] == "--help" || args[0] == "-help") {
		fmt.Fprint(stdout, usage)
		return 0
	} else if len(args) > 0 && (args[0] == "--version" || args[0] == "-version") {
		name, args = "version", args[1:]
	}
	commands := map[string]func(context.Context, []string, io.Writer, io.Writer) error{
		"serve": serve, "init": initMapping, "migrate": migrate, "attach": attach, "detach": detach,
		"check": check, "token": token, "health": health, "version": version,
		"help": func(context.Context, []string, io.Writer, io.Writer) error {
			_, err := fmt.Fprint(stdout, usage)
			return err
		},
	}
	command, ok := commands[name]
	if !ok {
		fmt.Fprintf(stderr, "gateway: no command %q; see gateway -h\n", name)
		return 2
	}
	err := command(ctx, args, stdout, stderr)
	var mistake usageError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.As(err, &mistake):
		fmt.Fprintf(stderr, "gateway %s: %v\n", name, err)
		return 2
	default:
		fmt.Fprintf(stderr, "gateway %s: %v\n", name, err)
		return 1
	}
}

// atMostOne is for parseFlags the number of arguments of which there may be one.
const atMostOne = -1

// parseFlags parses a command's arguments, flags before and after the
// positional ones, and returns the latter. What is wrong is a usageError.
func parseFlags(fs *flag.FlagSet, synopsis string, args []string, positional int, stdout io.Writer) ([]string, error) {
	fs.SetOutput(io.Discard)
	var rest []string
	for {
		err := fs.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprintf(stdout, "%s\n", synopsis)
			fs.SetOutput(stdout)
			fs.PrintDefaults()
			return nil, err
		}
		if err != nil {
			return nil, usageError{err}
		}
		if fs.NArg() == 0 {
			break
		}
		rest, args = append(rest, fs.Arg(0)), fs.Args()[1:]
	}
	if len(rest) != positional && (positional != atMostOne || len(rest) > 1) {
		takes := "no arguments"
		switch positional {
		case 1:
			takes = "one argument"
		case atMostOne:
			takes = "at most one argument"
		}
		return nil, usageError{fmt.Errorf("takes %s, got %d; usage: %s", takes, len(rest), synopsis)}
	}
	return rest, nil
}

// textFlag is a flag that may be left out but not be empty: that is a shell
// variable which is not set, and what it asks for would silently not be done.
func textFlag(fs *flag.FlagSet, name, usage string) *string {
	var value string
	fs.Func(name, usage, func(text string) error {
		if text == "" {
			return errors.New("it is empty")
		}
		value = text
		return nil
	})
	return &value
}
