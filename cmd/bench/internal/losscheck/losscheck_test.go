package losscheck

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store/storetest"
	"github.com/seed-64e334f9/notification-gateway/store/workload"
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }

// roundTrip is an http.RoundTripper.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// That clients cannot connect helps nobody without why; a URL may hold a token.
func TestCheckLossSaysWhyNobodyConnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{Gateways: []string{"http://gateway/?token=hush"}, Recipients: []Recipient{{User: 5, Token: "t"}}, Clients: 2}
		r := newRun(o, &workload.Workload{}, slog.New(slog.DiscardHandler))
		for _, c := range r.clients {
			c.http = &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) { return nil, errors.New("no route") })}
		}
		_, err := r.run(t.Context())
		if want := "only 0 of 2 clients could connect and were given an id; client 2 of user 5: no route"; err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	})
}

// due is a context whose deadline has just come, and which has not noticed.
type due struct{ context.Context }

func (due) Deadline() (time.Time, bool) { return time.Now(), true }

// The end of the run is no fault of the server's.
func TestCheckLossEndsWithoutComplaint(t *testing.T) {
	load, err := workload.New(t.Context(), workload.Config{URL: storetest.CRM(t), Table: "notifications", Users: []int64{5}})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	r := newRun(Options{Terminate: time.Millisecond}, load, slog.New(slog.NewTextHandler(&log, nil)))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.terminate(due{ctx}); err != nil || log.Len() > 0 {
		t.Errorf("%v, %s", err, &log)
	}
}
