//go:build e2e

package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-64e334f9/notification-gateway/store/storetest"
)

// Two gateways behind each proxy are restarted one after the other, twice, at
// their addresses, each as soon as the other is ready again. No row may be lost,
// and no EventSource may meet a status that ends it for good: nginx, for one, counts
// a gateway that is back as failed until a request to it has ended.
func TestE2EProxyRollingRestart(t *testing.T) {
	for name, p := range proxies() {
		t.Run(name, func(t *testing.T) {
			const clients = 60
			url := storetest.CRM(t)
			environment(t, url)
			t.Setenv("GATEWAY_MAX_STREAMS_PER_USER", "1000")
			t.Setenv("GATEWAY_DRAIN", "9s") // streams are taken for a second and a half of it
			db := open(t, url)
			var public, admin [2]string
			var gateways [2]*instance
			start := func(side int) {
				t.Setenv("GATEWAY_ADDR", public[side])
				t.Setenv("GATEWAY_ADMIN_ADDR", admin[side])
				gateways[side] = serveInTest(t)
				gateways[side].readyz(t, 200)
			}
			for side := range 2 {
				public[side], admin[side] = freeAddress(t), freeAddress(t)
				start(side)
			}
			f := p.start(t, behind(crmStub(t), gateways[0], gateways[1]))
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			var reading, connecting sync.WaitGroup
			connecting.Add(clients)
			sources := make([]*eventSource, clients)
			for i := range sources {
				sources[i] = &eventSource{
					url: proxied, token: mint(t, "5"), connected: sync.OnceFunc(connecting.Done), transport: f.client(1+i%2, nil).Transport,
				}
				reading.Go(func() { sources[i].run(ctx) })
			}
			connecting.Wait()

			writing, stop := context.WithCancel(ctx)
			written := make(chan []string, 1)
			go func() {
				var titles []string
				pace := time.NewTicker(20 * time.Millisecond)
				defer pace.Stop()
				for writing.Err() == nil {
					title := fmt.Sprint("row ", len(titles))
					insertRow(t, db, title)
					titles = append(titles, title)
					<-pace.C
				}
				written <- titles
			}()
			for round := range 4 {
				if status := gateways[round%2].stop(); status != 0 {
					t.Errorf("exit status %d", status)
				}
				start(round % 2)
			}
			stop()
			titles := append(<-written, "last")
			insertRow(t, db, "last")
			reading.Wait()
			lost, broken := 0, 0
			for i, source := range sources {
				broken += source.broken
				for _, fault := range source.faults {
					t.Errorf("client %d: %s", i, fault)
				}
				for _, title := range titles {
					if !source.titles[title] {
						lost++
					}
				}
			}
			t.Logf("%d rows for %d clients, %d lost; %d streams ended", len(titles)*clients, clients, lost, broken)
			if lost > 0 || broken < clients {
				t.Errorf("%d rows were lost, %d streams ended; %s", lost, broken, strings.TrimSpace(f.logs()[:min(2000, len(f.logs()))]))
			}
		})
	}
}
