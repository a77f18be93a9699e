package main

import (
	"context"
	"fmt"
)

// person is a user of the demo: an employee of the reference CRM.
type person struct {
	ID    int    `json:"id"`
	Name  string `json:"name"`
	Role  string `json:"role"`
	login int    // auth_user.id, which is what a token names
}

var people = [2]person{{5, "Alice Archer", "Account executive", 1}, {7, "Bob Baker", "Support engineer", 2}}

const peopleSQL = `
INSERT INTO employees (id, first_name, last_name, email) VALUES
  (5, 'Alice', 'Archer', 'alice@example.com'), (7, 'Bob', 'Baker', 'bob@example.com')
ON CONFLICT DO NOTHING;
INSERT INTO auth_user (id, username, email, first_name, last_name) VALUES
  (1, 'alice@example.com', 'alice@example.com', 'Alice', 'Archer'), (2, 'bob', 'bob@example.com', 'Bob', 'Baker')
ON CONFLICT DO NOTHING;`

// The CRM's own statements: what Django would write when somebody assigns a
// task or a lead, or a reminder is due. $1 is the recipient, $2 a number that
// picks the example.
var inserts = map[string]string{
	"task": `WITH t AS (
  INSERT INTO tasks (title, description, assigned_to_id, priority, due_date, due_time)
  SELECT (ARRAY['Complete the project plan','Call back about the offer','Prepare the quarterly review','Update the contract'])[1 + $2::int % 4],
    'Assigned in the demo', $1, (ARRAY['low','medium','high'])[1 + $2::int % 3], current_date + 3, '17:00'
  RETURNING *)
INSERT INTO notifications (user_id, notification_type, title, message, task_id, metadata)
SELECT $1, 'task_assignment', 'Task Assigned: ' || title, format('Task "%s" has been assigned to you.', title), id,
  jsonb_build_object('priority', priority, 'due_date', due_date, 'due_time', due_time, 'status', status) FROM t`,
	"lead": `WITH l AS (
  INSERT INTO leads (title, first_name, last_name, company_name, email_address, contact_number, assigned_sales_staff_id)
  SELECT 'Website enquiry', (ARRAY['Ada','Grace','Edsger','Barbara'])[1 + $2::int % 4], (ARRAY['Lovelace','Hopper','Dijkstra','Liskov'])[1 + $2::int % 4],
    (ARRAY['Analytical Ltd','Compilers Inc','Semaphore BV','Abstraction GmbH'])[1 + $2::int % 4], 'hello@example.com', '+44 20 7946 0000', $1
  RETURNING *)
INSERT INTO notifications (user_id, notification_type, title, message, lead_id, metadata)
SELECT $1, 'lead_assignment', 'Lead Assigned: ' || first_name || ' ' || last_name, format('%s of %s is now your lead.', first_name || ' ' || last_name, company_name), id,
  jsonb_build_object('status', status, 'lead_type', lead_type) FROM l`,
	"reminder": `WITH t AS (
  INSERT INTO tasks (title, assigned_to_id, priority, due_date, due_time)
  SELECT (ARRAY['Send the invoice','Stand-up notes','Renew the licence'])[1 + $2::int % 3], $1, 'high', current_date, '18:30' RETURNING *),
r AS (INSERT INTO task_reminders (task_id, remind_at, is_sent) SELECT id, now(), true FROM t RETURNING *)
INSERT INTO notifications (user_id, notification_type, title, message, task_id, reminder_id)
SELECT $1, 'task_reminder', 'Reminder: ' || t.title, format('"%s" is due today.', t.title), t.id, r.id FROM t, r`,
}

// insert writes one notification as the CRM would, and returns its ID.
func (s *stack) insert(ctx context.Context, user int, kind string, example int) (id int, err error) {
	statement, ok := inserts[kind]
	if !ok {
		return 0, fmt.Errorf("there is no kind %q", kind)
	}
	err = s.crm.QueryRow(ctx, []any{&id}, statement+" RETURNING id", user, example)
	return id, err
}

// markRead is what the CRM's own button does.
func (s *stack) markRead(ctx context.Context, user, id int) error {
	return s.crm.Exec(ctx, "UPDATE notifications SET is_read = true, read_at = now(), updated_at = now() WHERE user_id = $1 AND id = $2 AND NOT is_read", user, id)
}
