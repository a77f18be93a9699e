package store

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// A line break that got through would cut an event in two, and a byte that got
// lost would break its JSON.
func FuzzLine(f *testing.F) {
	for _, seed := range []string{
		`{"a" : "b\"c\\", "d":[1, 2 ,{"e" : null}]}`, "{\r\n\t\"a\\\\\\\"\" : \"\\\\\" , \"x\": \"y z\"}", `[1]`, ` {} `, `{"a":"\u000a"}`, `"x"`, `{`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := appendLine(nil, text, false)
		var want bytes.Buffer
		object := json.Compact(&want, text) == nil && bytes.HasPrefix(want.Bytes(), []byte("{"))
		if (err == nil) != object {
			t.Fatalf("%q: %v, an object: %t", text, err, object)
		}
		if err == nil && (!bytes.Equal(got, want.Bytes()) || bytes.ContainsAny(got, "\r\n")) {
			t.Errorf("%q\n got %q\nwant %q", text, got, want.Bytes())
		}
		compact(nil, text) // whatever it is, it must come to an end
	})
}

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

// BenchmarkLine compares with the library's way on a notification as the
// reference CRM gives it.
func BenchmarkLine(b *testing.B) {
	text := []byte(`{"id" : 1, "user" : 5, "notification_type" : "task_assignment", "title" : "Task Assigned: Complete project", "message" : "Task \"Complete project\" has been assigned to you.", "lead_id" : null, "task_id" : 123, "reminder_id" : null, "metadata" : {"priority": "high", "status": "to_do", "due_date": "2024-01-15"},"task_data":{"id" : 123, "title" : "Complete project", "description" : "Finish the project documentation", "priority" : "high", "status" : "to_do", "due_date" : "2024-01-15", "due_time" : "17:00:00"},"is_read" : false, "read_at" : null, "created_at" : "2024-01-10T10:30:00Z", "updated_at" : "2024-01-10T10:30:00Z"}`)
	b.Run("line", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			if _, err := appendLine(nil, text, true); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("library", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			var out bytes.Buffer
			if err := json.Compact(&out, text); err != nil {
				b.Fatal(err)
			}
		}
	})
}
