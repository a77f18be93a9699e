//go:build e2e

package main

import (
	"context"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// tab is a page in a Chromium of its own, for which crm.example.com is a proxy of
// the test.
type tab struct {
	*testing.T
	ctx context.Context
}

func newTab(t *testing.T, f *front) tab {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Env("TMPDIR="+t.TempDir()), // it leaves a directory behind when it is killed
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disable-quic", true),
		chromedp.Flag("ignore-certificate-errors", true), chromedp.Flag("host-resolver-rules", "MAP "+proxyHost+":443 "+f.secure))
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil { // starts it, without a deadline
		t.Fatalf("start Chromium (see .ci/install): %v", err)
	}
	return tab{t, ctx}
}

func act[T any](t tab, what string, action chromedp.Action[T]) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.ctx, proxyPatience)
	defer cancel()
	v, err := chromedp.Run(ctx, action)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return v
}

func (t tab) navigate(address string) {
	t.Helper()
	act(t, address, chromedp.Navigate(address))
}

func eval[T any](t tab, expression string) T {
	t.Helper()
	return act(t, expression, chromedp.Evaluate[T](expression))
}

// do runs a statement whose value is of no interest.
func (t tab) do(statement string) {
	t.Helper()
	eval[chromedp.Void](t, "void (() => {"+statement+"})()")
}

// until waits for a JavaScript expression to become true. A page that is just
// being left has no answer.
func (t tab) until(expression string) {
	t.Helper()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for deadline := time.Now().Add(proxyPatience); ; <-look.C {
		ctx, cancel := context.WithTimeout(t.ctx, proxyPatience)
		holds, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("!!("+expression+")"))
		cancel()
		if err == nil && holds {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s; %v; the page is\n%s", proxyPatience, expression, err, eval[string](t, "document.documentElement.outerHTML"))
		}
	}
}
