package store

import (
	"strings"
	"testing"
)

func TestType(t *testing.T) {
	for data, want := range map[string]string{
		`{"metadata":{"notification_type":"inner"},"notification_type":"outer"}`: "outer",
		`{"notification_type":7}`: "", `{}`: "", `{"notification_type":null}`: "",
	} {
		if got, ok := (Notification{Data: []byte(data)}).Type(); got != want || !ok {
			t.Errorf("%s: %q, %t, want %q", data, got, ok, want)
		}
	}
	deep := strings.Repeat("[", 10_050) + strings.Repeat("]", 10_050) // a jsonb may be; such a row reached no stream that asked for types
	if got, ok := (Notification{Data: []byte(`{"notification_type":"x","metadata":` + deep + `}`)}).Type(); ok {
		t.Errorf("of what cannot be read the type is %q", got)
	}
}
