package losscheck

import (
	"slices"
	"testing"

	"github.com/seed-64e334f9/notification-gateway/store/workload"
)

// A count of wrong rows that drifts from the lists would end the wait too early,
// or call a right list wrong.
func TestUnreadListCountsWhatIsWrong(t *testing.T) {
	table := []workload.Row{{ID: 1, User: 5, Unread: true}, {ID: 2, User: 5}, {ID: 3, User: 5, Unread: true}, {ID: 4, User: 7, Unread: true}}
	var l unreadList
	l.set(2, true)
	l.set(3, true)
	l.set(9, false)
	l.expect(unreadOf(table, 5))
	for _, step := range []struct {
		do   func()
		want []int64
	}{
		{func() {}, []int64{1, 2}},
		{func() { l.set(2, false); l.set(2, false) }, []int64{1}},
		{func() { l.set(4, true) }, []int64{1, 4}},
		{func() { l.set(1, true); l.set(1, true); l.set(3, false) }, []int64{3, 4}},
		{func() { l.replace(unreadOf(table, 7)) }, []int64{1, 3, 4}},
		{func() { l.replace(unreadOf(table, 5)) }, nil},
		{func() { l.set(1, false) }, []int64{1}},
	} {
		step.do()
		got := l.differences()
		slices.Sort(got)
		if !slices.Equal(got, step.want) || l.wrong != len(got) {
			t.Errorf("%v, wrong %d, want %v", got, l.wrong, step.want)
		}
	}
}
