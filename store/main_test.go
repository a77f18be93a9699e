package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store"
	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }

// taker takes batches for a gateway with a stream.
type taker func(context.Context, store.Batch) error

func (t taker) Deliver(ctx context.Context, b store.Batch) error { return t(ctx, b) }
func (t taker) Streams() int                                     { return 1 }

const insertInto = "INSERT INTO notifications (user_id, notification_type, title, message) VALUES "

// insert is the statement that inserts a notification with a title.
func insert(user int, title string) string {
	return fmt.Sprintf(insertInto+"(%d, 'x', '%s', 'm');", user, title)
}

func title(n store.Notification) string {
	switch {
	case n.Err != nil:
		return "error"
	case n.Data == nil:
		return "gone"
	}
	var d struct{ Title string }
	if err := json.Unmarshal(n.Data, &d); err != nil {
		return "broken"
	}
	return d.Title
}

var errRefused = errors.New("refused")
