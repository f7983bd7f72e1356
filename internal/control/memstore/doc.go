// Package memstore is the control plane's store in memory, for tests.
//
// It keeps to the contract of control.Store as the PostgreSQL store does; the
// suite of package storetest runs on both. It also does in virtual time something
// that no test can ask of a real database: [Store.Crash] loses a suffix of
// the commits that did not wait for the disk and ends every session, as a crash
// of PostgreSQL does. The simulation of the control plane calls it. It is never
// part of a product.
//
// The time of its rows is that of a clock which its caller may set.
package memstore
