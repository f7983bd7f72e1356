// Package e2e tests the product as its users see it: the built program, its
// servers in processes of their own, real VMs and a real PostgreSQL, reached
// through the REST API, package client and the command line only.
//
// `make test` runs it. It never reaches into the product's packages. Beside the API it
// looks only at things that an operator can see too: processes,
// namespaces, mounts, files. Each server has a data directory of its own and
// must leave nothing behind; see leftovers_test.go.
//
// WRENN_BIN names the program to test; without it, it is built from the
// source. WRENN_E2E_LARGE makes the transfers as large as the product promises.
package e2e
