// Package postgres stores the control plane's state in PostgreSQL: sandboxes,
// snapshots, the hosts they are on with their capacity, and API keys.
//
// [Store] implements control.Store and the store of auth. It is the only
// package that knows pgx, SQL and SQLSTATE; the queries are in queries/*.sql
// and become package db by sqlc (see generate.go). It decides nothing: a move
// that somebody asked for is made or lost, and each of its errors is a fault.
package postgres
