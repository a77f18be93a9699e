package store_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store"
)

// Transaction IDs in order of their text have 1003 before 996: a bounded poll
// then takes the first rows of the wrong transactions and claims the rest.
func TestBoundedBatchesAreInOrderOfTransactionID(t *testing.T) {
	t.Parallel()
	c, _ := own(t)
	c.make(store.Config{})
	polling, release := make(chan struct{}), make(chan struct{})
	first := true
	c.run(func(store.Batch) error {
		if first {
			first = false
			close(polling)
			<-release
		}
		return nil
	})
	<-polling
	edge := uint64(1000)
	for edge < c.nextTransaction()+10 {
		edge *= 10
	}
	c.burnTo(edge - 2)
	const each, transactions = 4000, 4
	for i := range transactions {
		c.sql(strings.TrimSuffix(insertInto, "VALUES ")+"SELECT 5, 'x', '%d-' || i, 'm' FROM generate_series(1, %d) i", i, each)
	}
	close(release)
	c.next()
	got := map[string]bool{}
	for n := 0; n < each*transactions; {
		b := c.next()
		n += len(b.Entries)
		for _, e := range b.Entries {
			got[fmt.Sprint(e.XID, e.Position)] = true
		}
	}
	if len(got) != each*transactions {
		t.Errorf("%d rows came, want %d", len(got), each*transactions)
	}
}
