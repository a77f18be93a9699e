package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
)

// The linker sets these two: -ldflags "-X main.stampedVersion=v1.2.3 -X
// main.stampedCommit=…". It can set package variables alone, so these are the
// only ones of the program.
var stampedVersion, stampedCommit string

// version prints what was built, from what, with what.
func version(_ context.Context, args []string, stdout, _ io.Writer) error {
	if _, err := parseFlags(flag.NewFlagSet("version", flag.ContinueOnError), "gateway version", args, 0, stdout); err != nil {
		return err
	}
	v, commit := buildVersion()
	_, err := fmt.Fprintf(stdout, "gateway %s %s %s\n", v, commit, runtime.Version())
	return err
}

// buildVersion is what the linker was given, else what the Go tool recorded in
// the binary, else "devel" and "unknown".
func buildVersion() (version, commit string) {
	version, commit = "devel", "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		if v := info.Main.Version; v != "" && v != "(devel)" {
			version = v
		}
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				commit = s.Value
			}
		}
	}
	if stampedVersion != "" {
		version = stampedVersion
	}
	if stampedCommit != "" {
		commit = stampedCommit
	}
	return version, commit
}
