package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/seed-64e334f9/notification-gateway/store/internal/pg"
)

// ErrNoRecipient is returned when a token's subject names nobody active; the
// caller answers 403.
var ErrNoRecipient = errors.New("the token names no active recipient")

// Recipient is whom notifications are for. Numeric says that feed.user_key is
// an integer type, so that JSON shows the key as a number. Subject is what the
// view identity was asked for, as Postgres writes it; empty without a look-up.
type Recipient struct {
	UserKey string
	Subject string
	Numeric bool
}

const recipientDeadline = 5 * time.Second

// Recipient finds whom a token's subject names: the subject itself, or through
// the view identity, in one query; a Directory remembers it. Its errors are
// ErrNoRecipient, ErrNotReady, or that Postgres could not be asked.
func (s *Store) Recipient(ctx context.Context, subject string) (Recipient, error) {
	server := s.server.Load()
	if server == nil {
		return Recipient{}, ErrNotReady
	}
	return find(ctx, s.queryRow, server.keyType, s.config.Lookup, subject)
}

// FindRecipient is Recipient for an administrator's command: with a connection
// of its own, and without a feed.
func FindRecipient(ctx context.Context, url string, lookup bool, subject string) (Recipient, error) {
	conn, err := pg.Connect(ctx, url)
	if err != nil {
		return Recipient{}, err
	}
	defer conn.Close(ctx)
	var keyType string
	if err := conn.QueryRow(ctx, keyTypeSQL).Scan(&keyType); err != nil {
		return Recipient{}, fmt.Errorf("look for the view feed: %w", err)
	}
	return find(ctx, conn.QueryRow, keyType, lookup, subject)
}

// queryRow asks a pool or one connection.
type queryRow func(ctx context.Context, sql string, args ...any) pgx.Row

func find(ctx context.Context, ask queryRow, keyType string, lookup bool, subject string) (Recipient, error) {
	r := Recipient{Numeric: isInteger(keyType)}
	if subject == "" || strings.ContainsFunc(subject, unicode.IsControl) {
		return Recipient{}, ErrNoRecipient
	}
	if !lookup {
		key, ok := canonical(subject, keyType)
		if !ok {
			return Recipient{}, ErrNoRecipient
		}
		r.UserKey = key
		return r, nil
	}
	ctx, cancel := context.WithTimeout(ctx, recipientDeadline)
	defer cancel()
	var subjectType string
	err := ask(ctx, identitySQL, subject).Scan(&r.Subject, &r.UserKey, &subjectType)
	if errors.Is(err, pgx.ErrNoRows) || pg.IsDataError(err) {
		return Recipient{}, ErrNoRecipient
	}
	if err != nil {
		return Recipient{}, fmt.Errorf("look the recipient up: %w", err)
	}
	if _, ok := canonical(subject, subjectType); !ok { // Postgres also reads 0x5 and 5_0 as integers
		return Recipient{}, ErrNoRecipient
	}
	return r, nil
}

// The parameters take the type of the column subject, whatever it is, so that
// its index answers: a cast of the column would read the whole table.
const (
	keyTypeSQL = `SELECT format_type(a.atttypid, NULL) FROM pg_attribute a
		WHERE a.attrelid = to_regclass('notification_gateway.feed') AND a.attname = 'user_key'`
	identitySQL = `SELECT subject::text, user_key::text, pg_typeof(subject)::text
		FROM notification_gateway.identity WHERE subject = $1`
	identitiesSQL = `SELECT subject::text, user_key::text FROM notification_gateway.identity WHERE subject = ANY ($1)`
)

// inactive returns those of the recipients, found by Recipient through the
// view identity, that it does not give any more: the subject is gone, or names
// somebody else by now. It asks once for all of them.
func (s *Store) inactive(ctx context.Context, recipients []Recipient) ([]Recipient, error) {
	ctx, cancel := context.WithTimeout(ctx, recipientDeadline)
	defer cancel()
	subjects := make([]string, len(recipients))
	for i, r := range recipients {
		subjects[i] = r.Subject
	}
	// As the text of an array: its type is the column's, which only Postgres knows.
	array, err := pgtype.NewMap().Encode(pgtype.TextArrayOID, pgtype.TextFormatCode, subjects, nil)
	if err != nil {
		return nil, fmt.Errorf("encode the subjects: %w", err)
	}
	rows, err := s.query(ctx, identitiesSQL, string(array))
	if err != nil {
		return nil, fmt.Errorf("look the recipients up: %w", err)
	}
	type pair struct{ subject, userKey string }
	active := make(map[pair]bool, len(recipients))
	var p pair
	if _, err := pgx.ForEachRow(rows, []any{&p.subject, &p.userKey}, func() error {
		active[p] = true
		return nil
	}); err != nil {
		return nil, fmt.Errorf("look the recipients up: %w", err)
	}
	return slices.DeleteFunc(slices.Clone(recipients), func(r Recipient) bool { return active[pair{r.Subject, r.UserKey}] }), nil
}

// canonical writes a key as Postgres would print it, so that the text in the
// log and the text in a token compare equal. It refuses what the key's type
// cannot hold.
func canonical(key, sqlType string) (string, bool) {
	bits := map[string]int{"smallint": 16, "integer": 32, "bigint": 64}[sqlType]
	switch {
	case bits > 0:
		n, err := strconv.ParseInt(key, 10, bits)
		return strconv.FormatInt(n, 10), err == nil
	case sqlType == "uuid":
		hex := strings.ToLower(strings.ReplaceAll(strings.Trim(key, "{}"), "-", ""))
		if len(hex) != 32 || strings.Trim(hex, "0123456789abcdef") != "" {
			return "", false
		}
		return hex[:8] + "-" + hex[8:12] + "-" + hex[12:16] + "-" + hex[16:20] + "-" + hex[20:], true
	}
	return key, true
}

func isInteger(sqlType string) bool {
	return sqlType == "smallint" || sqlType == "integer" || sqlType == "bigint"
}
