package throwaway

import (
	"context"

	"github.com/seed-64e334f9/notification-gateway/store/crmdb"
)

// DB is a throw-away database to write into, as the CRM would.
type DB = crmdb.DB

// Open connects to a database of a Server.
func Open(ctx context.Context, url string) (*DB, error) { return crmdb.Open(ctx, url) }
