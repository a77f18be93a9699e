package pg

import (
	"crypto/tls"
	"slices"
	"strings"
	"testing"
)

// A CRM's DATABASE_URL is written for its own library. The driver sent what is
// meant for libpq to the server, which refused it, and took a scheme that it did
// not know for no host, and so for the local socket.
func TestURLsOfOtherLibraries(t *testing.T) {
	t.Setenv("PGHOST", "")
	for text, want := range map[string]struct {
		host    string
		dropped []string
		says    string
	}{
		"postgres://u@db/crm":                                                 {host: "db"},
		"postgis://u@db/crm":                                                  {host: "db"},
		"postgresql+psycopg2://u@db/crm":                                      {host: "db"},
		" postgresql+asyncpg://u@db/crm\n":                                    {host: "db"},
		"host=db user=u dbname=crm keepalives_idle=30":                        {host: "db", dropped: []string{"keepalives_idle"}},
		"postgres://u@db/crm?gssencmode=disable&keepalives=1":                 {host: "db", dropped: []string{"gssencmode", "keepalives"}},
		"postgres://u@db/crm?pgbouncer=true&schema=public&connection_limit=5": {host: "db", dropped: []string{"connection_limit", "pgbouncer", "schema"}},
		"postgres://u@db/crm?sslmode=disable&sslcrl=/x&requirepeer=p":         {host: "db", dropped: []string{"requirepeer", "sslcrl"}},
		"postgres://u@db/crm?pool_max_conns=3":                                {host: "db"},
		"postgres://u@db/crm?fallback_application_name=x":                     {host: "db"},
		"postgres://u@db/crm?sslmode=require&sslcrl=/x":                       {says: "parameter sslcrl"},
		"postgres://u@db/crm?gssencmode=require":                              {says: "parameter gssencmode"},
		"postgres://u@db/crm?ssl_min_protocol_version=SSLv3":                  {says: "must be TLSv1.2"},
		"mysql://u:secret@db/crm":                                             {says: "scheme that is not Postgres's"},
		"crm":                                                                 {says: "cannot be parsed"},
		"db.example.com:5432/crm":                                             {says: "cannot be parsed"},
		"postgres://u:secret@db:x/crm":                                        {says: "cannot be parsed"},
	} {
		c, dropped, err := ParseURL(text)
		if want.says != "" {
			if err == nil || !strings.Contains(err.Error(), want.says) || strings.Contains(err.Error(), "cret") {
				t.Errorf("%s: %v, want %q", text, err, want.says)
			}
			continue
		}
		if err != nil || c.Host != want.host || !slices.Equal(dropped, want.dropped) {
			t.Errorf("%s: dropped %q, %v, config %+v", text, dropped, err, c)
		}
		if pool, err := ParsePoolURL(text); err != nil || pool.ConnConfig.Host != want.host || len(pool.ConnConfig.RuntimeParams) != len(c.RuntimeParams) {
			t.Errorf("%s: of a pool %v", text, err)
		}
	}
	c, _, err := ParseURL("postgres://u@db/crm?sslmode=require&ssl_min_protocol_version=TLSv1.3&hostaddr=10.0.0.7")
	if err != nil || c.TLSConfig.MinVersion != tls.VersionTLS13 {
		t.Errorf("TLS 1.3 is not the least, %v", err)
	}
	if at, err := c.LookupFunc(t.Context(), "db"); err != nil || !slices.Equal(at, []string{"10.0.0.7"}) || c.Host != "db" {
		t.Errorf("hostaddr is %v of %s, %v", at, c.Host, err)
	}
}
