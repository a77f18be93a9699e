package view

import (
	"bytes"
	"encoding/json"
	"testing"
)

// A line break that got through would cut an event in two, and a byte that got
// lost would break its JSON.
func FuzzCompact(f *testing.F) {
	for _, seed := range []string{
		`{"a" : "b\"c\\", "d":[1, 2 ,{"e" : null}]}`, "{\r\n\t\"a\\\\\\\"\" : \"\\\\\" , \"x\": \"y z\"}", `[1]`, ` {} `, `{"a":"\u000a"}`, `"x"`, `{`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := AppendCompact(nil, text, false)
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

// BenchmarkCompact compares with the library's way on a notification as the
// reference CRM gives it.
func BenchmarkCompact(b *testing.B) {
	text := []byte(`{"id" : 1, "user" : 5, "notification_type" : "task_assignment", "title" : "Task Assigned: Complete project", "message" : "Task \"Complete project\" has been assigned to you.", "lead_id" : null, "task_id" : 123, "reminder_id" : null, "metadata" : {"priority": "high", "status": "to_do", "due_date": "2024-01-15"},"task_data":{"id" : 123, "title" : "Complete project", "description" : "Finish the project documentation", "priority" : "high", "status" : "to_do", "due_date" : "2024-01-15", "due_time" : "17:00:00"},"is_read" : false, "read_at" : null, "created_at" : "2024-01-10T10:30:00Z", "updated_at" : "2024-01-10T10:30:00Z"}`)
	b.Run("compact", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			if _, err := AppendCompact(nil, text, true); err != nil {
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
