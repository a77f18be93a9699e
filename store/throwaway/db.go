package throwaway

import (
	"context"

	"github.com/seed-64e334f9/notification-gateway/store/crmdb"
)

// DB is a throw-away database to write into, as the CRM would.
type DB = crmdb.DB

// Open makes connections to a database of a Server as they are needed. url may
// have any form that the gateway reads.
func Open(ctx context.Context, url string) (*DB, error) { return crmdb.Open(ctx, url) }
