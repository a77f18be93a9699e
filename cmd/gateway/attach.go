package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/seed-64e334f9/notification-gateway/store/schema"
)

// attach puts the capture trigger on the CRM's table.
func attach(ctx context.Context, args []string, stdout, _ io.Writer) error {
	fs := flag.NewFlagSet("attach", flag.ContinueOnError)
	users := fs.String("user-column", "user_id", "the `COLUMN` that names the recipient; several, separated by commas, are joined by ':'")
	id := fs.String("id-column", "id", "the `COLUMN` that names the notification")
	var o schema.AttachOptions
	fs.StringVar(&o.Prefix, "prefix", "", "put `P`: before each ID, so that the IDs of several tables do not meet")
	fs.BoolVar(&o.PrefixUser, "prefix-user", false, "and before each recipient")
	onUpdate := fs.String("on-update", "", "tell of updates that change one of these `COLUMNS`, separated by commas")
	fs.BoolVar(&o.OnDelete, "on-delete", false, "tell of deleted rows")
	fs.StringVar(&o.When, "when", "", "a row is a notification from when this `CONDITION` over NEW holds")
	fs.StringVar(&o.DueColumn, "due-column", "", "a row comes at the time in this `COLUMN`")
	fs.BoolVar(&o.Record, "record", false, "the table has a trigger of its own, which calls notification_gateway.record()")
	printed := printFlags(fs)
	rest, err := parseFlags(fs, "gateway attach TABLE [--user-column user_id] [--id-column id] [--on-update COLUMNS] [--on-delete] … [--print [--no-transaction]]", args, 1, stdout)
	if err != nil {
		return err
	}
	o.Table, o.IDColumn = rest[0], *id
	o.UserColumns, o.OnUpdate = columnList(*users), columnList(*onUpdate)
	how, err := printed.options(0)
	if err != nil {
		return err
	}
	if how != nil {
		text, err := schema.AttachScript(o, *how)
		if err != nil {
			return usageError{err}
		}
		_, err = io.WriteString(stdout, text)
		return err
	}
	c, err := databaseConfig()
	if err != nil {
		return err
	}
	warnings, err := schema.Attach(ctx, c.DatabaseURL, o)
	if err != nil {
		return err
	}
	for _, w := range warnings {
		fmt.Fprintln(stdout, "warning:", w)
	}
	fmt.Fprintf(stdout, "attached to %s\n", rest[0])
	return nil
}

// columnList splits names at commas. Spaces around a name do not count.
func columnList(text string) []string {
	var all []string
	for name := range strings.SplitSeq(text, ",") {
		if name = strings.TrimSpace(name); name != "" {
			all = append(all, name)
		}
	}
	return all
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
