package schema

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/seed-64e334f9/notification-gateway/store/internal/pg"
)

// Canary is a notification that is nobody's: it is captured as others are, goes the
// way of others, and is taken away again. Its caller closes it.
type Canary struct {
	ID         string // 32 hexadecimal digits
	SessionKey []byte // of the gateways on this database

	item string
	conn *pg.Session
}

// NewCanary connects, as the run-time role, and captures nothing yet.
func NewCanary(ctx context.Context, url string) (*Canary, error) {
	conn, err := pg.Connect(ctx, url)
	if err != nil {
		return nil, err
	}
	c := &Canary{conn: conn}
	if err := c.prepare(ctx); err != nil {
		conn.Close(ctx)
		return nil, err
	}
	return c, nil
}

func (c *Canary) prepare(ctx context.Context) error {
	if err := c.conn.QueryRow(ctx, "SELECT notification_gateway.session_key()").Scan(&c.SessionKey); err != nil {
		return fmt.Errorf("read the session key: %w", err)
	}
	feed, err := viewColumns(ctx, c.conn, "feed")
	if err != nil {
		return err
	}
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		return fmt.Errorf("draw a number: %w", err)
	}
	c.ID = hex.EncodeToString(random)
	id, _ := named(feed, "id")
	switch id.family() { // the gateway looks the item up in the view, whose type it must have
	case "integer":
		c.item = strconv.Itoa(-1 - int(random[0]))
	case "uuid":
		c.item = c.ID[:8] + "-" + c.ID[8:12] + "-" + c.ID[12:16] + "-" + c.ID[16:20] + "-" + c.ID[20:]
	default:
		c.item = c.ID
	}
	return nil
}

// Capture captures the canary, in a transaction of its own.
func (c *Canary) Capture(ctx context.Context) error {
	if _, err := c.conn.Exec(ctx, "SELECT notification_gateway.begin_canary($1::text, $2::text)", c.ID, c.item); err != nil {
		return fmt.Errorf("capture a canary: %w", err)
	}
	return nil
}

// TakeAway removes what Capture wrote.
func (c *Canary) TakeAway(ctx context.Context) error {
	if _, err := c.conn.Exec(ctx, "SELECT notification_gateway.end_canary($1::text)", c.ID); err != nil {
		return fmt.Errorf("take the canary away: %w", err)
	}
	return nil
}

// Close ends the connection.
func (c *Canary) Close(ctx context.Context) { c.conn.Close(ctx) }
