package schema

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// AttachOptions says what of the CRM's notification table is captured. Columns are
// named as they are, without quotes.
type AttachOptions struct {
	Table       string   // as SQL names it: notifications, crm.notifications, "Crm"."Notification"
	UserColumns []string // the recipient; several are joined by ':'
	IDColumn    string   // the notification's ID
	Prefix      string   // stands with a ':' before each ID; empty: nothing does
	PrefixUser  bool     // the prefix stands before each recipient too
	OnUpdate    []string // columns whose change is told; empty: none
	OnDelete    bool     // a deleted row is told
	When        string   // an SQL condition over NEW; empty: every row is a notification
	DueColumn   string   // the time at which a row is to come; empty: at once
	Record      bool     // the table has a trigger of its own, which calls record(): only note that
}

// validate refuses options that contradict each other. What depends on the
// database is found out there.
func (o AttachOptions) validate() error {
	capturing := o.Prefix != "" || o.PrefixUser || len(o.OnUpdate) > 0 || o.OnDelete || o.When != "" || o.DueColumn != ""
	switch {
	case o.Record && capturing:
		return errors.New("--record says that a trigger of the table's own captures its rows, so no other option goes with it")
	case len(o.UserColumns) == 0:
		return errors.New("--user-column names no column")
	case o.PrefixUser && o.Prefix == "":
		return errors.New("--prefix-user needs --prefix")
	case o.Prefix != "" && !regexp.MustCompile(`^[A-Za-z0-9_.-]{1,40}$`).MatchString(o.Prefix):
		return fmt.Errorf("--prefix %q: it may have letters, digits and _ . - alone, and at most 40 of them", o.Prefix)
	case o.PrefixUser && o.Prefix == "group":
		return errors.New("--prefix group: recipients that begin with group: are groups")
	case o.When != "" && strings.TrimSpace(o.When) == "":
		return errors.New("--when is empty")
	}
	return nil
}
