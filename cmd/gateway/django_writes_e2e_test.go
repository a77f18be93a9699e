//go:build e2e

package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// writes are what the CRM does to its rows.
func (d *django) writes(e *events) {
	d.Helper()
	d.shell(`
with transaction.atomic():
    note("outer").save()
    try:
        with transaction.atomic():
            note("rolled back").save()
            raise RuntimeError
    except RuntimeError:
        pass
try:
    with transaction.atomic():
        note("rolled back too").save()
        raise RuntimeError
except RuntimeError:
    pass

Notification.objects.bulk_create([note("bulk %03d." % n) for n in range(500)])
note("after the bulk").save()`)
	seen := e.until("notification", "after the bulk")
	if n := count(seen, "notification", "outer"); n != 1 {
		d.Errorf("the row of an atomic block came %d times", n)
	}
	if n := count(seen, "notification", "rolled back"); n != 0 {
		d.Errorf("%d rows that were rolled back came", n)
	}
	for n := range 500 {
		if times := count(seen, "notification", fmt.Sprintf("bulk %03d.", n)); times != 1 {
			d.Errorf("row %d of bulk_create came %d times", n, times)
		}
	}
	d.shell(`
Notification.objects.filter(title="outer").update(is_read=True)
Notification.objects.filter(title__startswith="bulk").update(is_read=True)
note("after the updates").save()`)
	seen = e.until("notification", "after the updates")
	if one, many := count(seen, "updated", `"outer"`), count(seen, "refresh", "bulk"); one != 1 || many != 1 {
		d.Errorf("update of one row: %d updated; of 500: %d refresh: %v", one, many, seen)
	}
	d.shell(`
Notification.objects.filter(title="outer").delete()
Notification.objects.filter(title__startswith="bulk").delete()
note("after the deletes").save()`)
	seen = e.until("notification", "after the deletes")
	if one, many := count(seen, "removed", `"id"`), count(seen, "refresh", "bulk"); one == 0 || many != 1 {
		d.Errorf("delete of one row: %d removed; of 500: %d refresh: %v", one, many, seen)
	}
}

// migrations are the CRM's own, with a stream open. After each a row is written by
// the model as it is then.
func (d *django) migrations(e *events) {
	d.Helper()
	title := "title"
	last := d.retype(e, "0001_initial_squashed_0002_gateway")
	for n, c := range []struct{ operation, title, want string }{
		{`migrations.AddField("notification", "urgent", models.BooleanField(default=False))`, "", `"title":"row 3"`},
		{`migrations.AlterField("notification", "title", models.TextField())`, "", `"title":"row 5"`},
		{`migrations.AlterField("notification", "metadata", models.TextField(default=""))`, "", `"title":"row 7"`},
		{`migrations.RenameField("notification", "title", "subject")`, "subject", `"title":null,"message":"row 9"`},
		{`migrations.RenameField("notification", "subject", "title")`, "title", `"title":"row 11"`},
		{`migrations.RemoveField("notification", "reminder")`, "", `"title":"row 13"`},
		{`migrations.RenameField("notification", "user", "employee")`, "", `"title":"row 15"`},
		{`migrations.AlterModelTable("notification", "crm_notification")`, "", `"title":"row 17"`},
		{`migrations.RenameModel("notification", "Notice")`, "", `"title":"row 19"`},
		{`migrations.RemoveField("notice", "updated_at")`, "", `"title":"row 21"`},
	} {
		title = cmp.Or(c.title, title)
		model, user := "Notification", "user"
		if strings.Contains(c.operation, `"employee"`) || n > 6 {
			user = "employee"
		}
		if n >= 8 {
			model = "Notice"
		}
		row := fmt.Sprintf(`migrations.RunPython(lambda apps, _: apps.get_model("crm", %q).objects.create(%s=apps.get_model("crm", "Employee").objects.get(), notification_type="x", %s="row %d", message="row %[4]d"))`,
			model, user, title, 3+2*n)
		for i, operation := range []string{c.operation, row} {
			name := fmt.Sprintf("%04d_step", 3+2*n+i)
			d.step(name, last, operation)
			last = name
		}
		d.run("python3 manage.py migrate crm")
		if seen := e.until("notification", c.want); count(seen, "reset", "") > 0 {
			d.Errorf("%s: %v", c.operation, seen)
		}
	}
}

// retype changes the type of the ID, which Postgres refuses while the view stands.
// It returns the last migration.
func (d *django) retype(e *events, after string) string {
	d.Helper()
	const operation = `migrations.AlterField("notification", "id", models.AutoField(primary_key=True))`
	d.step("0002_key", after, operation)
	if out, err := d.command("python3 manage.py migrate crm 2>&1").CombinedOutput(); err == nil || !strings.Contains(string(out), "used by a view") {
		d.Errorf("another type for the ID: %v\n%s", err, out)
	}
	d.step("0002_key", after, `migrations.RunSQL("DROP VIEW notification_gateway.feed"), `+operation+`, migrations.RunSQL(open("crm/migrations/gateway_migrate.sql").read())`)
	d.run("python3 manage.py migrate crm")
	d.shell(`note("with an ID of another type").save()`)
	if seen := e.until("notification", "with an ID of another type"); count(seen, "reset", "") > 0 {
		d.Errorf("another type for the ID: %v", seen)
	}
	return "0002_key"
}

// step writes a migration.
func (d *django) step(name, after, operations string) {
	d.Helper()
	d.write("crm/migrations/"+name+".py", fmt.Sprintf("from django.db import migrations, models\n\n\nclass Migration(migrations.Migration):\n    dependencies = [(\"crm\", %q)]\n    operations = [%s]\n", after, operations))
}

func (d *django) write(name, text string) {
	d.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o600); err != nil {
		d.Fatal(err)
	}
}
