// Package storetest is the contract of control.Store as a suite of tests.
//
// Every implementation runs [Run]: the PostgreSQL store and the one in memory. A
// simulation on the store in memory proves no more than this suite checks. The
// package is never part of a product.
package storetest
