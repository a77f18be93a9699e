package store

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed-64e334f9/notification-gateway/store/internal/pg"
	"github.com/seed-64e334f9/notification-gateway/store/internal/view"
)

// server is what is known of the server that the feed follows. It never
// changes: what is learned later makes a new one.
type server struct {
	identity
	lives      map[uint32]life // by incarnation; nil where the objects are older than the table life
	livesSince time.Time       // cursors of before it may be of a life that is not in lives
	idType     string          // SQL name of feed.id's type
	keyType    string          // SQL name of feed.user_key's type
}

// identity says which server, in which life, a connection reaches.
type identity struct {
	install     [16]byte
	incarnation uint32
}

// life is one life of the server, from its start to its end or to a crash.
type life struct {
	unlogged string    // what is not logged survives a clean restart, and neither a crash nor a promotion
	timeline int       // a promotion and a recovery to a point in time begin a new one
	xid      uint64    // a transaction of this life; later lives hand out higher transaction IDs only
	began    time.Time // when a gateway first saw it, by the server's clock
}

// serverState owns what is known of the server. The feed's goroutine learns it;
// any goroutine may read it.
type serverState struct {
	known atomic.Pointer[server]
	clock atomic.Int64 // the server's clock at the last poll, in µs
}

// Load returns what is known, nil before the feed has reached a server.
func (s *serverState) Load() *server { return s.known.Load() }

// Now is the server's clock at the last poll.
func (s *serverState) Now() time.Time { return time.UnixMicro(s.clock.Load()) }

// follow notes which server the feed follows.
func (s *serverState) follow(known *server) { s.known.Store(known) }

// polled notes the server's clock.
func (s *serverState) polled(at time.Time) { s.clock.Store(at.UnixMicro()) }

// learnTypes asks for the types of the view's keys again, and reports whether
// they are others.
func (s *serverState) learnTypes(ctx context.Context, ask queryRow) (changed bool, err error) {
	known := s.Load()
	var id, key *string
	if err := ask(ctx, "SELECT "+keyTypes()).Scan(&id, &key); err != nil {
		return false, fmt.Errorf("ask for the view's types: %w", err)
	}
	if id == nil || key == nil || *id == known.idType && *key == known.keyType {
		return false, nil
	}
	now := *known
	now.idType, now.keyType = *id, *key
	return s.known.CompareAndSwap(known, &now), nil
}

// keyTypes are the SQL names of the types of feed.id and feed.user_key.
func keyTypes() string {
	return view.KeyTypeSQL("feed", "id") + ",\n  " + view.KeyTypeSQL("feed", "user_key")
}

const (
	helloSQL = "SELECT h.install_id::text, h.incarnation FROM notification_gateway.hello() h"
	// historySQL asks for the highest transaction that the log has or had rows of,
	// and for the lives of the server.
	historySQL = "SELECT h.highest::text, h.lives::text, h.lives_since FROM notification_gateway.history() h"
	// highestSQL asks objects that have no history().
	highestSQL = "SELECT coalesce((SELECT xid FROM notification_gateway.log ORDER BY xid DESC LIMIT 1)::text, '0')"
)

// greet asks which server conn reaches, in which life, and for the highest
// transaction in its log.
func greet(ctx context.Context, conn *pgx.Conn, tuned bool) (known *server, highest uint64, err error) {
	known = &server{}
	if known.identity, err = identify(ctx, conn, tuned); err != nil {
		return nil, 0, err
	}
	if highest, err = known.readHistory(ctx, conn, tuned); err != nil {
		return nil, 0, err
	}
	var idType, keyType *string
	if err := pg.QueryRow(ctx, conn, tuned, "SELECT "+keyTypes()).Scan(&idType, &keyType); err != nil {
		return nil, 0, fmt.Errorf("ask for the view's types: %w", err)
	}
	if idType == nil || keyType == nil {
		return nil, 0, errors.New("the view notification_gateway.feed with the columns id and user_key is missing: see gateway migrate --mapping")
	}
	known.idType, known.keyType = *idType, *keyType
	return known, highest, nil
}

// identify asks which server conn reaches. A standby refuses.
func identify(ctx context.Context, conn *pgx.Conn, tuned bool) (identity, error) {
	var install, incarnation string
	if err := pg.QueryRow(ctx, conn, tuned, helloSQL).Scan(&install, &incarnation); err != nil {
		return identity{}, fmt.Errorf("greet the server: %w", err)
	}
	var id identity
	if n, err := hex.Decode(id.install[:], []byte(strings.ReplaceAll(install, "-", ""))); err != nil || n != len(id.install) {
		return identity{}, fmt.Errorf("installation ID %q is no UUID", install)
	}
	var err error
	id.incarnation, err = parseIncarnation(incarnation)
	return id, err
}

// parseIncarnation reads the part of an incarnation that cursors carry.
func parseIncarnation(text string) (uint32, error) {
	n, err := strconv.ParseUint(text[:min(8, len(text))], 16, 32)
	if err != nil {
		return 0, fmt.Errorf("incarnation: %w", err)
	}
	return uint32(n), nil
}

// readHistory asks for the lives of the server, and for the highest transaction
// in its log.
func (s *server) readHistory(ctx context.Context, conn *pgx.Conn, tuned bool) (highest uint64, err error) {
	var top string
	var lives *string
	err = pg.QueryRow(ctx, conn, tuned, historySQL).Scan(&top, &lives, &s.livesSince)
	if err == nil {
		s.lives = map[uint32]life{}
	}
	if pg.SQLState(err) == pg.UndefinedFunction { // migrate has not run yet
		err = pg.QueryRow(ctx, conn, tuned, highestSQL).Scan(&top)
	}
	if err != nil {
		return 0, fmt.Errorf("ask for the server's history: %w", err)
	}
	if lives != nil {
		if s.lives, err = parseLives(*lives); err != nil {
			return 0, err
		}
	}
	if highest, err = strconv.ParseUint(top, 10, 64); err != nil {
		return 0, fmt.Errorf("highest transaction ID: %w", err)
	}
	return highest, nil
}

// parseLives reads the lives that history() gives.
func parseLives(text string) (map[uint32]life, error) {
	var rows []struct {
		Incarnation string
		Unlogged    string
		Timeline    int
		XID         uint64  `json:"xid,string"`
		BeganAt     float64 `json:"began_at"` // seconds since 1970
	}
	if err := json.Unmarshal([]byte(text), &rows); err != nil {
		return nil, fmt.Errorf("read the server's lives: %w", err)
	}
	lives := make(map[uint32]life, len(rows))
	for _, row := range rows {
		incarnation, err := parseIncarnation(row.Incarnation)
		if err != nil {
			return nil, err
		}
		lives[incarnation] = life{unlogged: row.Unlogged, timeline: row.Timeline, xid: row.XID, began: time.UnixMicro(int64(row.BeganAt * 1e6))}
	}
	return lives, nil
}
