package workload_test

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store/storetest"
	"github.com/seed-64e334f9/notification-gateway/store/throwaway"
	"github.com/seed-64e334f9/notification-gateway/store/workload"
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }

// until writes until what is wanted has happened, asking after a short while
// each time.
func until(t *testing.T, w *workload.Workload, enough func(workload.Stats) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	var writing sync.WaitGroup
	writing.Go(func() { w.Run(ctx) })
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !enough(w.Stats()) && ctx.Err() == nil {
		<-tick.C
	}
	if ctx.Err() != nil {
		t.Errorf("it did not come that far: %+v", w.Stats())
	}
	cancel()
	writing.Wait()
	if err := w.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// held reads the table by number and sees that everything acknowledged is there.
func held(t *testing.T, w *workload.Workload) map[int64]workload.Row {
	t.Helper()
	rows, err := w.Rows(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	byNumber := map[int64]workload.Row{}
	for _, r := range rows {
		byNumber[r.Number] = r
	}
	for number := range w.Acknowledged() {
		if _, there := byNumber[number]; !there {
			t.Errorf("number %d was acknowledged and is not in the table", number)
		}
	}
	return byNumber
}

// What is called acknowledged must be what the table holds, or the checker
// accuses the wrong one.
func TestAcknowledgedIsWhatTheTableHolds(t *testing.T) {
	t.Parallel()
	w, err := workload.New(t.Context(), workload.Config{
		URL: storetest.CRM(t), Table: "public.notifications", Users: []int64{5, 7}, Writers: 8, Pause: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	until(t, w, func(s workload.Stats) bool { return s.Acknowledged > 1000 && s.RolledBack > 100 })
	rows := held(t, w)
	if s := w.Stats(); len(rows) != s.Acknowledged || s.Failures+s.Ambiguous > 0 {
		t.Errorf("%d rows, %+v", len(rows), s)
	}
	users := map[int64]int{}
	for _, r := range rows {
		users[r.User]++
	}
	mine, err := w.Rows(t.Context(), 7)
	if err != nil || len(mine) != users[7] || users[5]+users[7] != len(rows) || users[5] == 0 {
		t.Errorf("%d rows of user 7, %v, want %v", len(mine), err, users)
	}
	if err := w.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, err := w.Rows(t.Context(), 0); err != nil || len(left) > 0 {
		t.Errorf("%d rows are left: %v", len(left), err)
	}
}

// Writers must outlive terminated sessions and a crash of the server, and
// still know what was acknowledged.
func TestSurvivesFaults(t *testing.T) {
	t.Parallel()
	server, url := storetest.OwnCRM(t)
	w, err := workload.New(t.Context(), workload.Config{URL: url, Table: "notifications", Users: []int64{5}, Writers: 8, Rate: 2000, Pause: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	var faults sync.WaitGroup
	faults.Go(func() {
		for n := 0; n < 5; {
			ended, err := w.Terminate(t.Context(), "nobody")
			if err != nil {
				t.Error(err)
				return
			}
			n += ended
		}
		if err := errors.Join(server.Crash(), server.Restart(t.Context())); err != nil {
			t.Error(err)
		}
	})
	until(t, w, func(s workload.Stats) bool { return s.Acknowledged > 500 && s.Failures > 5 })
	faults.Wait()
	until(t, w, func(s workload.Stats) bool { return s.Acknowledged > 1000 })
	held(t, w)
}

// A role that may not terminate must be told so, not tried again for ever.
func TestTerminateIsForbidden(t *testing.T) {
	t.Parallel()
	_, url := storetest.OwnCRM(t)
	db, err := throwaway.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	if err := db.Exec(t.Context(), `CREATE ROLE crm LOGIN; GRANT INSERT, SELECT, DELETE ON notifications TO crm; GRANT SELECT ON employees TO crm;
		SET application_name = 'a gateway'`); err != nil {
		t.Fatal(err)
	}
	w, err := workload.New(t.Context(), workload.Config{URL: url + "&user=crm", Table: "notifications", Users: []int64{5}, Writers: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Terminate(t.Context(), "a gateway"); !errors.Is(err, workload.ErrForbidden) {
		t.Errorf("got %v", err)
	}
}
