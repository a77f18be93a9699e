// Package sql holds the database objects: numbered migrations, the mapping of
// the reference CRM, and that CRM's own tables as the demo and the tests load
// them. Package store applies them.
package sql

import "embed"

// Migrations holds migrations/NNNN_name.sql, applied in the order of their
// numbers. A file that has been released never changes.
//
//go:embed migrations/*.sql
var Migrations embed.FS

// MappingReferenceCRM creates the two views, feed and identity, over the
// reference CRM's tables.
//
//go:embed mappings/reference_crm.sql
var MappingReferenceCRM string

// ReferenceCRM creates the reference CRM's tables as Django makes them. It is
// for the demo and the tests only.
//
//go:embed reference_crm.sql
var ReferenceCRM string
