package throwaway

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Listener is one bare connection that listens on a channel and keeps its
// session. It is for one goroutine.
type Listener struct{ conn *pgx.Conn }

// Listen connects to a database of a Server and listens.
func Listen(ctx context.Context, url, channel string) (*Listener, error) {
	conn, err := connect(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
		conn.Close(context.WithoutCancel(ctx)) // the first error is the one to show
		return nil, fmt.Errorf("listen %q: %w", channel, err)
	}
	return &Listener{conn}, nil
}

// Wait returns the next notification's payload.
func (l *Listener) Wait(ctx context.Context) (string, error) {
	n, err := l.conn.WaitForNotification(ctx)
	if err != nil {
		return "", fmt.Errorf("wait for a notification: %w", err)
	}
	return n.Payload, nil
}

// Exec runs a statement in the listener's session.
func (l *Listener) Exec(ctx context.Context, statement string) error {
	_, err := l.conn.Exec(ctx, statement)
	return err
}

// Close ends the connection.
func (l *Listener) Close(ctx context.Context) error { return l.conn.Close(ctx) }
