package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/seed-64e334f9/notification-gateway/store/internal/pg"
	"github.com/seed-64e334f9/notification-gateway/store/internal/view"
)

// ErrNoRecipient is returned when a token's subject names nobody active; the
// caller answers 403.
var ErrNoRecipient = errors.New("the token names no active recipient")

// ErrSeveralRecipients is the ErrNoRecipient of a subject for which the view
// identity has several rows: none of them is picked.
var ErrSeveralRecipients = fmt.Errorf("%w: the view identity has several rows for its subject", ErrNoRecipient)

// RecipientMode says where a token's recipient comes from.
type RecipientMode string

const (
	// RecipientAuto is RecipientLookup once the view identity has been seen, and
	// RecipientClaim before. It never goes back: a view that is missing for a while
	// must not give a login's stream to the employee with the same number.
	RecipientAuto RecipientMode = "auto"
	// RecipientClaim takes the token's subject for the recipient.
	RecipientClaim RecipientMode = "claim"
	// RecipientLookup finds the recipient in the view identity.
	RecipientLookup RecipientMode = "lookup"
)

// Recipient is whom notifications are for. Numeric says that feed.user_key is
// an integer type, so that JSON shows the key as a number. Subject is what the
// view identity was asked for, or will be once it is there, as Postgres writes it;
// empty where it never is.
type Recipient struct {
	UserKey string
	Subject string
	Numeric bool
	Also    string // further keys whose rows it gets, each followed by a line break; see AlsoKeys
}

// AlsoKeys are the keys that the view identity gives beside the recipient's own.
func (r Recipient) AlsoKeys() []string {
	var keys []string
	for key := range strings.SplitSeq(r.Also, "\n") {
		if key != "" {
			keys = append(keys, key)
		}
	}
	return keys
}

// alsoOf reads the column also of the view identity, as JSON; nil where there is no
// such column. A key with a line break in it is left out: no row is captured under
// one that a stream could ask for.
func alsoOf(column *string) (string, error) {
	if column == nil {
		return "", nil
	}
	var keys []*string
	if err := json.Unmarshal([]byte(*column), &keys); err != nil {
		return "", fmt.Errorf("the column also of the view identity must be text[]: %w", err)
	}
	var b strings.Builder
	for _, key := range keys {
		if key != nil && *key != "" && !strings.Contains(*key, "\n") {
			b.WriteString(*key + "\n")
		}
	}
	return b.String(), nil
}

const recipientDeadline = 5 * time.Second

// Recipient finds whom a token's subject names: the subject itself, or through
// the view identity, in one query; a RecipientCache remembers it. Its errors are
// ErrNoRecipient, ErrNotReady, or that Postgres could not be asked.
func (s *Store) Recipient(ctx context.Context, subject string) (Recipient, error) {
	server := s.server.Load()
	if server == nil {
		return Recipient{}, ErrNotReady
	}
	r, err := find(ctx, s.queryRow, server.keyType, s.looksUp(), subject)
	if errors.Is(err, ErrSeveralRecipients) {
		s.config.Logger.Warn("a token's subject is refused: the view identity has several rows for it",
			"see", "SELECT subject FROM notification_gateway.identity GROUP BY subject HAVING count(*) > 1")
	}
	if err == nil && !s.looksUp() && s.config.Recipients != RecipientClaim {
		r.Subject = r.UserKey // it is compared with the view once that is there
	}
	return r, err
}

// FindRecipient is Recipient for an administrator's command: with a connection
// of its own, and without a feed.
func FindRecipient(ctx context.Context, url string, mode RecipientMode, subject string) (Recipient, error) {
	conn, err := pg.Connect(ctx, url)
	if err != nil {
		return Recipient{}, err
	}
	defer conn.Close(ctx)
	var keyType *string
	var there bool
	if err := conn.QueryRow(ctx, "SELECT "+view.KeyTypeSQL("feed", "user_key")+", "+identityThereSQL).Scan(&keyType, &there); err != nil {
		return Recipient{}, fmt.Errorf("look for the view feed: %w", err)
	}
	if keyType == nil {
		return Recipient{}, errors.New("look for the view feed: it is missing")
	}
	return find(ctx, conn.QueryRow, *keyType, mode == RecipientLookup || mode != RecipientClaim && there, subject)
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
		if !ok || isReserved(key) {
			return Recipient{}, ErrNoRecipient
		}
		r.UserKey = key
		return r, nil
	}
	ctx, cancel := context.WithTimeout(ctx, recipientDeadline)
	defer cancel()
	var found, userKey, subjectType, also *string
	var rows int
	err := ask(ctx, identitySQL(), subject).Scan(&found, &userKey, &subjectType, &rows, &also)
	switch {
	case pg.IsDataError(err):
		return Recipient{}, ErrNoRecipient
	case err != nil:
		return Recipient{}, fmt.Errorf("look the recipient up: %w", err)
	case rows > 1:
		return Recipient{}, ErrSeveralRecipients
	case found == nil || userKey == nil || isReserved(*userKey):
		return Recipient{}, ErrNoRecipient
	}
	if _, ok := canonical(subject, *subjectType); !ok { // Postgres also reads 0x5 and 5_0 as integers
		return Recipient{}, ErrNoRecipient
	}
	r.Subject, r.UserKey = *found, *userKey
	r.Also, err = alsoOf(also)
	return r, err
}

// isReserved reports whether a key is no recipient's: log rows without a user have
// the empty one, and the others stand for everybody and for groups.
func isReserved(key string) bool {
	return key == "" || key == "*" || strings.HasPrefix(key, "group:")
}

const (
	identityThereSQL = `to_regclass('notification_gateway.identity') IS NOT NULL`
	// identitiesSQL asks for the recipients of many subjects; its parameter is as that
	// of identitySQL.
	identitiesSQL = `SELECT subject::text, coalesce(user_key::text, ''), to_jsonb(i) ->> 'also' FROM notification_gateway.identity i WHERE subject = ANY ($1)`
)

// identitySQL asks for the recipient of a subject, and whether there are several.
// Its parameter takes the type of the column subject, whatever it is, so that its
// index answers: a cast of the column would read the whole table. The column also
// is optional, so it is looked up by name when the row is read.
func identitySQL() string {
	return `SELECT min(i.subject::text), min(i.user_key::text), coalesce(` + view.KeyTypeSQL("identity", "subject") + `, ''), count(*), min(i.also)
FROM (SELECT subject, user_key, to_jsonb(v) ->> 'also' AS also FROM notification_gateway.identity v WHERE subject = $1 LIMIT 2) i`
}

// check returns those of the recipients, found by Recipient, that the view identity
// does not give any more: the subject is gone, has several rows, or names somebody
// else by now. Of the others it returns those that have other further keys by now. It
// asks once for all of them. Before the view is there it returns none.
func (s *Store) check(ctx context.Context, recipients []Recipient) (inactive, changed []Recipient, err error) {
	if !s.looksUp() {
		return nil, nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, recipientDeadline)
	defer cancel()
	subjects := make([]string, len(recipients))
	for i, r := range recipients {
		subjects[i] = r.Subject
	}
	// As the text of an array: its type is the column's, which only Postgres knows.
	array, err := pgtype.NewMap().Encode(pgtype.TextArrayOID, pgtype.TextFormatCode, subjects, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("encode the subjects: %w", err)
	}
	rows, err := s.query(ctx, identitiesSQL, string(array))
	if err != nil {
		return nil, nil, fmt.Errorf("look the recipients up: %w", err)
	}
	active := make(map[string][]Recipient, len(recipients)) // by subject
	var subject, userKey string
	var also *string
	if _, err := pgx.ForEachRow(rows, []any{&subject, &userKey, &also}, func() error {
		keys, err := alsoOf(also)
		active[subject] = append(active[subject], Recipient{UserKey: userKey, Also: keys})
		return err
	}); err != nil {
		return nil, nil, fmt.Errorf("look the recipients up: %w", err)
	}
	for _, r := range recipients {
		switch now := active[r.Subject]; {
		case len(now) != 1 || now[0].UserKey != r.UserKey:
			inactive = append(inactive, r)
		case now[0].Also != r.Also:
			changed = append(changed, r)
		}
	}
	return inactive, changed, nil
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
