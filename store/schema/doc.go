// Package schema is what an operator runs on the database: it installs and
// upgrades the gateway's objects, applies a mapping, attaches the capture
// trigger to tables of the CRM, and checks that all of it fits together. The
// gateway itself needs none of it while it runs.
package schema
