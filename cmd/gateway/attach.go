package main

import (
	"context"
	"flag"
	"fmt"
	"io"

	"github.com/seed-64e334f9/notification-gateway/store/schema"
)

// attach puts the capture trigger on the CRM's table.
func attach(ctx context.Context, args []string, stdout, _ io.Writer) error {
	fs := flag.NewFlagSet("attach", flag.ContinueOnError)
	user := fs.String("user-column", "user_id", "the `COLUMN` that names the recipient")
	id := fs.String("id-column", "id", "the `COLUMN` that names the notification")
	printed := printFlags(fs)
	rest, err := parseFlags(fs, "gateway attach TABLE [--user-column user_id] [--id-column id] [--print [--no-transaction]]", args, 1, stdout)
	if err != nil {
		return err
	}
	options := schema.AttachOptions{Table: rest[0], UserColumn: *user, IDColumn: *id}
	how, err := printed.options(0)
	if err != nil {
		return err
	}
	if how != nil {
		_, err := io.WriteString(stdout, schema.AttachScript(options, *how))
		return err
	}
	c, err := databaseConfig()
	if err != nil {
		return err
	}
	warnings, err := schema.Attach(ctx, c.DatabaseURL, options)
	if err != nil {
		return err
	}
	for _, w := range warnings {
		fmt.Fprintln(stdout, "warning:", w)
	}
	fmt.Fprintf(stdout, "attached to %s\n", rest[0])
	return nil
}

// detach takes the capture trigger off.
func detach(ctx context.Context, args []string, stdout, _ io.Writer) error {
	rest, err := parseFlags(flag.NewFlagSet("detach", flag.ContinueOnError), "gateway detach TABLE", args, 1, stdout)
	if err != nil {
		return err
	}
	c, err := databaseConfig()
	if err != nil {
		return err
	}
	had, err := schema.Detach(ctx, c.DatabaseURL, rest[0])
	if err != nil {
		return err
	}
	if had {
		fmt.Fprintf(stdout, "detached from %s\n", rest[0])
	} else {
		fmt.Fprintf(stdout, "%s had no trigger of ours\n", rest[0])
	}
	return nil
}
