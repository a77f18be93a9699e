// Package sql holds the database objects: numbered migrations, the functions,
// the mapping of the reference CRM, and that CRM's own tables as the demo and the
// tests load them. Package store/schema applies them.
package sql

import "embed"

// Migrations holds migrations/NNNN_name.sql, the tables and sequences, applied
// once each in the order of their numbers. A file that has been released never
// changes.
//
//go:embed migrations/*.sql
var Migrations embed.FS

// Functions holds functions/NAME.sql, one function each, which every migrate
// applies after the migrations. So a file says CREATE OR REPLACE, and what it
// says must suit every gateway that may still run. A migration drops a function
// whose arguments or result change. A release that changes a function has a
// new migration, if only an empty one: by its number an older gateway knows that
// it must not put the older function back.
//
//go:embed functions/*.sql
var Functions embed.FS

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
