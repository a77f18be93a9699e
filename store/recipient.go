package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/jackc/pgx/v5"
)

// ErrNoRecipient is returned when a token's subject names nobody active; the
// caller answers 403.
var ErrNoRecipient = errors.New("the token names no active recipient")

// Recipient is whom notifications are for. Numeric says that feed.user_key is
// an integer type, so that JSON shows the key as a number.
type Recipient struct {
	UserKey string
	Numeric bool
}

const recipientDeadline = 5 * time.Second

// Recipient finds whom a token's subject names: the subject itself, or through
// the view identity. Its errors are ErrNoRecipient, ErrNotReady, or that
// Postgres could not be asked.
func (s *Store) Recipient(ctx context.Context, subject string) (Recipient, error) {
	server := s.server.Load()
	if server == nil {
		return Recipient{}, ErrNotReady
	}
	r := Recipient{Numeric: isInteger(server.keyType)}
	if subject == "" || strings.ContainsFunc(subject, unicode.IsControl) {
		return Recipient{}, ErrNoRecipient
	}
	if !s.config.Lookup {
		key, ok := canonical(subject, server.keyType)
		if !ok {
			return Recipient{}, ErrNoRecipient
		}
		r.UserKey = key
		return r, nil
	}
	ctx, cancel := context.WithTimeout(ctx, recipientDeadline)
	defer cancel()
	var subjectType string
	err := s.queryRow(ctx, `SELECT format_type(a.atttypid, NULL) FROM pg_attribute a
		WHERE a.attrelid = to_regclass('notification_gateway.identity') AND a.attname = 'subject'`).Scan(&subjectType)
	if err != nil {
		return Recipient{}, fmt.Errorf("look for the view identity: %w", err)
	}
	subject, ok := canonical(subject, subjectType)
	if !ok {
		return Recipient{}, ErrNoRecipient
	}
	err = s.queryRow(ctx, "SELECT user_key::text FROM notification_gateway.identity WHERE subject = $1::text::"+subjectType, subject).Scan(&r.UserKey)
	if errors.Is(err, pgx.ErrNoRows) || isRowError(err) {
		return Recipient{}, ErrNoRecipient
	}
	if err != nil {
		return Recipient{}, fmt.Errorf("look the recipient up: %w", err)
	}
	return r, nil
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
