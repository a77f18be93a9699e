package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/seed-64e334f9/notification-gateway/cmd/bench/internal/report"
)

// measure reads the flags of bench report and writes the report.
func measure(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o report.Options
	names := report.Sections()
	fs := flag.NewFlagSet("report", flag.ContinueOnError)
	only := fs.String("only", "", "run these `sections` alone, comma-separated: "+strings.Join(names, ", "))
	fs.BoolVar(&o.JSON, "json", false, "write JSON instead of tables")
	fs.Float64Var(&o.Scale, "scale", 1, "share of the streams and of the time to measure with, for a quick look; below 1 no target is judged")
	if err := parseFlags(fs, "bench report [--only memory,cpu] [--json] [--scale 1]", args, stdout); err != nil {
		return err
	}
	if o.Scale <= 0 || o.Scale > 1 {
		return usageError{errors.New("--scale: must be above 0 and at most 1")}
	}
	if *only != "" {
		o.Only = strings.Split(*only, ",")
	}
	for _, name := range o.Only {
		if !slices.Contains(names, name) {
			return usageError{fmt.Errorf("--only: no section %q; there are %s", name, strings.Join(names, ", "))}
		}
	}
	return report.Run(ctx, o, stdout, stderr)
}
